"""The canary: a scream made of numbers, the same on every device. No recording, no person's voice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

DURATION_S = 2.4
PEAK = 0.5
_SEED = 20_240
_UNREST_S = 0.02
"""How often the pitch takes another turn."""
_FORMANTS_HZ = ((1_000.0, 180.0), (1_600.0, 220.0), (2_900.0, 300.0), (3_900.0, 400.0), (5_000.0, 500.0))
"""Centre and bandwidth of an open vowel's resonances."""


def canary_sound(sample_rate_hz: int) -> Samples:
    """Two screams in a row, float32 `[samples]`, peak 0.5, `DURATION_S` long.

    Harmonics of a pitch that glides up to 1300 Hz, trembles and falls, through an open vowel; rough by amplitude modulation at 70 Hz,
    as screams are and speech is not (Arnal et al., 2015).
    """
    rng = np.random.default_rng(_SEED)
    parts = [_scream(rng, sample_rate_hz, share * DURATION_S, pitch_hz) for share, pitch_hz in ((0.5, 1_200.0), (0.5, 1_350.0))]
    sound = np.concatenate(parts)
    return np.asarray(PEAK * sound / np.abs(sound).max(), np.float32)


def _scream(rng: np.random.Generator, sample_rate_hz: int, duration_s: float, pitch_hz: float) -> npt.NDArray[np.float64]:
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    along = time_s / duration_s
    glide = np.interp(along, (0, 0.12, 0.75, 1), (0.55, 1, 0.96, 0.7))
    knots = np.arange(0, duration_s + _UNREST_S, _UNREST_S)
    unrest = np.interp(time_s, knots, rng.normal(0, 0.012, knots.size))
    f0_hz = pitch_hz * glide * (1 + 0.012 * np.sin(2 * np.pi * 6.5 * time_s) + unrest)
    phase = 2 * np.pi * np.cumsum(f0_hz) / sample_rate_hz
    sound = np.zeros_like(time_s)
    for order in range(1, int(0.47 * sample_rate_hz / 600)):
        hertz = order * f0_hz
        sound += np.where(hertz < 0.47 * sample_rate_hz, _vowel(hertz) * order**-0.4, 0) * np.cos(order * phase)
    breath = np.diff(rng.normal(size=time_s.size + 1)) * 0.12 * np.abs(sound).max()
    rough = (1 + 0.6 * np.cos(2 * np.pi * 70 * time_s)) / 1.6
    loudness = np.interp(along, (0, 0.08, 0.8, 0.97, 1), (0, 1, 0.9, 0, 0))
    return np.asarray((sound + breath) * rough * loudness)


def _vowel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(sum(1 / (1 + ((hertz - centre) / width) ** 2) for centre, width in _FORMANTS_HZ) + 0.05)
