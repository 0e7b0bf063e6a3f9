"""Verdicts as a corpus that `train.py` takes as it is, and as a table of labels without sound.

`verdicts.csv` holds a row for each settled case, without sound and without names. `manifest.csv` holds a row for each of them that got a
label; sound joins where the household consented to training with the original, by the record that its device sent last, which the row
names with its version. A group is one device, so that no home stands in two splits. Groups and records are named by keyed hashes that say
nothing outside. What an export holds is kept (`store.exports`), so that a withdrawal finds it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import soundfile
from sqlalchemy import Connection, select

from earmark_edge.event import Event, ScoreTrack, WireError
from earmark_model.consents import USED_BY_FILE, WITHDRAWN_FILE
from earmark_review import audit
from earmark_review.cases import CaseState, Verdict
from earmark_review.errors import BlobMissingError, KeyGoneError, SettingsError, SoundError, UnsealError
from earmark_review.evidence import held_at
from earmark_review.keyed_names import consent_name, keyed_name
from earmark_review.media import ORIGINAL_TIER
from earmark_review.service import Service
from earmark_review.sound import read_sound
from earmark_review.store.caseload import CaseFile, case_file
from earmark_review.store.decisions import consent_record, trains, verdicts_on
from earmark_review.store.exports import record_export
from earmark_review.store.schema import cases, events, golden_cases
from earmark_review.tables import write_table

SOURCE = "earmark-review"
_BACKGROUND = "background"
_OWN_LABEL = frozenset({Verdict.DISTRESS, Verdict.PLAY})
"""Verdicts that confirm the sound, whoever made it and why."""
_OTHER = MappingProxyType({"laughter": "laughter", "speech": "speech", "other": "other_human"})
_SPLITS = ("test", "train", "val", "train", "train", "train", "train", "train", "train", "train")
"""Of a device by the last digit of its number, so that even the first few can be trained and chosen on, and none ever changes sides."""
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
    "consent",
    "consent_version",
)
CARD_FILE = "CARD.md"
_NOT_OPENED = (BlobMissingError, KeyGoneError, UnsealError, SoundError)


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export: rows of the table, of the manifest, those of them with sound, and clips that could not be opened."""

    rows: int
    labels: int
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
    consent: str
    """The household's record, by its keyed hash."""
    consent_version: str

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
    write_table(out / "verdicts.csv", _TABLE, [_table_row(one) for one in settled])
    labelled = [one for one in settled if one.label]
    kept = {one.file.line.case_id: one.consent if one.may_train else "" for one in labelled}
    with service.database.writing() as conn:  # before the first clip lies there: an export that breaks off is found by a withdrawal, too
        record_export(conn, out, kept, service.now())
    rows = [_row(service, one, out) for one in labelled]
    write_table(out / "manifest.csv", _MANIFEST, rows)
    clips = sum(bool(row["path"]) for row in rows)
    (out / CARD_FILE).write_text(_card(service, rows), encoding="utf-8")
    return Exported(len(settled), len(rows), clips, sum(one.may_train for one in labelled) - clips)


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
                consent_name(service.identity, row.device_id, event.consent_id),
                _version(service, conn, row.device_id, event.consent_id),
            )


def _group(service: Service, device_id: int) -> str:
    return keyed_name(service.identity, f"export group {device_id}")


def _version(service: Service, conn: Connection, device_id: int, consent_id: str) -> str:
    """A keyed hash of the record as the device sent it last; "" where it sent none."""
    payload = consent_record(conn, device_id, consent_id)
    return keyed_name(service.identity, f"consent version {payload.hex()}") if payload else ""


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


def _row(service: Service, one: _Settled, out: Path) -> Mapping[str, object]:
    """The manifest row of a labelled case, with the path of its sound where that may be trained with."""
    clip = _clip(service, one, out) if one.may_train else None
    told = clip or {"path": "", "duration_s": round(one.span_s[1] - one.span_s[0], 4)}
    return {
        **told,
        "label": one.label,
        "split": _SPLITS[one.device_id % len(_SPLITS)],
        "source": SOURCE,
        "group": one.group,
        "original_label": str(one.outcome),
        "label_confidence": f"{one.looks} look{'' if one.looks == 1 else 's'}",
        "licence_tier": "consented" if clip else "",
        "consent": one.consent if clip else "",
        "consent_version": one.consent_version if clip else "",
    }


def _clip(service: Service, one: _Settled, out: Path) -> Mapping[str, object] | None:
    """Write a clip as FLAC and return its path, length and span; None where it cannot be opened."""
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
    duration_s = round(sound.duration_s, 4)
    onset_s, offset_s = (round(min(max(0.0, at_s - start_s), duration_s), 3) for at_s in one.span_s)
    span = {"onset_s": onset_s, "offset_s": offset_s} if onset_s < offset_s else {}  # what lies outside the clip says nothing about it
    return {"path": path, "duration_s": duration_s, **span}


def _start(service: Service, file: CaseFile) -> float:
    """Where the clip begins on the stream's clock; with the event, where no score track tells."""
    declared = held_at(file, 0)
    if declared is None:
        return file.event.onset_s
    try:
        return ScoreTrack.from_bytes(service.decryptor.open_consented(file, declared)).start_s
    except WireError:
        return file.event.onset_s


def _card(service: Service, rows: Sequence[Mapping[str, object]]) -> str:
    sounding = [row for row in rows if row["path"]]
    labels = Counter(str(row["label"]) for row in sounding)
    consents = Counter((str(row["consent"]), str(row["consent_version"])) for row in sounding)
    of_labels = "\n".join(f"| {label} | {count:,} |" for label, count in sorted(labels.items()))
    of_consents = "\n".join(f"| {consent} | {version} | {count:,} |" for (consent, version), count in sorted(consents.items()))
    return f"""# Datasheet: reviewed events

Made {service.now():%Y-%m-%d %H:%M} UTC by the review service with the fingerprint {service.identity.fingerprint}.
{len(rows):,} labels by reviewers, {len(sounding):,} of them with sound, of {len({row["group"] for row in sounding}):,} devices. A device
stands in one split, the same in every export. The spans are the reviewers'.

**These are recordings from homes.** They may be used to train and measure models, as long as their households consent, and for nothing
else. When one withdraws, the service deletes its clips here, writes `{WITHDRAWN_FILE}`, and marks the models in `{USED_BY_FILE}`.
`train.py` refuses this folder from then on. Copies elsewhere are for whoever made them to delete.

| label | clips with sound |
|---|---|
{of_labels}

| record of consent | version | clips |
|---|---|---|
{of_consents}
"""
