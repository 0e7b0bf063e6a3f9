"""The wire between a device and the review service: `Event`, its `ClipObject`s and `ScoreTrack`, and the service's `Receipt`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from earmark_model.contract import LABELS, Reason

EVENT_SCHEMA = 1
SCORE_TRACK_SCHEMA = 1
SCORE_TRACK_MEDIA_TYPE = "application/json"
MAX_EVENT_BYTES = 4096
MAX_ID_CHARS = 128
MAX_JSON_INTEGER = 2**53 - 1  # what every JSON reader and every database holds exactly (RFC 8259, section 6)
SCORE_TRACK_TIER = 0
AUDIO_TIER = 3


class WireError(ValueError):
    """A message is not what the wire format says; the text names the field."""


@dataclass(frozen=True, slots=True)
class ClipObject:
    """One object that follows the event: `tier` 0 (score track, JSON) to 3 (original audio), as raw bytes."""

    tier: int
    media_type: str
    length: int
    sha256: str

    def __post_init__(self) -> None:
        _require(self.tier in range(4), "clips.tier", "0, 1, 2 or 3", self.tier)
        _require(0 < self.length <= MAX_JSON_INTEGER, "clips.length", "a positive number of bytes below 2^53", self.length)
        _require(_is_sha256(self.sha256), "clips.sha256", "64 lowercase hexadecimal digits", self.sha256)

    @classmethod
    def of(cls, tier: int, media_type: str, payload: bytes) -> ClipObject:
        """Describe `payload`."""
        return cls(tier, media_type, len(payload), hashlib.sha256(payload).hexdigest())


@dataclass(frozen=True, slots=True)
class Event:
    """A flagged span, as metadata; signed JSON of at most 4 kB once devices hold keys.

    Times: `onset_s` and `offset_s` are seconds on the stream's own clock (monotonic, from its first sample);
    `wall_time` (ISO 8601, UTC) is when the onset happened, give or take `wall_uncertainty_s`.
    `scores` holds the peak calibrated probability of every label inside the span.
    """

    event_id: str
    boot_id: str
    seq: int
    onset_s: float
    offset_s: float
    wall_time: str
    wall_uncertainty_s: float
    label: str
    peak_score: float
    threshold: float
    reason: Reason
    scores: Mapping[str, float]
    model_sha256: str
    config_sha256: str
    calibration_sha256: str | None
    consent_id: str
    clips: tuple[ClipObject, ...] = ()
    schema: int = EVENT_SCHEMA

    def __post_init__(self) -> None:
        _require(self.schema == EVENT_SCHEMA, "schema", str(EVENT_SCHEMA), self.schema)
        for name in ("event_id", "boot_id", "consent_id"):
            value = getattr(self, name)
            _require(0 < len(value) <= MAX_ID_CHARS and value.isprintable(), name, f"1 to {MAX_ID_CHARS} printable characters", value)
        _require(0 <= self.seq <= MAX_JSON_INTEGER, "seq", "0 or more, below 2^53", self.seq)
        span = math.isfinite(self.onset_s) and math.isfinite(self.offset_s) and 0 <= self.onset_s < self.offset_s
        _require(span, "offset_s", "a finite span with 0 <= onset_s < offset_s", (self.onset_s, self.offset_s))
        _require(self.label in LABELS, "label", f"one of {', '.join(LABELS)}", self.label)
        _require(set(self.scores) == set(LABELS), "scores", f"one score for each of {', '.join(LABELS)}", sorted(self.scores))
        for label, score in (*self.scores.items(), ("peak_score", self.peak_score), ("threshold", self.threshold)):
            _require(math.isfinite(score) and 0 <= score <= 1, f"scores.{label}", "a probability in [0, 1]", score)
        _require(
            math.isfinite(self.wall_uncertainty_s) and self.wall_uncertainty_s >= 0,
            "wall_uncertainty_s",
            "0 or more seconds",
            self.wall_uncertainty_s,
        )
        _require(_is_utc(self.wall_time), "wall_time", "an ISO 8601 time in UTC, such as 2026-01-31T12:00:00+00:00", self.wall_time)
        for name in ("model_sha256", "config_sha256"):
            _require(_is_sha256(getattr(self, name)), name, "64 lowercase hexadecimal digits", getattr(self, name))
        _require(
            self.calibration_sha256 is None or _is_sha256(self.calibration_sha256),
            "calibration_sha256",
            "a SHA-256 or null",
            self.calibration_sha256,
        )
        tiers = [clip.tier for clip in self.clips]
        _require(len(set(tiers)) == len(tiers), "clips", "at most one object per tier", tiers)

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no blanks, UTF-8. Equal events give equal bytes.

        Raises:
            WireError: the event is larger than 4 kB.
        """
        payload = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        _require(len(payload) <= MAX_EVENT_BYTES, "event", f"at most {MAX_EVENT_BYTES} bytes", len(payload))
        return payload

    @classmethod
    def from_bytes(cls, payload: bytes) -> Event:
        """Parse and validate; every failure is a `WireError` that names the field.

        Raises:
            WireError: too large, not JSON, or a field is missing, unknown, or outside its range.
        """
        _require(len(payload) <= MAX_EVENT_BYTES, "event", f"at most {MAX_EVENT_BYTES} bytes", len(payload))
        raw = _parse_object(payload, "event")
        try:
            raw["reason"] = Reason(raw["reason"])
            raw["clips"] = tuple(ClipObject(**_checked(clip, ClipObject)) for clip in raw.get("clips", []))
            return cls(**_checked(raw, cls))
        except WireError:
            raise
        except KeyError as error:
            msg = f"field {error} is missing"
            raise WireError(msg) from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            msg = f"the event is not of the documented form: {error}"
            raise WireError(msg) from error


