"""Sound files as streams of blocks; the one place where the edge reaches for the project's decoder, and only when a file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

BLOCK_S = 10.0


class CaptureError(ValueError):
    """There is nothing to hear; the message names the file and the cause."""


def files_of(path: Path) -> list[Path]:
    """`path` itself, or every sound file below it if it is a folder, sorted.

    Raises:
        CaptureError: it does not exist, or is a folder without audio.
    """
    reader = _reader()
    try:
        found: list[Path] = reader.find_audio([path])
    except reader.AudioError as error:
        raise CaptureError(str(error)) from error
    return found


def duration_s(path: Path) -> float:
    """Length of a sound file in seconds, by its header.

    Raises:
        CaptureError: it is no readable sound file.
    """
    reader = _reader()
    try:
        return float(reader.probe_audio(path).duration_s)
    except reader.AudioError as error:
        raise CaptureError(str(error)) from error


def blocks(path: Path, sample_rate_hz: int) -> Iterator[Samples]:
    """The samples of a sound file, float32 mono in [-1, 1] at `sample_rate_hz`, in blocks of ten seconds.

    Raises:
        CaptureError: the file cannot be read; also half-way, where damage shows only then.
    """
    reader = _reader()
    try:
        yield from reader.stream_audio(path, sample_rate_hz=sample_rate_hz, block_s=BLOCK_S)
    except reader.AudioError as error:
        raise CaptureError(str(error)) from error


def _reader() -> ModuleType:
    try:
        import earmark_data.audio as reader  # noqa: PLC0415 - a device that hears a microphone has no decoder installed
    except (ImportError, OSError) as error:  # OSError: soundfile is there, libsndfile is not
        msg = f"sound files need the decoder, which cannot be loaded here ({error}); install it with: pip install 'earmark[edge]'"
        raise CaptureError(msg) from error
    return reader
