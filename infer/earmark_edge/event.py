"""The wire between a device and the review service: `Event`, its `ClipObject`s and `ScoreTrack`, and the service's `Receipt`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from earmark_edge.wire import (
    MAX_ID_CHARS,
    MAX_JSON_INTEGER,
    WireError,
    canonical_json,
    check_slice_probability,
    checked,
    is_sha256,
    is_utc,
    parse_object,
    require,
)
from earmark_model.contract import LABELS, Reason

__all__ = ["AUDIO_TIER", "MAX_EVENT_BYTES", "MAX_ID_CHARS", "MAX_JSON_INTEGER", "ClipObject", "Event", "Receipt", "ScoreTrack", "WireError"]

EVENT_SCHEMA = 2
_READABLE_SCHEMAS = frozenset({1, EVENT_SCHEMA})  # 1, before objects were sealed, still lies in stores and is never sent
SCORE_TRACK_SCHEMA = 1
SCORE_TRACK_MEDIA_TYPE = "application/json"
MAX_EVENT_BYTES = 4096
SCORE_TRACK_TIER = 0
AUDIO_TIER = 3
RATE_CAP = "rate_cap"
WITHHELD = ("", RATE_CAP)
"""Why an event comes without audio though consent and policy would let it: it does not, or the cap of audio for the hour was reached."""


@dataclass(frozen=True, slots=True)
class ClipObject:
    """One object that follows the event, as raw bytes: `tier` 0 (score track, JSON) to 3 (original audio).

    A sealed object's `length` and `sha256` are those of its ciphertext, and `wrapped_sha256` is the hash of its wrapped data key;
    `media_type` is always that of what lies inside. An object that is not sealed yet has no `wrapped_sha256`.
    """

    tier: int
    media_type: str
    length: int
    sha256: str
    wrapped_sha256: str | None = None

    def __post_init__(self) -> None:
        require(self.tier in range(4), "clips.tier", "0, 1, 2 or 3", self.tier)
        require(0 < self.length <= MAX_JSON_INTEGER, "clips.length", "a positive number of bytes below 2^53", self.length)
        require(is_sha256(self.sha256), "clips.sha256", "64 lowercase hexadecimal digits", self.sha256)
        is_hash = self.wrapped_sha256 is None or is_sha256(self.wrapped_sha256)
        require(is_hash, "clips.wrapped_sha256", "a SHA-256 or null", self.wrapped_sha256)

    @classmethod
    def of(cls, tier: int, media_type: str, payload: bytes) -> ClipObject:
        """Describe `payload`."""
        return cls(tier, media_type, len(payload), hashlib.sha256(payload).hexdigest())


@dataclass(frozen=True, slots=True)
class Event:
    """A flagged span, as metadata: JSON of at most 4 kB, whose exact bytes the device signs.

    Times: `onset_s` and `offset_s` are seconds on the stream's own clock (monotonic, from its first sample);
    `wall_time` (ISO 8601, UTC) is when the onset happened, give or take `wall_uncertainty_s`.
    `scores` holds the peak calibrated probability of every label inside the span. `key_id` names the service's key that the objects
    are sealed to, and `policy_version` the policy in force, 0 for none.
    `incident`: events of one `boot_id` that share it are parts of one happening, or lie near each other.
    `slice_probability`: with which this sound below the threshold was drawn to count what is missed; None for whatever was flagged. It is
    left out of the bytes where it is None. `audio_withheld`: a word of `WITHHELD`, left out where it is empty.
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
    key_id: str | None = None
    policy_version: int = 0
    incident: int = 0
    slice_probability: float | None = None
    audio_withheld: str = ""
    schema: int = EVENT_SCHEMA

    def __post_init__(self) -> None:
        require(self.schema in _READABLE_SCHEMAS, "schema", str(EVENT_SCHEMA), self.schema)
        for name in ("event_id", "boot_id", "consent_id"):
            value = getattr(self, name)
            require(0 < len(value) <= MAX_ID_CHARS and value.isprintable(), name, f"1 to {MAX_ID_CHARS} printable characters", value)
        for name in ("seq", "incident"):
            require(0 <= getattr(self, name) <= MAX_JSON_INTEGER, name, "0 or more, below 2^53", getattr(self, name))
        span = math.isfinite(self.onset_s) and math.isfinite(self.offset_s) and 0 <= self.onset_s < self.offset_s
        require(span, "offset_s", "a finite span with 0 <= onset_s < offset_s", (self.onset_s, self.offset_s))
        require(self.label in LABELS, "label", f"one of {', '.join(LABELS)}", self.label)
        require(set(self.scores) == set(LABELS), "scores", f"one score for each of {', '.join(LABELS)}", sorted(self.scores))
        for label, score in (*self.scores.items(), ("peak_score", self.peak_score), ("threshold", self.threshold)):
            require(math.isfinite(score) and 0 <= score <= 1, f"scores.{label}", "a probability in [0, 1]", score)
        require(
            math.isfinite(self.wall_uncertainty_s) and self.wall_uncertainty_s >= 0,
            "wall_uncertainty_s",
            "0 or more seconds",
            self.wall_uncertainty_s,
        )
        require(is_utc(self.wall_time), "wall_time", "an ISO 8601 time in UTC, such as 2026-01-31T12:00:00+00:00", self.wall_time)
        for name in ("model_sha256", "config_sha256"):
            require(is_sha256(getattr(self, name)), name, "64 lowercase hexadecimal digits", getattr(self, name))
        require(
            self.calibration_sha256 is None or is_sha256(self.calibration_sha256),
            "calibration_sha256",
            "a SHA-256 or null",
            self.calibration_sha256,
        )
        require(self.key_id is None or is_sha256(self.key_id), "key_id", "a SHA-256 or null", self.key_id)
        require(0 <= self.policy_version <= MAX_JSON_INTEGER, "policy_version", "0 or more, below 2^53", self.policy_version)
        tiers = [clip.tier for clip in self.clips]
        require(len(set(tiers)) == len(tiers), "clips", "at most one object per tier", tiers)
        require(self.audio_withheld in WITHHELD, "audio_withheld", f"one of {WITHHELD}", self.audio_withheld)
        if self.slice_probability is not None:
            check_slice_probability(self.slice_probability)
            is_slice = self.reason is Reason.BELOW_THRESHOLD and AUDIO_TIER not in tiers
            require(is_slice, "slice_probability", "only below the threshold, and without the original", (self.reason, tiers))

    def words(self) -> dict[str, object]:
        """The fields as they are written and sealed to: one that is not used is not there, so that older readers know the event."""
        words = asdict(self)
        if self.slice_probability is None:
            del words["slice_probability"]
        if not self.audio_withheld:
            del words["audio_withheld"]
        return words

    def to_bytes(self) -> bytes:
        """Canonical JSON: sorted keys, no blanks, UTF-8. Equal events give equal bytes.

        Raises:
            WireError: the event is larger than 4 kB.
        """
        payload = canonical_json(self.words())
        require(len(payload) <= MAX_EVENT_BYTES, "event", f"at most {MAX_EVENT_BYTES} bytes", len(payload))
        return payload

    @classmethod
    def from_bytes(cls, payload: bytes) -> Event:
        """Parse and validate; every failure is a `WireError` that names the field.

        Raises:
            WireError: too large, not JSON, or a field is missing, unknown, or outside its range.
        """
        require(len(payload) <= MAX_EVENT_BYTES, "event", f"at most {MAX_EVENT_BYTES} bytes", len(payload))
        raw = parse_object(payload, "event")
        try:
            raw["reason"] = Reason(raw["reason"])
            raw["clips"] = tuple(ClipObject(**checked(clip, ClipObject)) for clip in raw.get("clips", []))
            return cls(**checked(raw, cls))
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
        require(self.schema == SCORE_TRACK_SCHEMA, "schema", str(SCORE_TRACK_SCHEMA), self.schema)
        require(math.isfinite(self.start_s) and self.start_s >= 0, "start_s", "0 or more seconds", self.start_s)
        require(math.isfinite(self.hop_s) and self.hop_s > 0, "hop_s", "more than 0 seconds", self.hop_s)
        require(bool(self.scores) and set(self.scores) <= set(LABELS), "scores", f"some of {', '.join(LABELS)}", sorted(self.scores))
        lengths = {len(values) for values in self.scores.values()}
        require(len(lengths) == 1 and 0 not in lengths, "scores", "one equal, positive number of scores for every label", sorted(lengths))
        require(set(self.thresholds) <= set(self.scores), "thresholds", "labels that have scores", sorted(self.thresholds))
        for label, values in (*self.scores.items(), *((label, (value,)) for label, value in self.thresholds.items())):
            require(all(0 <= value <= 1 for value in values), label, "probabilities in [0, 1]", f"{min(values)} to {max(values)}")

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
        raw = parse_object(payload, "score track")
        try:
            for label, values in raw["scores"].items():
                require(isinstance(values, list), label, "a list of scores", values)
            raw["scores"] = {label: tuple(float(value) for value in values) for label, values in raw["scores"].items()}
            raw["thresholds"] = {label: float(value) for label, value in raw["thresholds"].items()}
            return cls(**checked(raw, cls))
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
    """The service's answer, signed over its exact bytes: what it holds for good. The device forgets an object only on it.

    `tiers_dropped` are those that the device itself gave up for want of space, and said so. `device_id` is the SHA-256 of the public key
    of the device that it was made for.
    """

    event_id: str
    event_sha256: str
    received_at: str
    tiers_held: tuple[int, ...]
    tiers_missing: tuple[int, ...]
    tiers_dropped: tuple[int, ...] = ()
    device_id: str | None = None

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same state gives the same bytes, and so the same signature."""
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Receipt:
        """Parse and validate.

        Raises:
            WireError: not JSON, or a field is missing or of the wrong kind.
        """
        raw = parse_object(payload, "receipt")
        try:
            require(is_sha256(raw["event_sha256"]), "event_sha256", "64 lowercase hexadecimal digits", raw["event_sha256"])
            lists = (raw["tiers_held"], raw["tiers_missing"], raw.get("tiers_dropped", []))
            held, missing, dropped = (tuple(int(tier) for tier in listed) for listed in lists)
            device_id = raw.get("device_id")
            require(device_id is None or is_sha256(device_id), "device_id", "a SHA-256 or null", device_id)
            return cls(str(raw["event_id"]), raw["event_sha256"], str(raw["received_at"]), held, missing, dropped, device_id)
        except KeyError as error:
            msg = f"receipt: field {error} is missing"
            raise WireError(msg) from error
        except WireError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            msg = f"receipt: {error}"
            raise WireError(msg) from error
