"""Crying: adults sob, babies wail."""

from __future__ import annotations

import numpy as np

from earmark_data.synth.contour import (
    FRAMES_PER_S,
    SAMPLE_RATE_HZ,
    Array,
    Sound,
    breakpoints,
    episodes,
    finish,
    frames_in,
    happens,
    smooth,
    wander,
)
from earmark_data.synth.voice import Larynx, Phonation, neutral_formants, phonate

BABY_TRACT_CM = 7.8


def baby_cry(rng: np.random.Generator, duration_s: float) -> Sound:
    """An infant's cry, `[duration_s * 16000]`, peak 0.5.

    Expirations of 0.5 to 1.2 s with a rising and falling melody (Wasz-Hockert et al., 1968), f0 of 400 to 600 Hz at its height,
    each followed by a pause and an audible inspiration of 0.12 to 0.3 s. Now and then dysphonation (noise) or hyperphonation, a
    jump to twice the pitch (LaGasse, Neal and Lester, 2005). The tract is 7.8 cm long: resonances near 1.1, 3.4 and 5.6 kHz.
    """
    height_hz = rng.uniform(430, 540)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    pieces: list[Array] = []
    length = 0
    while length < samples:
        height = float(np.clip(height_hz * rng.uniform(0.9, 1.12), 400, 600))
        pieces += [_wail(rng, rng.uniform(0.5, 1.2), height), _silence(rng, 0.04, 0.12), _baby_breath(rng), _silence(rng, 0.02, 0.1)]
        length = sum(len(piece) for piece in pieces)
    return finish(np.concatenate(pieces)[:samples], 0.02)


def _wail(rng: np.random.Generator, duration_s: float, height_hz: float) -> Array:
    frames = frames_in(duration_s)
    melody = smooth(breakpoints([(0, rng.uniform(0.75, 0.88)), (rng.uniform(0.2, 0.5), 1), (1, rng.uniform(0.7, 0.85))], frames), 0.1)
    if happens(rng, 0.15):  # hyperphonation: the folds jump to another mode
        start = int(frames * rng.uniform(0.15, 0.55))
        melody[start : start + int(0.3 * frames)] *= 2
    dysphonic = episodes(rng, frames, 0.3, 0.9, 0.06)
    loudness = smooth(breakpoints([(0, 0), (0.08, 0.8), (0.5, 1), (0.85, 0.7), (1, 0)], frames), 0.06)
    loudness = loudness * (1 + 0.12 * wander(rng, frames, 0.08))
    jaw = 1 + 0.25 * breakpoints([(0, -0.8), (0.3, 0.4), (0.7, 0.3), (1, -0.8)], frames) + 0.04 * wander(rng, frames, 0.15)
    formants = np.broadcast_to(neutral_formants(BABY_TRACT_CM), (frames, len(neutral_formants(BABY_TRACT_CM)))).copy()
    formants[:, 0] *= jaw
    larynx = Larynx(jitter=0.012, shimmer=0.08, subharmonic=0.5 * dysphonic, rough=0.4 * dysphonic, rough_hz=60.0)
    voice = Phonation(
        f0_hz=height_hz * melody * (1 + 0.012 * wander(rng, frames, 0.06)),
        voicing=loudness.clip(0),
        breath=loudness.clip(0) * (0.04 + 0.3 * dysphonic),
        formants_hz=formants,
        tilt_db=4.0,
        damping=2.2,
        larynx=larynx,
    )
    return phonate(voice, rng)


def _baby_breath(rng: np.random.Generator) -> Array:
    frames = frames_in(rng.uniform(0.12, 0.3))
    swell = smooth(breakpoints([(0, 0), (0.5, 1), (1, 0)], frames), 0.04)
    squeak = 0.12 * swell * happens(rng, 0.6)
    formants = np.broadcast_to(neutral_formants(BABY_TRACT_CM), (frames, len(neutral_formants(BABY_TRACT_CM))))
    f0_hz = rng.uniform(550, 750) * breakpoints([(0, 0.85), (1, 1.1)], frames)
    return phonate(Phonation(f0_hz, squeak, 0.12 * swell, formants, 6.0, 2.0, Larynx(jitter=0.03, shimmer=0.15)), rng)