@dataclass(frozen=True, slots=True)
class ScoreTrack:
    """The tier 0 object: calibrated scores over the clip, as JSON of media type `application/json`.

    `start_s` is the clip's first sample on the stream's own clock, so the event begins `onset_s - start_s` into the clip.
    Score `i` of a label covers `hop_s` seconds from `start_s + i * hop_s`. `scores` holds some or all labels, equally long;
    `thresholds` holds the value from which each of them counts as heard, where there is one.
    """

    start_s: float
    hop_s: float
    scores: Mapping[str, tuple[float, ...]]
    thresholds: Mapping[str, float]
    schema: int = SCORE_TRACK_SCHEMA

    def __post_init__(self) -> None:
        _require(self.schema == SCORE_TRACK_SCHEMA, "schema", str(SCORE_TRACK_SCHEMA), self.schema)
        _require(math.isfinite(self.start_s) and self.start_s >= 0, "start_s", "0 or more seconds", self.start_s)
        _require(math.isfinite(self.hop_s) and self.hop_s > 0, "hop_s", "more than 0 seconds", self.hop_s)
        _require(bool(self.scores) and set(self.scores) <= set(LABELS), "scores", f"some of {', '.join(LABELS)}", sorted(self.scores))
        lengths = {len(values) for values in self.scores.values()}
        _require(len(lengths) == 1 and 0 not in lengths, "scores", "one equal, positive number of scores for every label", sorted(lengths))
        _require(set(self.thresholds) <= set(self.scores), "thresholds", "labels that have scores", sorted(self.thresholds))
        for label, values in (*self.scores.items(), *((label, (value,)) for label, value in self.thresholds.items())):
            _require(all(0 <= value <= 1 for value in values), label, "probabilities in [0, 1]", f"{min(values)} to {max(values)}")

    @property
    def duration_s(self) -> float:
        """Seconds that the scores cover."""
        return len(next(iter(self.scores.values()))) * self.hop_s

    def to_bytes(self) -> bytes:
        """Canonical JSON, scores to four decimals (a quarter of a pixel in any picture of them)."""
        rounded = {label: [round(value, 4) for value in values] for label, values in self.scores.items()}
        return json.dumps({**asdict(self), "scores": rounded}, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> ScoreTrack:
        """Parse and validate.

        Raises:
            WireError: not JSON, or a field is missing, unknown, or outside its range.
        """
        raw = _parse_object(payload, "score track")
        try:
            for label, values in raw["scores"].items():
                _require(isinstance(values, list), label, "a list of scores", values)
            raw["scores"] = {label: tuple(float(value) for value in values) for label, values in raw["scores"].items()}
            raw["thresholds"] = {label: float(value) for label, value in raw["thresholds"].items()}
            return cls(**_checked(raw, cls))
        except WireError:
            raise
        except KeyError as error:
            msg = f"score track: field {error} is missing"
            raise WireError(msg) from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            msg = f"the score track is not of the documented form: {error}"
            raise WireError(msg) from error


@dataclass(frozen=True, slots=True)
class Receipt:
    """The service's answer: what it holds for good. The device forgets an object only on it."""

    event_id: str
    event_sha256: str
    received_at: str
    tiers_held: tuple[int, ...]
    tiers_missing: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Receipt:
        """Parse and validate.

        Raises:
            WireError: not JSON, or a field is missing or of the wrong kind.
        """
        raw = _parse_object(payload, "receipt")
        try:
            _require(_is_sha256(raw["event_sha256"]), "event_sha256", "64 lowercase hexadecimal digits", raw["event_sha256"])
            held, missing = (tuple(int(tier) for tier in raw[name]) for name in ("tiers_held", "tiers_missing"))
            return cls(str(raw["event_id"]), raw["event_sha256"], str(raw["received_at"]), held, missing)
        except KeyError as error:
            msg = f"receipt: field {error} is missing"
            raise WireError(msg) from error
        except (TypeError, ValueError) as error:
            msg = f"receipt: {error}"
            raise WireError(msg) from error


def _require(holds: bool, name: str, expected: str, given: object) -> None:  # noqa: FBT001 - reads as a sentence at each call
    if not holds:
        msg = f"{name}: expected {expected}, got {given!r}"
        raise WireError(msg)


def _is_sha256(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")  # noqa: PLR2004 - 256 bits in hexadecimal


def _is_utc(text: str) -> bool:
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except ValueError:
        return False
    return offset is not None and not offset


def _parse_object(payload: bytes, name: str) -> dict[str, Any]:
    try:
        raw = json.loads(payload)
    except (ValueError, RecursionError) as error:
        msg = f"{name}: not valid JSON ({error})"
        raise WireError(msg) from error
    if not isinstance(raw, dict):
        msg = f"{name}: expected a JSON object, got {type(raw).__name__}"
        raise WireError(msg)
    return raw


def _checked(raw: Any, kind: type) -> dict[str, Any]:
    """`raw` as keyword arguments of the dataclass `kind`, after a check of each JSON type against the annotation."""
    if not isinstance(raw, dict):
        msg = f"expected an object, got {raw!r}"
        raise WireError(msg)
    fields: dict[str, str] = {field.name: str(field.type) for field in kind.__dataclass_fields__.values()}  # type: ignore[attr-defined]  # a dataclass type
    if unknown := set(raw) - set(fields):
        msg = f"unknown field {min(unknown)!r}"
        raise WireError(msg)
    for name, value in raw.items():
        if fields[name] == "float" and isinstance(value, int) and not isinstance(value, bool):
            raw[name] = float(value)
        elif fields[name] in {"int", "float", "str"}:
            expected = {"int": int, "float": float, "str": str}[fields[name]]
            _require(isinstance(value, expected) and not isinstance(value, bool), name, f"a JSON {fields[name]}", value)
    return raw
