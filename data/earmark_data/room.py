"""A room that is heard: loudness of a clip where it matters, and a simple synthetic reverberation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earmark_data.synth.contour import FRAMES_PER_S, SAMPLE_RATE_HZ, frames_in
from earmark_data.synth.noise import CENTRES_HZ, shaped_noise

Samples = npt.NDArray[np.float32]

_LEVEL_SAMPLES = SAMPLE_RATE_HZ // 50
_ACTIVE_DB = 30.0
_SIXTY_DB = float(np.log(1_000))


def impulse_response(rng: np.random.Generator, decay_s: float, reverberant_db: float) -> Samples:
    """Direct sound, then noise that falls by 60 dB within `decay_s` at low frequencies and twice as fast at the highest.

    After Polack (1988): the late field of a room is noise under an exponential. `reverberant_db` is the level of the reverberation
    relative to the direct sound, about -12 dB beside the microphone and 0 dB across a furnished room.
    """
    time_s = np.arange(frames_in(decay_s)) / FRAMES_PER_S
    decays_s = decay_s / (1 + CENTRES_HZ / CENTRES_HZ[-1])
    tail = shaped_noise(np.exp(-_SIXTY_DB * time_s[:, None] / decays_s), rng)
    tail[: SAMPLE_RATE_HZ // 400] = 0  # the first wall is 40 cm or more away
    tail *= 10 ** (reverberant_db / 20) / np.sqrt((tail**2).sum())
    return np.concatenate([[1.0], tail]).astype(np.float32)


def reverberated(sound: Samples, response: Samples) -> Samples:
    """`sound` in the room of `response`, with the tail that outlasts it: `[samples + response - 1]`."""
    length = len(sound) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[:length].astype(np.float32)


def active(sound: Samples) -> Samples:
    """`sound` without the parts at its start and end that lie more than 30 dB below its loudest 20 ms; empty if it is silent."""
    levels = _levels(sound)
    if not levels.max(initial=0):
        return sound[:0]
    heard = np.flatnonzero(levels > levels.max() * 10 ** (-_ACTIVE_DB / 20))
    return sound[heard[0] * _LEVEL_SAMPLES : (heard[-1] + 1) * _LEVEL_SAMPLES]


def at_level(sound: Samples, level_dbfs: float) -> Samples:
    """`sound` scaled so that its active parts have the RMS of `level_dbfs` (0 is a full-scale square wave); silence stays silent."""
    levels = _levels(sound)
    loud = levels[levels > levels.max(initial=0) * 10 ** (-_ACTIVE_DB / 20)]
    if not loud.size:
        return sound
    return np.asarray(sound * (10 ** (level_dbfs / 20) / np.sqrt((loud**2).mean())), dtype=np.float32)


def unsteadiness_db(sound: Samples) -> float:
    """Standard deviation of the level of 20 ms blocks, in dB: small for a hum, large for knocks."""
    return float(np.std(20 * np.log10(_levels(sound) + 1e-5)))


def _levels(sound: Samples) -> npt.NDArray[np.float64]:
    blocks = -(-len(sound) // _LEVEL_SAMPLES)
    padded = np.zeros(blocks * _LEVEL_SAMPLES)
    padded[: len(sound)] = sound
    return np.asarray(np.sqrt((padded.reshape(-1, _LEVEL_SAMPLES) ** 2).mean(axis=1)))
