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
        self._held: Samples = np.zeros(0, np.float32)
        self._start = 0
        self._has_given = False

    def feed(self, samples: Samples) -> list[Window]:
        """The windows that `samples`, float32 `[samples]` of any length, complete."""
        self._held = np.concatenate([self._held, samples])
        count = max(0, (len(self._held) - self.window_samples) // self.hop_samples + 1)
        windows = [self._window(i * self.hop_samples) for i in range(count)]
        self._start += count * self.hop_samples
        self._held = self._held[count * self.hop_samples :].copy()  # a view would keep the whole chunk alive
        self._has_given = self._has_given or count > 0
        return windows

    def flush(self) -> list[Window]:
        """The zero-padded window over the samples that no window has held yet, if there are any; then as new."""
        already = self.window_samples - self.hop_samples if self._has_given else 0
        windows = [self._window(0)] if len(self._held) > already else []
        self.reset()
        return windows

    def reset(self) -> None:
        """Overwrite and forget everything; the next sample is the first of a new stream."""
        self._held.fill(0)
        self._held = np.zeros(0, np.float32)
        self._start = 0
        self._has_given = False

    def _window(self, offset: int) -> Window:
        heard = self._held[offset : offset + self.window_samples]
        missing = self.window_samples - len(heard)
        samples = np.pad(heard, (0, missing)) if missing else heard.copy()
        return Window(self._start + offset, len(heard), samples)
