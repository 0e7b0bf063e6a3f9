"""Laughter: bouts of h-vowel calls in a steady rhythm."""

from __future__ import annotations

import numpy as np

from earmark_data.synth.contour import SAMPLE_RATE_HZ, Array, Sound, breakpoints, finish, frames_in, happens, smooth, wander
from earmark_data.synth.voice import Larynx, Phonation, neutral_formants, phonate


def laughter(rng: np.random.Generator, duration_s: float) -> Sound:
    """One person laughing, `[duration_s * 16000]`, peak 0.5.

    Bouts of 4 to 10 calls at 4.5 to 6 per second, each an h and a vowel of 80 to 130 ms, falling in pitch and loudness through the
    bout, then a breath (Provine and Yong, 1991; Bachorowski, Smoski and Owren, 2001: mean f0 about 270 Hz in men, 400 Hz in women,
    far more variable than speech; mostly central vowels).
    """
    man = happens(rng, 0.5)
    tract_cm = 17.0 if man else 14.8
    height_hz = rng.uniform(220, 340) if man else rng.uniform(340, 480)
    period_s = 1 / rng.uniform(4.5, 6)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    pieces: list[Array] = []
    length = 0
    while length < samples:
        calls = int(rng.integers(4, 11))
        start = rng.uniform(0.9, 1.15)
        for index in range(calls):
            fall = 1 - 0.35 * index / calls
            pieces.append(_call(rng, period_s * rng.uniform(0.93, 1.07), height_hz * start * fall, tract_cm) * fall)
        pieces += [_breath_in(rng, tract_cm), np.zeros(round(rng.uniform(0.1, 0.4) * SAMPLE_RATE_HZ))]
        length = sum(len(piece) for piece in pieces)
    return finish(np.concatenate(pieces)[:samples], 0.02)


def _call(rng: np.random.Generator, period_s: float, f0_hz: float, tract_cm: float) -> Array:
    frames = frames_in(period_s)
    vowel = smooth(breakpoints([(0, 0), (0.35, 0), (0.45, 1), (0.7, 0.8), (0.9, 0), (1, 0)], frames), 0.02)
    breath = smooth(breakpoints([(0, 0.15), (0.25, 1), (0.45, 0.4), (0.8, 0.3), (1, 0.15)], frames), 0.03)
    low = np.asarray([rng.uniform(520, 680), rng.uniform(1_250, 1_600), 2_500]) * 17.5 / tract_cm
    formants = np.broadcast_to(np.concatenate([low, neutral_formants(tract_cm)[3:]]), (frames, 3 + len(neutral_formants(tract_cm)[3:])))
    melody = smooth(breakpoints([(0, 0.9), (0.5, 1.05), (1, 0.85)], frames), 0.04) * (1 + 0.02 * wander(rng, frames, 0.05))
    return phonate(Phonation(f0_hz * melody, vowel, 0.8 * breath, formants, 6.0, 1.0, Larynx(0.04, 0.1)), rng)


def _breath_in(rng: np.random.Generator, tract_cm: float) -> Array:
    frames = frames_in(rng.uniform(0.25, 0.5))
    swell = 0.06 * smooth(breakpoints([(0, 0), (0.5, 1), (1, 0)], frames), 0.08)
    formants = np.broadcast_to(neutral_formants(tract_cm), (frames, len(neutral_formants(tract_cm))))
    return phonate(Phonation(np.full(frames, 300.0), np.zeros(frames), swell, formants), rng)
