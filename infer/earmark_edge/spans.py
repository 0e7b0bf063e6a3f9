"""From decided windows to the spans that may leave the device: where the frames heard it, and no more. Pure.

Cells (see `timeline`) are judged in order as soon as no later window can change them, so the result does not depend on chunking.
A cell is *active* when it lies in a flagged window and a routed label reaches its lower threshold there. Active cells are joined over
gaps that are short and hold no speech of their own; flagged windows without any active cell are taken whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earmark_edge.decide import Rules
from earmark_edge.timeline import Timeline, cell_scores

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Span:
    """The stream's samples `[onset, offset)` of one event; `incident` counts up with every event that is not near the one before.

    `peaks` `[classes]` are the largest clip scores of the flagged windows that touch it, `track` `[cells, classes]` its scores over time.
    """

    onset: int
    offset: int
    incident: int
    peaks: Floats
    track: Floats


class SpanTracker:
    """Windows in, closed spans out."""

    def __init__(self, rules: Rules) -> None:
        spec, config = rules.spec, rules.config
        self._rules = rules
        self.cell_samples = spec.frame_hop_samples
        self._max_cells = max(1, self._cells(config.max_event_s, math.floor))
        self._min_cells = min(self._max_cells, self._cells(config.min_event_s, math.ceil))
        self._margin_cells = self._cells(config.margin_s, math.ceil)
        self._gap_cells = self._cells(config.merge_gap_s, math.floor)
        self._cut_cells = max(1, self._cells(config.speech_cut_s, math.ceil))
        self.reset()

    def reset(self) -> None:
        """As new, with incidents counted from 0."""
        self._timeline = Timeline(len(self._rules.spec.labels))
        self._flagged: list[tuple[int, int, Floats]] = []  # windows: start, end, clip scores
        self._judged = 0  # the cells before this one are judged
        self._run: int | None = None  # where the flagged cells that are being judged began
        self._is_located = False  # whether one of them was active
        self._open: tuple[int, int] | None = None  # active cells, joined so far
        self._exported = 0  # the end of the last span, widened: nothing is exported twice
        self._last_end: int | None = None  # the end of the last span, before it was widened
        self._incident = -1

    @property
    def is_open(self) -> bool:
        """Whether a span has begun that is not closed yet."""
        return self._open is not None or self._run is not None

    @property
    def lookback_samples(self) -> int:
        """How far behind the end of the newest window a span may begin that is still to come."""
        cells = self._max_cells + self._gap_cells + max(self._margin_cells, self._min_cells) + 2
        return cells * self.cell_samples + self._rules.spec.window_samples

    def feed(self, start: int, valid: int, clip_scores: Floats, frame_scores: Floats, *, is_flagged: bool) -> list[Span]:
        """Take the next window: its first sample, how many were heard, its scores `[classes]` and `[frames, classes]`, its decision."""
        first, cells = cell_scores(frame_scores, start, valid, self.cell_samples)
        self._timeline.add(first, cells, is_flagged=is_flagged)
        if is_flagged:
            self._flagged.append((start, start + valid, clip_scores))
        return self._judge_to((start + self._rules.spec.hop_samples) // self.cell_samples)

    def flush(self) -> list[Span]:
        """The stream has ended: close what is open, then as new."""
        end = self._timeline.end
        spans = self._judge_to(end) + self._end_run(end)
        if self._open:
            spans.append(self._close(self._open, end))
        self.reset()
        return spans

    def _cells(self, seconds: float, rounded: Callable[[float], int]) -> int:
        return rounded(round(seconds * self._rules.spec.sample_rate_hz) / self.cell_samples)

    def _judge_to(self, end: int) -> list[Span]:
        """Judge the cells before `end`, which no later window touches."""
        end = min(end, self._timeline.end)
        at = slice(self._judged - self._timeline.first, end - self._timeline.first)
        is_flagged = self._timeline.is_flagged[at]
        spans: list[Span] = []
        if is_flagged.any() or self.is_open:  # nearly always neither, and there is nothing to judge
            is_active = is_flagged & self._rules.holds(self._timeline.scores[at])
            for cell in range(self._judged, end):
                spans += self._judge(cell, is_flagged=bool(is_flagged[cell - self._judged]), is_active=bool(is_active[cell - self._judged]))
        self._judged = end
        self._forget()
        return spans

    def _judge(self, cell: int, *, is_flagged: bool, is_active: bool) -> list[Span]:
        spans: list[Span] = []
        if not is_flagged:
            spans += self._end_run(cell)
        elif self._run is None:
            self._run, self._is_located = cell, False
        if is_active:
            self._is_located = True
            spans += self._take(cell, cell + 1)
        elif self._run is not None and not self._is_located and cell + 1 - self._run == self._max_cells:
            spans += self._take(self._run, cell + 1)  # still nowhere in particular, and a span may not grow longer
            self._run = cell + 1
        if self._open and cell + 1 - self._open[1] > self._gap_cells:
            spans.append(self._close(self._open, cell + 1))
        return spans

    def _end_run(self, cell: int) -> list[Span]:
        """The flagged cells end before `cell`; where no frame located what the windows heard, all of them are taken."""
        run, self._run = self._run, None
        return self._take(run, cell) if run is not None and run < cell and not self._is_located else []

    def _take(self, start: int, end: int) -> list[Span]:
        """Join the cells `[start, end)` to the open span, or close that one and open another."""
        if self._open is None:
            self._open = (start, end)
            return []
        before = self._open
        if self._bridges(before[1], start):
            if end - before[0] <= self._max_cells:
                self._open = (before[0], end)
                return []
            if end - before[1] <= self._max_cells:
                start = before[1]  # a cut for length loses nothing
        span = self._close(before, start)
        self._open = (start, end)
        return [span]

    def _bridges(self, start: int, end: int) -> bool:
        """Whether the gap `[start, end)` is short and holds too little speech to be kept at home."""
        return end - start <= self._gap_cells and int(self._is_speech_only(start, end).sum()) < self._cut_cells

    def _is_speech_only(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        scores = self._timeline.scores[start - self._timeline.first : end - self._timeline.first]
        return self._rules.hears_speech(scores) & ~self._rules.holds(scores)

    def _close(self, cells: tuple[int, int], limit: int) -> Span:
        """The open span is complete: widen it, at most to `limit`, and trim it to the windows that were flagged."""
        is_near = self._last_end is not None and cells[0] - self._last_end <= self._gap_cells
        self._incident += not is_near
        self._last_end = cells[1]
        start, end = self._widened(*cells, limit)
        self._exported, self._open = end, None
        first, last = start * self.cell_samples, end * self.cell_samples
        touching = [window for window in self._flagged if window[0] < last and window[1] > first]
        onset = max(first, min(window[0] for window in touching))
        offset = min(last, max(window[1] for window in touching))
        peaks = np.max([window[2] for window in touching], axis=0)
        track = self._timeline.scores[start - self._timeline.first : end - self._timeline.first].copy()
        return Span(onset, offset, self._incident, peaks, track)

    def _widened(self, start: int, end: int, limit: int) -> tuple[int, int]:
        """Add the margin on both sides, then what is missing to the minimum, over flagged cells without speech of their own."""
        lowest = max(self._exported, self._timeline.first)
        is_free = self._timeline.is_flagged[lowest - self._timeline.first : limit - self._timeline.first]
        is_free = is_free & ~self._is_speech_only(lowest, limit)
        least_start, least_end = start - self._margin_cells, end + self._margin_cells
        is_growing = True
        while is_growing:
            is_growing = False
            if self._may_grow(start, end, wanted=end < least_end) and end < limit and is_free[end - lowest]:
                end, is_growing = end + 1, True
            if self._may_grow(start, end, wanted=start > least_start) and start > lowest and is_free[start - 1 - lowest]:
                start, is_growing = start - 1, True
        return start, end

    def _may_grow(self, start: int, end: int, *, wanted: bool) -> bool:
        return end - start < self._min_cells or (wanted and end - start < self._max_cells)

    def _forget(self) -> None:
        """Drop what no span to come can reach."""
        begins = [self._judged, *([self._open[0]] if self._open else []), *([] if self._run is None or self._is_located else [self._run])]
        needed = max(self._exported, min(begins) - max(self._margin_cells, self._min_cells))
        self._timeline.drop_before(min(needed, self._judged))
        self._flagged = [window for window in self._flagged if window[1] > needed * self.cell_samples]