def cry(rng: np.random.Generator, duration_s: float) -> Sound:
    """An adult sobbing, `[duration_s * 16000]`, peak 0.5.

    Each breath holds either a chain of 2 to 5 voiced sobs of 0.18 to 0.4 s or a wail of 0.6 to 1.4 s that falls in pitch with a tremor
    of 5 to 8 Hz, and ends in a breathy, at times voiced inhalation of 0.3 to 0.6 s. f0 of 300 to 650 Hz (women) or 200 to 450 Hz
    (men), well above talk, as the tense larynx of crying makes it (Vingerhoets and Bylsma, 2016; Pisanski et al., 2018).
    """
    man = happens(rng, 0.35)
    tract_cm = 17.0 if man else 14.8
    height_hz = rng.uniform(250, 380) if man else rng.uniform(400, 570)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    pieces: list[Array] = []
    length = 0
    while length < samples:
        height = height_hz * rng.uniform(0.9, 1.1)
        if happens(rng, 0.3):
            count = int(rng.integers(2, 6))
            for index in range(count):
                fall = 1 - 0.05 * index
                pieces += [fall * _moan(rng, rng.uniform(0.18, 0.4), height * fall, tract_cm, 0.6), _silence(rng, 0.04, 0.12)]
        else:
            pieces.append(_moan(rng, rng.uniform(0.6, 1.4), height, tract_cm, 0.25))
        pieces += [_silence(rng, 0.05, 0.15), _inhalation(rng, tract_cm, height), _silence(rng, 0.05, 0.25)]
        length = sum(len(piece) for piece in pieces)
    return finish(np.concatenate(pieces)[:samples], 0.02)


def _moan(rng: np.random.Generator, duration_s: float, height_hz: float, tract_cm: float, breathiness: float) -> Array:
    frames = frames_in(duration_s)
    time_s = np.arange(frames) / FRAMES_PER_S
    tremor = np.sin(2 * np.pi * rng.uniform(5, 8) * time_s + rng.uniform(0, 6))
    melody = smooth(breakpoints([(0, 0.9), (0.2, 1.05), (1, rng.uniform(0.65, 0.8))], frames), 0.05)
    loudness = smooth(breakpoints([(0, 0), (0.15, 1), (0.6, 0.7), (1, 0)], frames), 0.04) * (1 + 0.25 * tremor * min(1, duration_s))
    glottal = breathiness * smooth(breakpoints([(0, 1), (0.25, 0.4), (0.8, 0.3), (1, 0.8)], frames), 0.05)
    scale = 17.5 / tract_cm
    formants = np.concatenate(
        [np.asarray([rng.uniform(600, 800), rng.uniform(1_150, 1_500), 2_500]) * scale, neutral_formants(tract_cm)[3:]]
    )
    voice = Phonation(
        f0_hz=height_hz * melody * (1 + 0.03 * tremor + 0.015 * wander(rng, frames, 0.05)),
        voicing=loudness.clip(0),
        breath=0.2 * glottal * loudness.clip(0.1),
        formants_hz=formants * (1 + 0.03 * wander(rng, frames, 0.2)[:, None]),
        tilt_db=5.0,
        damping=1.8,
        larynx=Larynx(jitter=0.015, shimmer=0.1, rough=0.2, rough_hz=rng.uniform(30, 60)),
    )
    return phonate(voice, rng)


def _inhalation(rng: np.random.Generator, tract_cm: float, height_hz: float) -> Array:
    frames = frames_in(rng.uniform(0.3, 0.6))
    swell = smooth(breakpoints([(0, 0), (0.4, 1), (0.85, 0.7), (1, 0)], frames), 0.06)
    shudder = 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(7, 11) * np.arange(frames) / FRAMES_PER_S)
    formants = np.broadcast_to(neutral_formants(tract_cm), (frames, len(neutral_formants(tract_cm))))
    voicing = 0.15 * swell * shudder * happens(rng, 0.8)
    f0_hz = height_hz * 1.2 * breakpoints([(0, 0.9), (1, 1.2)], frames)
    return phonate(Phonation(f0_hz, voicing, 0.2 * swell * shudder, formants, 7.0, 1.8, Larynx(0.03, 0.15)), rng)


def _silence(rng: np.random.Generator, low_s: float, high_s: float) -> Array:
    return np.zeros(round(rng.uniform(low_s, high_s) * SAMPLE_RATE_HZ))
