"""An hour of speech of the corpus, with screams and planted noise between, for benchmarks of what a device lets out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from earmark_data.audio import read_audio
from earmark_data.manifest import read_manifest

RATE_HZ = 16_000
MARKER_S, BETWEEN_MARKERS_S = 4, 300

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Speech:
    """What is played: `pcm`, in it a marker at the begin, every so many seconds and at the end, all but the last followed by a scream.

    How many clips of speech, their sources, markers and screams there are, and how long the speech alone is.
    """

    pcm: Pcm
    clips: int
    sources: int
    markers: int
    screams: int
    seconds: float


def hour(corpus: Path, seconds: int) -> Speech:
    """Speech clips of the corpus one after another, those of the test split first, with planted noise and screams between."""
    rows = [row for split in ("test", "val", "train") for row in read_manifest(corpus / "manifest.csv").select(splits=(split,))]
    screams = iter([row for row in rows if row.label == "scream" and row.duration_s > 1])
    noise = np.random.default_rng(7)
    length = markers = used = 0
    parts: list[Pcm] = []
    sources: set[str] = set()
    for row in (row for row in rows if row.label == "speech"):
        if length >= markers * BETWEEN_MARKERS_S * RATE_HZ:
            parts.append(noise.integers(-900, 900, MARKER_S * RATE_HZ).astype(np.int16))
            parts.append(_pcm(next(screams).path))
            markers += 1
        parts.append(_pcm(row.path))
        length, used, sources = length + len(parts[-1]), used + 1, sources | {row.source}
        if length >= seconds * RATE_HZ:
            break
    parts.append(noise.integers(-900, 900, MARKER_S * RATE_HZ).astype(np.int16))
    return Speech(np.concatenate(parts), used, len(sources), markers + 1, markers, length / RATE_HZ)


def _pcm(path: Path) -> Pcm:
    return (np.clip(read_audio(path, sample_rate_hz=RATE_HZ), -1, 1) * 32_767).astype(np.int16)
