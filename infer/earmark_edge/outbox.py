"""Detections made ready to leave: the event and its objects, in RAM only until objects are sealed on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5

from earmark_edge.decide import Rules
from earmark_edge.detector import Detection
from earmark_edge.event import AUDIO_TIER, RATE_CAP, ClipObject, Event
from earmark_edge.tiers import tier_objects, wav_bytes
from earmark_model.contract import BundleSpec, sha256_file

FILE_TIME_UNCERTAINTY_S = 86_400.0
"""A file's modification time is all that tells when it was recorded, and copying or editing moves it."""
_NAMESPACE = UUID("5f1c6c0e-6a0d-5f43-9a52-0f6c1c2d7e11")


@dataclass(frozen=True, slots=True)
class Origin:
    """The stream that detections come from: `started_at` is the UTC time of its first sample, as far as it is known.

    `consent_id` is that of the record in force when it began; what is sent bears the one in force when it is sealed.
    """

    boot_id: str
    started_at: datetime
    wall_uncertainty_s: float
    consent_id: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """An event, and the raw bytes of its objects by tier."""

    event: Event
    payloads: Mapping[int, bytes]


def file_origin(path: Path, duration_s: float, rules: Rules, consent_id: str) -> Origin:
    """Where a file's detections come from: the recording is taken to end at the file's modification time.

    Everything that an event of this file will say is determined by what the identifier is made of, so sending the same file again under
    the same model, configuration and consent gives the same events, byte for byte.

    Raises:
        OSError: the file cannot be read.
    """
    ended_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    started_at = ended_at - timedelta(seconds=duration_s)
    parts = (sha256_file(path), rules.spec.graph_sha256, rules.sha256, started_at.isoformat(), consent_id)
    return Origin(str(uuid5(_NAMESPACE, ":".join(parts))), started_at, FILE_TIME_UNCERTAINTY_S, consent_id)


def pack(
    detection: Detection, seq: int, origin: Origin, rules: Rules, *, with_audio: bool = True, slice_probability: float | None = None
) -> Parcel:
    """The event of `detection`, number `seq` of its stream, with an object for every tier; without audio, for tiers 0 and 1.

    An event without audio is marked as one whose audio the cap of the hour withholds.

    `slice_probability`: with which it was drawn, for what was not flagged; then the original is not among the objects.

    Raises:
        WireError: the detection does not fit the wire format.
    """
    rate_hz = rules.spec.sample_rate_hz
    objects = tier_objects(detection, rate_hz, with_audio=with_audio)
    if slice_probability is not None:
        objects = {tier: made for tier, made in objects.items() if tier != AUDIO_TIER}
    content = f"{origin.boot_id}:{detection.onset_s!r}:{hashlib.sha256(wav_bytes(detection.audio, rate_hz)).hexdigest()}"
    event = Event(
        event_id=str(uuid5(_NAMESPACE, content)),
        boot_id=origin.boot_id,
        seq=seq,
        onset_s=detection.onset_s,
        offset_s=detection.offset_s,
        wall_time=(origin.started_at + timedelta(seconds=detection.onset_s)).isoformat(),
        wall_uncertainty_s=origin.wall_uncertainty_s,
        label=detection.label,
        peak_score=detection.peak_score,
        threshold=detection.threshold,
        reason=detection.reason,
        scores=detection.scores,
        model_sha256=rules.spec.graph_sha256,
        config_sha256=rules.sha256,
        calibration_sha256=_calibration(rules.spec, detection.label),
        consent_id=origin.consent_id,
        incident=detection.incident,
        slice_probability=slice_probability,
        audio_withheld="" if with_audio else RATE_CAP,
    )
    clips = tuple(ClipObject.of(tier, made.media_type, made.payload) for tier, made in objects.items())
    return Parcel(replace(event, clips=clips), {tier: made.payload for tier, made in objects.items()})


def _calibration(spec: BundleSpec, label: str) -> str | None:
    guarantee = spec.thresholds[label].guarantee
    return guarantee.calibration_sha256 if guarantee else None
