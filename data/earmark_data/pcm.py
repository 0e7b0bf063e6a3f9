"""Decoded audio of a manifest in one memory-mapped file, so that training reads samples and never waits for a decoder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark_data.audio import AudioError, read_audio
from earmark_data.manifest import Manifest

FULL_SCALE = 32_767


class PcmStore:
    """16 kHz mono clips as 16-bit samples, one after another; indexed by position in the manifest that it was built from."""

    def __init__(self, samples: NDArray[np.int16], offsets: NDArray[np.int64], manifest: Manifest) -> None:
        self.samples = samples
        self.offsets = offsets
        self.rows = {row.index: position for position, row in enumerate(manifest)}

    @classmethod
    def open(cls, manifest: Manifest, cache: Path, *, workers: int = 2, progress: Callable[[int, int], None] | None = None) -> PcmStore:
        """Map the decoded clips of `manifest` from `cache`, decoding them first where that was not done before.

        A clip that cannot be decoded raises its own error; nothing half-written is ever mapped.

        Raises:
            AudioError: a clip is damaged; the text names it.
        """
        key = hashlib.sha256("\n".join([manifest.sha256, *(str(row.path) for row in manifest)]).encode()).hexdigest()[:16]
        pcm, index = cache / f"{key}.pcm", cache / f"{key}.npy"
        if not index.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _decode_all(manifest, pcm, index, workers, progress)
        offsets = np.load(index)
        return cls(np.memmap(pcm, np.int16, "r"), offsets, manifest)

    def length(self, row: int) -> int:
        """Samples of the clip with this manifest index."""
        position = self.rows[row]
        return int(self.offsets[position + 1] - self.offsets[position])

    def read(self, row: int, start: int = 0, samples: int | None = None) -> NDArray[np.float32]:
        """Samples of a clip in [-1, 1], `[samples]`, fewer where the clip ends."""
        position = self.rows[row]
        first, last = int(self.offsets[position]) + start, int(self.offsets[position + 1])
        stop = last if samples is None else min(last, first + samples)
        return self.samples[first:stop].astype(np.float32) / np.float32(FULL_SCALE)


def _decode(path: Path) -> NDArray[np.int16]:
    return np.round(np.clip(read_audio(path), -1, 1) * FULL_SCALE).astype(np.int16)


def _decode_all(manifest: Manifest, pcm: Path, index: Path, workers: int, progress: Callable[[int, int], None] | None) -> None:
    lengths = [0]
    partial = pcm.with_suffix(".partial")
    with partial.open("wb") as out, ProcessPoolExecutor(workers) as pool:
        for done, clip in enumerate(pool.map(_decode, [row.path for row in manifest], chunksize=32), 1):
            out.write(clip.tobytes())
            lengths.append(clip.size)
            if progress is not None:
                progress(done, len(manifest))
        out.flush()
        os.fsync(out.fileno())
    if sum(lengths) == 0:
        msg = f"{manifest.path}: no clip holds any sample"
        raise AudioError(msg)
    partial.rename(pcm)
    with index.with_suffix(".partial").open("wb") as out:  # last, since its presence says that the store is whole
        np.save(out, np.cumsum(lengths))
    index.with_suffix(".partial").rename(index)
