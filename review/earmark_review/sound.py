"""Decodes a held clip for the pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from earmark_review.errors import SoundError

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 192_000
_BLOCK_FRAMES = 65_536


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono samples in [-1, 1], `[samples]`; `is_cut` where the clip went on beyond what was decoded."""

    samples: NDArray[np.float32]
    rate_hz: int
    is_cut: bool

    @property
    def duration_s(self) -> float:
        """Seconds decoded."""
        return len(self.samples) / self.rate_hz


def read_sound(source: Path | BinaryIO, cap_s: float) -> Sound:
    """Decode at most `cap_s` seconds and mix the channels down. A clip is a stranger's file: nothing in it is believed.

    Raises:
        SoundError: not a sound that can be decoded, or one without samples.
    """
    try:
        with soundfile.SoundFile(source) as file:
            rate_hz = int(file.samplerate)
            if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
                msg = f"the clip claims {rate_hz} samples per second; {MIN_RATE_HZ} to {MAX_RATE_HZ} can be drawn"
                raise SoundError(msg)
            samples = _mono(file, round(cap_s * rate_hz))
            is_cut = len(file.read(1)) == 1
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, SoundError):
            raise
        msg = f"the clip cannot be decoded ({error})"
        raise SoundError(msg) from error
    if not len(samples):
        msg = "the clip holds no samples"
        raise SoundError(msg)
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return Sound(np.clip(finite, -1, 1), rate_hz, is_cut)


def _mono(file: soundfile.SoundFile, wanted: int) -> NDArray[np.float32]:
    """At most `wanted` frames, mixed down block by block: a header may announce a thousand channels of an hour."""
    blocks: list[NDArray[np.float32]] = []
    while wanted > 0:
        block = file.read(min(wanted, _BLOCK_FRAMES), dtype="float32", always_2d=True)  # [frames, channels]
        if not len(block):
            break
        wanted -= len(block)
        blocks.append(block.mean(axis=1))
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


_MOMENT_S = 0.4
_FADE_S = 0.15


def quiet_wav(sound: Sound, loudness_dbfs: float) -> bytes:
    """The sound as 16-bit WAV that does not startle: brought down where it is loud, with a fade at its beginning.

    Its loudest 400 ms (by RMS, over the momentary window of EBU Tech 3341) lie at `loudness_dbfs` at most, and its peak 12 dB above.
    """
    limit = 10 ** (loudness_dbfs / 20)
    window = max(1, min(round(_MOMENT_S * sound.rate_hz), len(sound.samples)))
    sums = np.cumsum(np.concatenate([[0.0], np.square(sound.samples, dtype=np.float64)]))
    loudest = float(np.sqrt(max(0.0, float(np.max(sums[window:] - sums[:-window]))) / window))
    gain = min(1.0, limit / loudest) if loudest else 1.0
    fade = np.minimum(1.0, np.arange(len(sound.samples)) / (_FADE_S * sound.rate_hz))
    samples = np.clip(gain * sound.samples, -4 * limit, 4 * limit) * fade
    stream = io.BytesIO()
    soundfile.write(stream, samples, sound.rate_hz, format="WAV", subtype="PCM_16")
    return stream.getvalue()
