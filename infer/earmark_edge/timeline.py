"""Frame scores of overlapping windows, laid over one another on a fixed grid of cells. Pure.

Cell `c` covers the stream's samples `[c * cell_samples, (c + 1) * cell_samples)`, with `cell_samples` the graph's frame hop. A cell's
score is the largest that any frame touching it got in any window: windows disagree at their edges, and a miss costs more.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


def cell_scores(frame_scores: Floats, start: int, valid: int, cell_samples: int) -> tuple[int, Floats]:
    """First cell, and the scores `[cells, classes]` that the frames `[frames, classes]` of a window give to the cells it touches.

    The window starts at the stream's sample `start`, and only its first `valid` samples were heard: frames of padding alone count nowhere.
    """
    earlier, later = _frames_of_cells(start % cell_samples, valid, cell_samples, len(frame_scores))
    return start // cell_samples, np.maximum(frame_scores.take(earlier, axis=0), frame_scores.take(later, axis=0))


@lru_cache(maxsize=64)  # the windows of a stream lie in few ways on the grid, and come again and again
def _frames_of_cells(offset: int, valid: int, cell_samples: int, frames: int) -> tuple[Indices, Indices]:
    """The first and the last frame that touch each cell `[cells]` of a window which starts `offset` samples into its first cell."""
    left = np.arange(-offset, valid, cell_samples)  # each cell, in samples of the window
    right = np.minimum(left + cell_samples, valid)
    return (left // cell_samples).clip(0, frames - 1), ((right - 1) // cell_samples).clip(0, frames - 1)


class Timeline:
    """A sliding part of the grid: `scores` `[cells, classes]` and `is_flagged` `[cells]`, from cell `first` on."""

    def __init__(self, classes: int) -> None:
        self.first = 0
        self.scores: Floats = np.zeros((0, classes), np.float32)
        self.is_flagged: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    @property
    def end(self) -> int:
        """The cell after the last one that has a score."""
        return self.first + len(self.scores)

    def add(self, first: int, scores: Floats, *, is_flagged: bool) -> None:
        """Lay a window's cells over what is there; a cell is flagged once any window that touches it is."""
        new = first + len(scores) - self.end
        if new > 0:
            self.scores = np.concatenate([self.scores, np.zeros((new, scores.shape[1]), np.float32)])
            self.is_flagged = np.concatenate([self.is_flagged, np.zeros(new, np.bool_)])
        at = slice(first - self.first, first - self.first + len(scores))
        self.scores[at] = np.maximum(self.scores[at], scores)
        self.is_flagged[at] |= is_flagged

    def drop_before(self, cell: int) -> None:
        """Forget the cells before `cell`."""
        count = max(0, cell - self.first)
        self.scores = self.scores[count:]
        self.is_flagged = self.is_flagged[count:]
        self.first += count
