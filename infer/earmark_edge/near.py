"""Stretches that come near a threshold and reach none: what a home may let be drawn from, to count what is missed. Pure.

Nothing here is kept or handed on unless the household's record says so; then a few of these stretches are drawn at random.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from earmark_edge.decide import Decider, Rules
from earmark_edge.spans import Span, SpanTracker

Floats = npt.NDArray[np.float32]

NEAR = 0.25
"""A stretch is near where a routed score reaches this part of its threshold."""
LONGEST_S = 10.0
"""A longer stretch counts as several, so that nobody has to hear a minute of washing machine."""


class NearMisses:
    """Decided windows in, closed spans out that no flagged window touches. Feeding other chunks changes nothing."""

    def __init__(self, rules: Rules) -> None:
        self._rules = near_rules(rules)
        self._decider = Decider(self._rules)
        self._tracker = SpanTracker(self._rules)
        self._flagged: list[tuple[int, int]] = []  # windows that may touch a span still to come

    def feed(self, start: int, valid: int, clip_scores: Floats, frame_scores: Floats, *, is_flagged: bool) -> list[Span]:
        """Take the next window, as `SpanTracker.feed` does; `is_flagged` is what was decided at the real thresholds."""
        if is_flagged:
            self._flagged.append((start, start + valid))
        self._flagged = [window for window in self._flagged if window[1] > start - self._tracker.lookback_samples]
        is_near = self._decider.decide(clip_scores).is_flagged
        return self._missed(self._tracker.feed(start, valid, clip_scores, frame_scores, is_flagged=is_near))

    def flush(self) -> list[Span]:
        """The stream has ended: close what is open, then as new."""
        spans = self._missed(self._tracker.flush())
        self.reset()
        return spans

    def reset(self) -> None:
        """As new."""
        self._decider.reset()
        self._tracker.reset()
        self._flagged = []

    def _missed(self, spans: list[Span]) -> list[Span]:
        """Without those that someone will look at anyway, being part of what was flagged or next to it."""
        return [span for span in spans if not any(start < span.offset and end > span.onset for start, end in self._flagged)]


def near_rules(rules: Rules) -> Rules:
    """The same rules with the thresholds of routed labels lowered."""
    spec, config = rules.spec, rules.config
    routed = {*spec.sensitive, *config.route_also}
    thresholds = {
        label: replace(threshold, value=NEAR * threshold.value, guarantee=None) if label in routed else threshold
        for label, threshold in spec.thresholds.items()
    }
    longest_s = min(config.max_event_s, LONGEST_S)
    config = replace(config, max_event_s=longest_s, min_event_s=min(config.min_event_s, longest_s))
    return Rules(replace(spec, thresholds=thresholds), config)
