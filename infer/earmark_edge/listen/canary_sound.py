"""The canary: a scream made of numbers, the same on every device. No recording, no person's voice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

DURATION_S = 2.4
PEAK = 0.5
_UNREST_S = 0.02
"""How often the pitch takes another turn."""
_FORMANTS_HZ = ((1_000.0, 180.0), (1_600.0, 220.0), (2_900.0, 300.0), (3_900.0, 400.0), (5_000.0, 500.0))
"""Centre and bandwidth of an open vowel's resonances."""


def canary_sound(sample_rate_hz: int) -> Samples:
    """Two screams in a row, float32 `[samples]`, peak 0.5, `DURATION_S` long.

    Harmonics of a pitch that glides up to 1300 Hz, trembles and falls, through an open vowel; rough by amplitude modulation at 70 Hz,
    as screams are and speech is not (Arnal et al., 2015).
    """
    parts = [_scream(seed, sample_rate_hz, 0.5 * DURATION_S, pitch_hz) for seed, pitch_hz in ((1, 1_200.0), (2, 1_350.0))]
    sound = np.concatenate(parts)
    return np.asarray(PEAK * sound / np.abs(sound).max(), np.float32)


def _scream(seed: int, sample_rate_hz: int, duration_s: float, pitch_hz: float) -> npt.NDArray[np.float64]:
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    along = time_s / duration_s
    glide = np.interp(along, (0, 0.12, 0.75, 1), (0.55, 1, 0.96, 0.7))
    knots = np.arange(0, duration_s + _UNREST_S, _UNREST_S)
    unrest = np.interp(time_s, knots, 0.02 * _noise(seed, knots.size))
    f0_hz = pitch_hz * glide * (1 + 0.012 * np.sin(2 * np.pi * 6.5 * time_s) + unrest)
    phase = 2 * np.pi * np.cumsum(f0_hz) / sample_rate_hz
    sound = np.zeros_like(time_s)
    for order in range(1, int(0.47 * sample_rate_hz / 600)):
        hertz = order * f0_hz
        sound += np.where(hertz < 0.47 * sample_rate_hz, _vowel(hertz) * order**-0.4, 0) * np.cos(order * phase)
    breath = np.diff(1.7 * _noise(seed + 2, time_s.size + 1)) * 0.12 * np.abs(sound).max()
    rough = (1 + 0.6 * np.cos(2 * np.pi * 70 * time_s)) / 1.6
    loudness = np.interp(along, (0, 0.08, 0.8, 0.97, 1), (0, 1, 0.9, 0, 0))
    return np.asarray((sound + breath) * rough * loudness)


def _vowel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(sum(1 / (1 + ((hertz - centre) / width) ** 2) for centre, width in _FORMANTS_HZ) + 0.05)


def _noise(seed: int, count: int) -> npt.NDArray[np.float64]:
    """White enough, from -1 to 1, the same for a seed; numpy's generators are 3 MB of code that a device otherwise does without."""
    state = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # splitmix64 (Steele et al., 2014)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((state ^ (state >> np.uint64(31))) / 2.0**63 - 1.0)
