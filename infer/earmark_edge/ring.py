"""The last seconds of audio, in RAM and nowhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]


class AudioRing:
    """Holds the most recent `capacity` samples of a stream, addressed by their position in the stream."""

    def __init__(self, capacity: int) -> None:
        self._samples: Samples = np.zeros(capacity, np.float32)
        self._end = 0

    @property
    def capacity(self) -> int:
        """Samples that can be held at once."""
        return len(self._samples)

    @property
    def end(self) -> int:
        """Position after the last sample of the stream."""
        return self._end

    def append(self, samples: Samples) -> None:
        """Take the next `samples`, at most `capacity`; the oldest are overwritten."""
        assert len(samples) <= self.capacity
        at = self._end % self.capacity
        head = min(len(samples), self.capacity - at)
        self._samples[at : at + head] = samples[:head]
        self._samples[: len(samples) - head] = samples[head:]
        self._end += len(samples)

    def cut(self, start: int, end: int) -> Samples:
        """A copy of the stream's samples `[start, end)`, which must still be held."""
        assert max(0, self._end - self.capacity) <= start <= end <= self._end
        return self._samples.take(range(start, end), mode="wrap")

    def wipe(self) -> None:
        """Overwrite everything with silence and start a new stream."""
        self._samples.fill(0)
        self._end = 0
