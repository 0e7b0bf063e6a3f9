"""Screams and shouts: a larynx driven far beyond its calm range, through a mouth wide open."""

from __future__ import annotations

import numpy as np

from earmark_data.synth.contour import SAMPLE_RATE_HZ, Array, Sound, breakpoints, episodes, finish, frames_in, happens, smooth, wander
from earmark_data.synth.speech import MAN_TRACT_CM
from earmark_data.synth.voice import Larynx, Phonation, neutral_formants, phonate

LONGEST_S = 2.0
"""A bout that has no more than this left ends in one scream."""


def scream(rng: np.random.Generator, duration_s: float) -> Sound:
    """One bout of screaming, `[duration_s * 16000]`, peak 0.5.

    Screams of 0.6 to 1.8 s with gasps of 0.15 to 0.35 s between them. f0 glides up from a half to its height of 700 to 1700 Hz in
    60 to 160 ms, stays, with vibrato of 5 to 8 Hz, and falls at the end. Roughness: amplitude modulation at 40 to 120 Hz
    with a depth of 0.35 to 0.85 (Arnal et al., 2015, who find the range 30-150 Hz in screams and hardly in speech).
    Episodes of subharmonics and of chaos (Schwartz, Engelberg and Gouzoules, 2020; Anikin et al., 2020). Open vowel, flat spectrum.
    """
    height_hz = float(np.exp(rng.uniform(np.log(800), np.log(1_500))))
    tract_cm = rng.uniform(13, 16.5)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    pieces: list[Array] = []
    length = 0
    while length < samples:
        left_s = (samples - length) / SAMPLE_RATE_HZ
        cry_s = rng.uniform(0.7, 1.8) if left_s > LONGEST_S else left_s
        height = float(np.clip(height_hz * rng.uniform(0.88, 1.12), 700, 1_700))
        pieces += [_one_scream(rng, max(cry_s, 0.1), height, tract_cm), _gasp(rng, rng.uniform(0.15, 0.35), tract_cm)]
        length += sum(len(piece) for piece in pieces[-2:])
    return finish(np.concatenate(pieces)[:samples], 0.02)


def _one_scream(rng: np.random.Generator, duration_s: float, height_hz: float, tract_cm: float) -> Array:
    frames = frames_in(duration_s)
    rise = min(rng.uniform(0.06, 0.16) / duration_s, 0.4)
    glide = smooth(
        breakpoints([(0, rng.uniform(0.45, 0.65)), (rise, 1), (0.75, rng.uniform(0.93, 1)), (1, rng.uniform(0.6, 0.8))], frames), 0.06
    )
    time_s = np.arange(frames) / 200
    vibrato = 1 + rng.uniform(0.002, 0.008) * np.sin(2 * np.pi * rng.uniform(5, 8) * time_s + rng.uniform(0, 6))
    chaos = episodes(rng, frames, 0.25, 0.9, 0.05)
    f0_hz = height_hz * glide * vibrato * (1 + 0.012 * wander(rng, frames, 0.05) + 0.05 * chaos * wander(rng, frames, 0.012))
    loudness = smooth(breakpoints([(0, 0), (min(0.06 / duration_s, 0.3), 1), (0.8, 0.85), (1, 0)], frames), 0.03)
    rough_hz = np.clip(rng.uniform(50, 100) * (1 + 0.15 * wander(rng, frames, 0.1)), 35, 140)
    larynx = Larynx(
        jitter=0.05,
        shimmer=0.12,
        subharmonic=0.5 * episodes(rng, frames, 0.3, 0.7, 0.04),
        rough=np.clip(rng.uniform(0.4, 0.75) + 0.2 * wander(rng, frames, 0.2), 0.3, 0.9),
        rough_hz=rough_hz,
    )
    return phonate(
        Phonation(
            f0_hz=np.clip(f0_hz, 250, 1_800),
            voicing=loudness,
            breath=loudness * (0.3 + 0.4 * chaos),
            formants_hz=open_formants(rng, frames, tract_cm),
            tilt_db=rng.uniform(1, 4),
            damping=1.8,
            larynx=larynx,
        ),
        rng,
    )


def open_formants(rng: np.random.Generator, frames: int, tract_cm: float) -> Array:
    """Formants `[frames, formants]` of a wide-open /a/: with the jaw, F1 rises to 900-1100 Hz in a man's tract (Rostolland, 1982)."""
    scale = MAN_TRACT_CM / tract_cm
    low = np.asarray([rng.uniform(900, 1_050), rng.uniform(1_400, 1_700), rng.uniform(2_500, 2_900)]) * scale
    formants = np.concatenate([low, neutral_formants(tract_cm)[3:]])
    return np.asarray(formants * (1 + 0.03 * wander(rng, frames, 0.2)[:, None]))


def _gasp(rng: np.random.Generator, duration_s: float, tract_cm: float) -> Array:
    frames = frames_in(duration_s)
    swell = 0.12 * smooth(breakpoints([(0, 0), (0.3, 1), (0.8, 0.6), (1, 0)], frames), 0.05)
    formants = np.broadcast_to(neutral_formants(tract_cm), (frames, len(neutral_formants(tract_cm))))
    return phonate(Phonation(np.full(frames, 300.0), np.zeros(frames), swell, formants), rng)


def shout(rng: np.random.Generator, duration_s: float) -> Sound:
    """Shouted syllables ("hey!", "no!", "stop it!"), `[duration_s * 16000]`, peak 0.5.

    One to three syllables of 0.2 to 0.45 s, pauses of 0.25 to 0.6 s; f0 of 230 to 420 Hz (men) or 340 to 620 Hz (women), arched;
    little spectral tilt and a raised F1 (Rostolland, 1982); slight roughness.
    """
    man = happens(rng, 0.5)
    tract_cm = 17.0 if man else 14.8
    height_hz = rng.uniform(260, 380) if man else rng.uniform(400, 560)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    pieces: list[Array] = []
    length = 0
    while length < samples:
        word = [
            _shouted_syllable(rng, rng.uniform(0.2, 0.45), height_hz * rng.uniform(0.9, 1.1), tract_cm) for _ in range(rng.integers(1, 4))
        ]
        pieces += [*word, np.zeros(round(rng.uniform(0.25, 0.6) * SAMPLE_RATE_HZ))]
        length = sum(len(piece) for piece in pieces)
    return finish(np.concatenate(pieces)[:samples], 0.02)


def _shouted_syllable(rng: np.random.Generator, duration_s: float, height_hz: float, tract_cm: float) -> Array:
    frames = frames_in(duration_s)
    arch = smooth(breakpoints([(0, 0.8), (0.35, 1), (1, 0.75)], frames), 0.05)
    loudness = smooth(breakpoints([(0, 0), (0.15, 1), (0.7, 0.9), (1, 0)], frames), 0.04)
    glottal = smooth(breakpoints([(0, 1), (0.12, 0.6), (0.3, 0), (1, 0)], frames), 0.02)  # an h before the vowel
    target = open_formants(rng, frames, tract_cm)
    end = target.copy()
    end[:, :2] *= rng.uniform((0.5, 0.7), (1, 1.4))  # diphthongs, as in hey and no
    mix = breakpoints([(0, 0), (0.4, 0.1), (1, 1)], frames)[:, None]
    larynx = Larynx(jitter=0.04, shimmer=0.1, rough=rng.uniform(0.2, 0.5), rough_hz=rng.uniform(40, 80))
    voice = Phonation(height_hz * arch, loudness, 0.2 * loudness + 0.4 * glottal, target * (1 - mix) + end * mix, 2.5, 1.5, larynx)
    return phonate(voice, rng)
