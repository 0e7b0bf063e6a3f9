"""Cuts a stream of samples, however it arrives, into the overlapping windows that a graph scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """One input of the graph: `samples` from the stream's sample `start` on, of which the first `valid` were heard; zeros follow."""

    start: int
    valid: int
    samples: Samples

    @property
    def end(self) -> int:
        """The stream's sample after the last one heard in this window."""
        return self.start + self.valid


class Windower:
    """Windows of `window_samples`, one every `hop_samples`, the same for any chunking.

    >>> windower = Windower(window_samples=4, hop_samples=2)
    >>> [window.start for window in windower.feed(np.arange(7, dtype=np.float32))]
    [0, 2]
    >>> [(window.start, window.valid, window.samples.tolist()) for window in windower.flush()]
    [(4, 3, [4.0, 5.0, 6.0, 0.0])]
    """

    def __init__(self, window_samples: int, hop_samples: int) -> None:
        if not 0 < hop_samples <= window_samples:
            msg = f"a hop of {hop_samples} samples would leave gaps between windows of {window_samples}; expected 1 to {window_samples}"
            raise ValueError(msg)
        self.window_samples = window_samples
        self.hop_samples = hop_samples
        self._held: Samples = np.zeros(window_samples, np.float32)
        self._count = 0  # samples held at present, at the beginning of it
        self._start = 0
        self._has_given = False

    def feed(self, samples: Samples) -> list[Window]:
        """The windows that `samples`, float32 `[samples]` of any length, complete."""
        windows = []
        while len(samples):
            taken = samples[: self.window_samples - self._count]
            self._held[self._count : self._count + len(taken)] = taken
            self._count += len(taken)
            samples = samples[len(taken) :]
            if self._count == self.window_samples:
                windows.append(self._window())
                self._count -= self.hop_samples
                self._held[: self._count] = self._held[self.hop_samples :]
                self._start += self.hop_samples
                self._has_given = True
        return windows

    def flush(self) -> list[Window]:
        """The zero-padded window over the samples that no window has held yet, if there are any; then as new."""
        already = self.window_samples - self.hop_samples if self._has_given else 0
        self._held[self._count :] = 0
        windows = [self._window()] if self._count > already else []
        self.reset()
        return windows

    def reset(self) -> None:
        """Overwrite and forget everything; the next sample is the first of a new stream."""
        self._held.fill(0)
        self._count = self._start = 0
        self._has_given = False

    def _window(self) -> Window:
        return Window(self._start, self._count, self._held.copy())
