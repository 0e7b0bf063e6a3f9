"""Verdicts as a corpus that `train.py` takes as it is, and as a table of labels without sound.

`verdicts.csv` holds a row for each settled case, without sound and without names. `manifest.csv` and `audio/` hold those whose household
consented to training with the original, by the record that its device sent last. A group is one device, so that no home stands in two
splits; it is named by a keyed hash that says nothing outside.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import soundfile
from sqlalchemy import select

from earmark_edge.event import Event, ScoreTrack, WireError
from earmark_review import audit
from earmark_review.cases import CaseState, Verdict
from earmark_review.errors import BlobMissingError, KeyGoneError, SettingsError, SoundError, UnsealError
from earmark_review.evidence import held_at
from earmark_review.media import ORIGINAL_TIER
from earmark_review.service import Service
from earmark_review.sound import read_sound
from earmark_review.store.caseload import CaseFile, case_file
from earmark_review.store.decisions import trains, verdicts_on
from earmark_review.store.schema import cases, events, golden_cases

SOURCE = "earmark-review"
_BACKGROUND = "background"
_OWN_LABEL = frozenset({Verdict.DISTRESS, Verdict.PLAY})
"""Verdicts that confirm the sound, whoever made it and why."""
_OTHER = MappingProxyType({"laughter": "laughter", "speech": "speech", "other": "other_human"})
_SPLITS = ((0.8, "train"), (0.9, "val"), (1.0, "test"))
_TABLE = ("case", "group", "verdict", "label", "flagged", "peak_score", "onset_s", "offset_s", "looks", "model_sha256", "decided_at")
_MANIFEST = (
    "path",
    "label",
    "split",
    "source",
    "group",
    "duration_s",
    "original_label",
    "label_confidence",
    "licence_tier",
    "onset_s",
    "offset_s",
)
_NOT_OPENED = (BlobMissingError, KeyGoneError, UnsealError, SoundError)


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export: rows of the table, clips of the manifest, and clips that could not be opened."""

    rows: int
    clips: int
    missing: int


@dataclass(frozen=True, slots=True)
class _Settled:
    file: CaseFile
    outcome: Verdict
    device_id: int
    group: str
    span_s: tuple[float, float]
    looks: int
    decided_at: str
    may_train: bool

    @property
    def label(self) -> str:
        """The manifest label; "" where nobody could tell."""
        flagged = self.file.line.label
        if self.outcome in _OWN_LABEL:
            return _OTHER.get(flagged, flagged)
        return "" if self.outcome in {Verdict.CANNOT_TELL, Verdict.ESCALATE} else _BACKGROUND


def export(service: Service, out: Path) -> Exported:
    """Write the corpus into `out`, a new folder; the log has it in writing before the first clip is opened.

    Raises:
        SettingsError: the folder is there already, or cannot be made.
    """
    try:
        (out / "audio").mkdir(parents=True)
    except OSError as error:
        msg = f"{out}: cannot be made as a new folder for the export ({error.strerror}); give another"
        raise SettingsError(msg) from error
    settled = list(_settled(service))
    with service.database.writing() as conn:
        detail = {"rows": len(settled), "clips": sum(one.may_train for one in settled)}
        audit.append(conn, service.now(), audit.OPERATOR, audit.Action.EXPORT_MADE, "export", detail)
    _write(out / "verdicts.csv", _TABLE, [_table_row(one) for one in settled])
    wanted = [one for one in settled if one.may_train and one.label]
    clips = [row for row in (_clip(service, one, out) for one in wanted) if row]
    _write(out / "manifest.csv", _MANIFEST, clips)
    return Exported(len(settled), len(clips), len(wanted) - len(clips))


def _settled(service: Service) -> Iterator[_Settled]:
    now = service.now()
    with service.database.reading() as conn:
        golden = cases.c.case_id.in_(select(golden_cases.c.case_id))
        closed = cases.c.state.in_([str(CaseState.FINAL), str(CaseState.ESCALATED), str(CaseState.SHREDDED)])
        query = select(cases.c.case_id, cases.c.state, cases.c.outcome, events.c.device_id, events.c.payload)
        query = query.join(events, events.c.event_row == cases.c.event_row).where(closed, cases.c.outcome.is_not(None), ~golden)
        for row in conn.execute(query.order_by(cases.c.closed_at, cases.c.case_id)).all():
            given = verdicts_on(conn, row.case_id)
            event = Event.from_bytes(row.payload)
            spans = [one.span_s for one in given if one.span_s is not None]
            is_kept = row.state == str(CaseState.FINAL) and trains(conn, row.device_id, event.consent_id, now)
            yield _Settled(
                case_file(conn, row.case_id, now),
                Verdict(row.outcome),
                row.device_id,
                _group(service, row.device_id),
                spans[-1] if spans else (event.onset_s, event.offset_s),
                len(given),
                given[-1].decided_at.isoformat(),
                is_kept,
            )


def _group(service: Service, device_id: int) -> str:
    return hmac.new(service.identity.signing_key, f"export group {device_id}".encode(), hashlib.sha256).hexdigest()[:16]


def _table_row(one: _Settled) -> Mapping[str, object]:
    line, event = one.file.line, one.file.event
    return {
        "case": line.case_id,
        "group": one.group,
        "verdict": str(one.outcome),
        "label": one.label,
        "flagged": line.label,
        "peak_score": line.peak_score,
        "onset_s": round(one.span_s[0], 3),
        "offset_s": round(one.span_s[1], 3),
        "looks": one.looks,
        "model_sha256": event.model_sha256,
        "decided_at": one.decided_at,
    }


def _clip(service: Service, one: _Settled, out: Path) -> Mapping[str, object] | None:
    """Write a clip as FLAC and return its manifest row; None where it cannot be opened."""
    declared = held_at(one.file, ORIGINAL_TIER)
    if declared is None:
        return None
    try:
        sound = read_sound(io.BytesIO(service.decryptor.open_consented(one.file, declared)), service.settings.clip_seconds_cap)
        start_s = _start(service, one.file)
    except _NOT_OPENED:
        return None
    path = f"audio/{one.file.line.case_id}.flac"
    soundfile.write(out / path, sound.samples, sound.rate_hz, subtype="PCM_16")
    onset_s, offset_s = (min(max(0.0, at_s - start_s), sound.duration_s) for at_s in one.span_s)
    share = int(one.group[:8], 16) / 16**8
    return {
        "path": path,
        "label": one.label,
        "split": next(split for limit, split in _SPLITS if share < limit),
        "source": SOURCE,
        "group": one.group,
        "duration_s": round(sound.duration_s, 4),
        "original_label": str(one.outcome),
        "label_confidence": f"{one.looks} looks",
        "licence_tier": "consented",
        "onset_s": round(onset_s, 3),
        "offset_s": round(offset_s, 3),
    }


def _start(service: Service, file: CaseFile) -> float:
    """Where the clip begins on the stream's clock; with the event, where no score track tells."""
    declared = held_at(file, 0)
    if declared is None:
        return file.event.onset_s
    try:
        return ScoreTrack.from_bytes(service.decryptor.open_consented(file, declared)).start_s
    except WireError:
        return file.event.onset_s


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
