"""Scores the windows of one stream in turn, each taking over what the one before has computed of the sound they share."""

from __future__ import annotations

import numpy as np

from earmark_edge.scorer import EMPTY, Scorer, Scores
from earmark_edge.window import Window


class OverlapScorer:
    """The windows of a `Windower`, in order. Scores are those of `Scorer.run` on each window, up to rounding (below 1e-6).

    With a bundle whose graph gives mel power, that of the frames which the next window shares with this one is held, in RAM alone.
    """

    def __init__(self, scorer: Scorer) -> None:
        spec = scorer.spec
        self._scorer = scorer
        hop = spec.mel_hop_samples
        self._hop_frames = spec.hop_samples // hop if hop and not spec.hop_samples % hop else 0
        self._held = EMPTY

    def run(self, windows: list[Window]) -> Scores:
        """Score `windows`, the next ones of the stream, at least one.

        Raises:
            ScoringError: as `Scorer.run`. The next window is then scored as a whole.
        """
        if not self._hop_frames:
            return self._scorer.run(np.stack([window.samples for window in windows]))
        scores = [self._next(window) for window in windows]
        return scores[0] if len(scores) == 1 else Scores(*(np.concatenate(parts) for parts in zip(*scores, strict=True)))

    def reset(self) -> None:
        """Overwrite and forget what is held; the next window is the first of a new stream."""
        if self._held.size:
            self._held.fill(0)
        self._held = EMPTY

    def _next(self, window: Window) -> Scores:
        held, self._held = self._held, EMPTY
        scores, power = self._scorer.run_on(window.samples[None], held)
        known, fresh = held.shape[2], power.shape[2]
        kept = max(0, known + fresh - self._hop_frames)  # what the next window begins with
        old = max(0, known - self._hop_frames)
        self._held = np.empty((1, power.shape[1], kept), np.float32)
        if old:
            self._held[:, :, :old] = held[:, :, known - old :]
        self._held[:, :, old:] = power[:, :, fresh - (kept - old) :]
        return scores
