"""Listening: samples in, scored windows and closed detections out. What is not part of a detection is forgotten within a minute or two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from earmark_edge.decide import DecideConfig, Decider, Decision, Rules
from earmark_edge.event import ScoreTrack
from earmark_edge.near import NearMisses
from earmark_edge.overlap import OverlapScorer
from earmark_edge.ring import AudioRing
from earmark_edge.scorer import Scorer
from earmark_edge.spans import Span, SpanTracker
from earmark_edge.window import Window, Windower
from earmark_model.contract import Reason

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """A window of the stream with all its scores, and what was decided on it.

    `clip_scores` `[classes]` and `frame_scores` `[frames, classes]` are calibrated probabilities in the order of the bundle's labels.
    """

    onset_s: float
    offset_s: float
    clip_scores: Floats
    frame_scores: Floats
    decision: Decision


@dataclass(frozen=True, slots=True)
class Detection:
    """A closed event: the span that was cleared for export, why, and its audio; `audio` is float32 `[samples]`, mono, in RAM only.

    `scores` holds the peak of every label over the flagged windows that touch the span. Detections of one `incident` lie near each other
    or are parts of one long event.
    """

    onset_s: float
    offset_s: float
    label: str
    peak_score: float
    threshold: float
    reason: Reason
    scores: Mapping[str, float]
    incident: int
    track: ScoreTrack
    audio: Floats

    @property
    def duration_s(self) -> float:
        """Length of the span."""
        return self.offset_s - self.onset_s


@dataclass(frozen=True, slots=True)
class Heard:
    """What a piece of the stream completed; `near` are stretches below the thresholds, where the detector was asked for them."""

    windows: tuple[ScoredWindow, ...] = ()
    detections: tuple[Detection, ...] = ()
    near: tuple[Detection, ...] = ()

    @classmethod
    def joined(cls, parts: Iterable[Heard]) -> Heard:
        """What several pieces completed, in order."""
        parts = list(parts)
        if len(parts) == 1:
            return parts[0]
        windows, detections, near = (
            tuple(each for part in parts for each in getattr(part, name)) for name in ("windows", "detections", "near")
        )
        return cls(windows, detections, near)


class Detector:
    """One stream through one bundle. Feeding it in other chunks changes neither scores (beyond rounding) nor detections.

    With `near` it also gives the stretches that come near a threshold and reach none, for a slice to be drawn from.

    Raises:
        BundleError: the bundle's labels are not those that events are made of.
        DecideConfigError: the configuration does not fit the bundle.
    """

    def __init__(self, scorer: Scorer, config: DecideConfig | None = None, *, near: bool = False) -> None:
        spec = scorer.spec
        self.rules = Rules(spec, config or DecideConfig())
        self._scorer = OverlapScorer(scorer)
        self._windower = Windower(spec.window_samples, spec.hop_samples)
        self._decider = Decider(self.rules)
        self._tracker = SpanTracker(self.rules)
        self._near = NearMisses(self.rules) if near else None
        self._ring = AudioRing(self._tracker.lookback_samples + 2 * spec.window_samples)

    def feed(self, samples: Floats) -> Heard:
        """Hear the next `samples`: float32 `[samples]` in [-1, 1] at the bundle's sample rate, any number of them.

        Raises:
            ValueError: another type or shape, or a sample that is not finite. Nothing was heard then.
            ScoringError: the graph gave something that is no score.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            msg = f"cannot hear {samples.dtype} {list(samples.shape)}; expected float32 [samples], mono"
            raise ValueError(msg)
        if not np.isfinite(samples).all():
            at = int(np.argmin(np.isfinite(samples)))
            msg = f"sample {self._ring.end + at} of the stream is not a finite number"
            raise ValueError(msg)
        heard = []
        piece = self.rules.spec.window_samples  # bounds both the batch and how far the ring runs ahead of what is scored
        for start in range(0, len(samples), piece):
            part = samples[start : start + piece]
            self._ring.append(part)
            heard.append(self._score(self._windower.feed(part)))
        return Heard.joined(heard)

    def flush(self) -> Heard:
        """The stream has ended: score its zero-padded tail and close what is open; then as new."""
        tail = self._score(self._windower.flush())
        near = self._near_misses(self._near.flush()) if self._near else ()
        closed = Heard(detections=tuple(self._detection(span) for span in self._tracker.flush()), near=near)
        self.reset()
        return Heard.joined([tail, closed])

    def reset(self) -> None:
        """Forget everything, audio included; the next sample is the first of a new stream."""
        self._windower.reset()
        self._scorer.reset()
        self._decider.reset()
        self._tracker.reset()
        if self._near:
            self._near.reset()
        self._ring.wipe()

    @property
    def has_open_event(self) -> bool:
        """Whether something is being heard that is not closed yet."""
        return self._decider.is_open or self._tracker.is_open

    def _score(self, windows: list[Window]) -> Heard:
        if not windows:
            return Heard()
        scores = self._scorer.run(windows)
        scored, detections = [], []
        near: list[Span] = []
        for window, clip_scores, frame_scores in zip(windows, scores.clip, scores.frame, strict=True):
            decision = self._decider.decide(clip_scores)
            scored.append(ScoredWindow(self._second(window.start), self._second(window.end), clip_scores, frame_scores, decision))
            spans = self._tracker.feed(window.start, window.valid, clip_scores, frame_scores, is_flagged=decision.is_flagged)
            detections += [self._detection(span) for span in spans]
            if self._near:
                near += self._near.feed(window.start, window.valid, clip_scores, frame_scores, is_flagged=decision.is_flagged)
        return Heard(tuple(scored), tuple(detections), self._near_misses(near))

    def _near_misses(self, spans: list[Span]) -> tuple[Detection, ...]:
        return tuple(replace(self._detection(span), reason=Reason.BELOW_THRESHOLD) for span in spans)

    def _detection(self, span: Span) -> Detection:
        rules, spec = self.rules, self.rules.spec
        label, peak, threshold = rules.strongest(span.peaks)
        track = ScoreTrack(
            start_s=self._second(span.onset),
            hop_s=self._second(self._tracker.cell_samples),
            scores={name: tuple(map(float, column)) for name, column in zip(spec.labels, span.track.T, strict=True)},
            thresholds={name: threshold.value for name, threshold in spec.thresholds.items()},
        )
        return Detection(
            onset_s=self._second(span.onset),
            offset_s=self._second(span.offset),
            label=label,
            peak_score=peak,
            threshold=threshold,
            reason=rules.reason_above(label) if peak >= threshold else Reason.HELD_BY_HYSTERESIS,
            scores=dict(zip(spec.labels, map(float, span.peaks), strict=True)),
            incident=span.incident,
            track=track,
            audio=self._ring.cut(span.onset, span.offset),
        )

    def _second(self, sample: int) -> float:
        return sample / self.rules.spec.sample_rate_hz
