"""The event that benchmarks of the review service send or store, again and again."""

from __future__ import annotations

from datetime import UTC, datetime

from earmark_edge.event import ClipObject, Event
from earmark_model.contract import LABELS, Reason


def event_of(event_id: str, seq: int, clips: tuple[ClipObject, ...] = ()) -> Event:
    """A scream of a second, flagged now."""
    return Event(
        event_id=event_id,
        boot_id="boot",
        seq=seq,
        onset_s=1.0,
        offset_s=2.0,
        wall_time=datetime.now(UTC).isoformat(),
        wall_uncertainty_s=1.0,
        label="scream",
        peak_score=0.9,
        threshold=0.5,
        reason=Reason.ABOVE_THRESHOLD,
        scores=dict.fromkeys(LABELS, 0.1),
        model_sha256="a" * 64,
        config_sha256="b" * 64,
        calibration_sha256=None,
        consent_id="consent",
        clips=clips,
    )
