"""Hearing recordings instead of a microphone: a file through a detector, and what a whole scan amounts to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from earmark_edge.capture import CaptureError, blocks
from earmark_edge.detector import Detector, Heard


def hear(path: Path, detector: Detector) -> Iterator[tuple[float, Heard]]:
    """Feed the file to the detector; yields the seconds of each block and what the block completed, last what the end of the file closed.

    Where the file turns out to be damaged half-way, what was heard until there is still decided on, and then the error is raised.

    Raises:
        CaptureError: the file cannot be read, or not to its end.
    """
    rate_hz = detector.rules.spec.sample_rate_hz
    detector.reset()
    try:
        for block in blocks(path, rate_hz):
            yield len(block) / rate_hz, detector.feed(block)
    except CaptureError:
        yield 0.0, detector.flush()
        raise
    yield 0.0, detector.flush()


@dataclass(slots=True)
class Totals:
    """What a scan amounts to. `label_s` holds, per label, the seconds of windows in which it reached its own threshold."""

    files: int = 0
    failed: int = 0
    events: int = 0
    incidents: int = 0
    heard_s: float = 0.0
    flagged_s: float = 0.0
    scoring_s: float = 0.0
    sent: int = 0
    unsent: int = 0
    label_s: dict[str, float] = field(default_factory=dict)

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work per second of audio; None where nothing was heard."""
        return self.scoring_s / self.heard_s if self.heard_s else None


class LabelSeconds:
    """Adds up how long each label was at or above its threshold; windows overlap, and no second counts twice."""

    def __init__(self, detector: Detector) -> None:
        self._spec = detector.rules.spec
        self._counted_to = dict.fromkeys(self._spec.labels, 0.0)

    def add(self, heard: Heard, totals: dict[str, float]) -> None:
        """Count the windows of `heard`, which follow those counted before in the same stream."""
        for window in heard.windows:
            for label, score in zip(self._spec.labels, window.clip_scores, strict=True):
                if score >= self._spec.thresholds[label].value:
                    begin = max(window.onset_s, self._counted_to[label])
                    totals[label] = totals.get(label, 0.0) + max(0.0, window.offset_s - begin)
                    self._counted_to[label] = max(self._counted_to[label], window.offset_s)
