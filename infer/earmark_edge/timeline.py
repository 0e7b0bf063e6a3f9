"""Frame scores of overlapping windows, laid over one another on a fixed grid of cells. Pure.

Cell `c` covers the stream's samples `[c * cell_samples, (c + 1) * cell_samples)`, with `cell_samples` the graph's frame hop. A cell's
score is the largest that any frame touching it got in any window: windows disagree at their edges, and a miss costs more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def cell_scores(frame_scores: Floats, start: int, valid: int, cell_samples: int) -> tuple[int, Floats]:
    """First cell, and the scores `[cells, classes]` that the frames `[frames, classes]` of a window give to the cells it touches.

    The window starts at the stream's sample `start`, and only its first `valid` samples were heard: frames of padding alone count nowhere.
    """
    first, last = start // cell_samples, (start + valid - 1) // cell_samples
    left = np.arange(first, last + 1) * cell_samples - start  # each cell, in samples of the window
    right = np.minimum(left + cell_samples, valid)
    highest = len(frame_scores) - 1
    earlier = np.minimum(np.maximum(left // cell_samples, 0), highest)  # np.clip takes four times as long on so few
    later = np.minimum(np.maximum((right - 1) // cell_samples, 0), highest)
    return first, np.maximum(frame_scores[earlier], frame_scores[later])


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
