"""Is the device still able to hear? On a schedule a known scream is laid over what the input gives, and must come out as an event.

It goes through a detector of its own beside the one that listens, with the same session, rules and live samples: what happens in the
room meanwhile is decided on as ever, and nothing of the canary's detector ever leaves it but whether it passed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detection, Detector
from earmark_edge.listen.canary_sound import DURATION_S, canary_sound
from earmark_edge.scorer import Scorer

Samples = npt.NDArray[np.float32]

ABOVE_ROOM_DB = 12.0
LEAST_RMS = 10 ** (-26 / 20)
MOST_PEAK = 0.9
FIRST_AFTER_S = 10.0
"""The first canary is due so soon after the start of a stream: a device that cannot hear should say so at once."""


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """What came of one canary: `label` and `peak_score` of the event that it became, or the best that the wanted labels reached.

    `label` is "" where the input gave no sound to lay it over.
    """

    is_heard: bool
    label: str
    peak_score: float
    threshold: float


class Canary:
    """Canaries for one stream, every `every_s` seconds of it; 0 for none. `sound`: what to inject, float32 `[samples]`.

    Raises:
        ValueError: a negative interval, or one too short for a canary to end before the next.
    """

    def __init__(self, scorer: Scorer, config: DecideConfig, every_s: float, sound: Samples | None = None) -> None:
        spec = scorer.spec
        self._rate_hz = spec.sample_rate_hz
        self._sound = sound
        self._length = round(DURATION_S * self._rate_hz) if sound is None else len(sound)
        self._lead = spec.window_samples
        self._total = self._lead + self._length + 2 * spec.window_samples
        if every_s and every_s * self._rate_hz < self._total:
            msg = f"a canary takes {self._total / self._rate_hz:.1f} s, so they cannot come every {every_s:g} s; 0 is for none"
            raise ValueError(msg)
        # It hears a few seconds, and need not hold memory for the longest event.
        longest_s = max(config.min_event_s, min(config.max_event_s, self._total / self._rate_hz))
        self._scorer, self._config, self._every_s = scorer, replace(config, max_event_s=longest_s), every_s
        self._detector: Detector | None = None
        self._playing: Samples = np.zeros(0, np.float32)
        self._at = 0
        self._power = 0.0
        self._best: tuple[float, str, float, float] = (-1.0, "", 0.0, 1.0)
        self._detections: list[Detection] = []
        self._until_next = self._soon = round(min(FIRST_AFTER_S, every_s) * self._rate_hz)

    @property
    def is_running(self) -> bool:
        """Whether one is being injected."""
        return self._detector is not None

    def feed(self, samples: Samples, *, is_busy: bool) -> CanaryResult | None:
        """The live samples that the stream's own detector has just got; `is_busy` while it has an event open, for which a canary waits."""
        if not self._every_s:
            return None
        if self._detector is None:
            self._until_next -= len(samples)
            if self._until_next > 0 or is_busy:
                return None
            self._begin()
        assert self._detector is not None
        samples = samples[: self._total - self._at]
        if self._at < self._lead:
            self._power = max(self._power, float(np.mean(np.square(samples), dtype=np.float64)) if len(samples) else 0.0)
        heard = self._detector.feed(self._mixed(samples))
        self._at += len(samples)
        self._take(heard.detections)
        for window in heard.windows:
            label, score, threshold = self._detector.rules.strongest(window.clip_scores)
            self._best = max(self._best, (score / max(threshold, 1e-6), label, score, threshold))
        return self._end() if self._at == self._total else None

    def miss(self) -> CanaryResult:
        """The input has given no sound for so long that a canary would not be heard; the next is due soon after sound is back."""
        self.reset()
        self._until_next = self._soon
        return CanaryResult(is_heard=False, label="", peak_score=0.0, threshold=1.0)

    def reset(self) -> None:
        """The stream was cut off or muted: forget a canary that had begun, and try again soon."""
        if self._detector is not None:
            self._detector.reset()
            self._detector = None
            self._until_next = self._soon

    def _begin(self) -> None:
        self._detector = Detector(self._scorer, self._config)
        self._playing = canary_sound(self._rate_hz) if self._sound is None else self._sound
        self._at, self._power, self._detections, self._best = 0, 0.0, [], (-1.0, "", 0.0, 1.0)

    def _mixed(self, samples: Samples) -> Samples:
        """The live samples with what belongs there of the canary on top, so much louder than the room was just before."""
        rms = max(LEAST_RMS, self._power**0.5 * 10 ** (ABOVE_ROOM_DB / 20))
        own = float(np.sqrt(np.mean(np.square(self._playing), dtype=np.float64)))
        gain = min(rms / own, MOST_PEAK / float(np.abs(self._playing).max()))
        start = self._at - self._lead
        part = self._playing[max(0, start) : max(0, start + len(samples))]
        mixed = samples.copy()
        first = max(0, -start)
        mixed[first : first + len(part)] += np.float32(gain) * part
        return np.clip(mixed, -1.0, 1.0)

    def _take(self, detections: tuple[Detection, ...]) -> None:
        first_s, last_s = self._lead / self._rate_hz, (self._lead + self._length) / self._rate_hz
        self._detections += [each for each in detections if each.onset_s < last_s and each.offset_s > first_s]

    def _end(self) -> CanaryResult:
        assert self._detector is not None
        self._take(self._detector.flush().detections)
        self._detector, self._playing = None, np.zeros(0, np.float32)
        self._until_next = round(self._every_s * self._rate_hz) - self._total
        if self._detections:
            best = max(self._detections, key=lambda each: each.peak_score)
            return CanaryResult(is_heard=True, label=best.label, peak_score=best.peak_score, threshold=best.threshold)
        _, label, score, threshold = self._best
        return CanaryResult(is_heard=False, label=label, peak_score=score, threshold=threshold)


def hears_canary(scorer: Scorer, config: DecideConfig) -> CanaryResult:
    """One canary over silence, at once: whether this bundle under this configuration can flag a scream at all."""
    canary = Canary(scorer, config, every_s=60.0)
    block = np.zeros(scorer.spec.hop_samples, np.float32)
    while True:
        result = canary.feed(block, is_busy=False)
        if result is not None:
            return result
