"""Speech-like babble: syllables of formant-synthesised nonsense with the rhythm, melody and pauses of talk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earmark_data.synth.contour import FRAMES_PER_S, SAMPLE_RATE_HZ, Array, Sound, breakpoints, finish, happens, smooth, wander
from earmark_data.synth.noise import band, shaped_noise
from earmark_data.synth.voice import Larynx, Phonation, neutral_formants, phonate

VOWELS_HZ = (
    (270, 2290, 3010),
    (390, 1990, 2550),
    (530, 1840, 2480),
    (660, 1720, 2410),
    (730, 1090, 2440),
    (570, 840, 2410),
    (440, 1020, 2240),
    (300, 870, 2240),
    (640, 1190, 2390),
    (500, 1500, 2500),
)
"""F1, F2, F3 of men's vowels (Peterson and Barney, 1952) and the neutral vowel; a shorter tract scales them."""
MAN_TRACT_CM = 17.5


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who talks: mean f0, length of the vocal tract, and syllables per second (3.5 to 6 in talk; Ding et al., 2017)."""

    f0_hz: float
    tract_cm: float
    syllables_per_s: float = 4.5

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Speaker:
        """A man (90-140 Hz), a woman (165-240 Hz) or a schoolchild (220-265 Hz; Whiteside and Hodgson, 2000)."""
        low_hz, high_hz, tract_cm = ((90, 140, 17.5), (165, 240, 14.8), (220, 265, 12.5))[rng.choice(3, p=(0.4, 0.45, 0.15))]
        return cls(rng.uniform(low_hz, high_hz), tract_cm * rng.uniform(0.95, 1.05), rng.uniform(3.8, 5.5))


@dataclass(frozen=True, slots=True)
class _Sound:
    """One speech sound: target formants (men's, Hz), levels of voicing, breath and frication, and the frication's band."""

    duration_s: float
    formants_hz: tuple[float, float, float]
    voicing: float = 0.0
    breath: float = 0.0
    frication: float = 0.0
    band_hz: tuple[float, float] = (3_000, 7_000)


def babble(rng: np.random.Generator, duration_s: float, speaker: Speaker | None = None) -> Sound:
    """Speech-like sound of one speaker, `[duration_s * 16000]`, peak 0.5.

    Breath groups of 4 to 12 syllables, pauses of 0.15 to 0.7 s between them; f0 declines by 3 to 5 semitones through a group
    and rises by 2 to 4 on accented syllables (Cohen, Collier and 't Hart, 1982); jitter about 1 %, shimmer about 5 %.
    Consonants: stops with closure, burst and voice onset time; fricatives (Stevens, 1998); nasals; glides.
    """
    speaker = speaker or Speaker.draw(rng)
    samples = round(duration_s * SAMPLE_RATE_HZ)
    groups: list[Array] = []
    length = 0
    while length < samples:
        group = _breath_group(rng, speaker, int(rng.integers(4, 13)))
        pause = np.zeros(round(rng.uniform(0.15, 0.7) * SAMPLE_RATE_HZ))
        groups += [group * rng.uniform(0.7, 1), pause]
        length += len(group) + len(pause)
    return finish(np.concatenate(groups)[:samples], 0.02)


def _breath_group(rng: np.random.Generator, speaker: Speaker, syllables: int) -> Array:
    score: list[_Sound] = []
    accents: list[float] = []  # semitones, one per speech sound
    for index in range(syllables):
        accented = happens(rng, 0.4)
        last = index == syllables - 1
        stretch = (1.25 if accented else 0.9) * (1.5 if last else 1) * 4.5 / speaker.syllables_per_s
        sounds = _syllable(rng, stretch)
        score += sounds
        accents += [rng.uniform(2, 4) if accented else 0.0] * len(sounds)
    return _render(rng, speaker, score, accents)


def _syllable(rng: np.random.Generator, stretch: float) -> list[_Sound]:
    f1_hz, f2_hz, f3_hz = VOWELS_HZ[rng.integers(len(VOWELS_HZ))]
    undershot = (0.8 * f1_hz + 0.2 * 500, 0.8 * f2_hz + 0.2 * 1_500, float(f3_hz))  # as in running speech (Lindblom, 1963)
    vowel = _Sound(stretch * rng.uniform(0.09, 0.15), undershot, voicing=1.0, breath=0.015)
    onset = _consonant(rng, stretch)
    coda = _consonant(rng, 0.8 * stretch) if happens(rng, 0.3) else []
    return [*onset, vowel, *coda]


def _consonant(rng: np.random.Generator, stretch: float) -> list[_Sound]:
    """One of the manners of articulation at one of three places: lips, tooth ridge, soft palate."""
    place = _PLACES[rng.integers(len(_PLACES))]
    manners = list(_MANNERS)
    manner = manners[rng.choice(len(manners), p=list(_MANNERS.values()))]
    return manner(rng, stretch, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a consonant is made: the second formant it starts from, and the band of its burst."""

    f2_hz: float
    burst_hz: tuple[float, float]


_PLACES = (_Place(900, (500, 2_000)), _Place(1_750, (3_000, 6_500)), _Place(2_100, (1_500, 3_000)))


def _none(_rng: np.random.Generator, _stretch: float, _place: _Place) -> list[_Sound]:
    return []


def _voiceless_stop(rng: np.random.Generator, stretch: float, place: _Place) -> list[_Sound]:
    mouth = (250.0, place.f2_hz, 2_500.0)
    closure = _Sound(stretch * rng.uniform(0.05, 0.08), mouth)
    burst = _Sound(0.012, mouth, frication=0.5, band_hz=place.burst_hz)
    return [closure, burst, _Sound(rng.uniform(0.02, 0.05), mouth, breath=0.12)]


def _voiced_stop(rng: np.random.Generator, stretch: float, place: _Place) -> list[_Sound]:
    mouth = (200.0, place.f2_hz, 2_500.0)
    closure = _Sound(stretch * rng.uniform(0.04, 0.06), mouth, voicing=0.12)
    return [closure, _Sound(0.01, mouth, voicing=0.2, frication=0.3, band_hz=place.burst_hz)]


def _voiceless_fricative(rng: np.random.Generator, stretch: float, _place: _Place) -> list[_Sound]:
    low_hz, high_hz, level = ((3_800.0, 7_500.0, 0.5), (2_000.0, 5_500.0, 0.45), (1_200.0, 7_500.0, 0.1))[rng.integers(3)]  # s, sh, f
    return [_Sound(stretch * rng.uniform(0.07, 0.12), (300, 1_700, 2_600), frication=level, band_hz=(low_hz, high_hz))]


def _voiced_fricative(rng: np.random.Generator, stretch: float, place: _Place) -> list[_Sound]:
    mouth = (300.0, place.f2_hz, 2_600.0)
    return [_Sound(stretch * rng.uniform(0.05, 0.08), mouth, voicing=0.3, frication=0.12, band_hz=(2_500, 7_500))]


def _nasal(rng: np.random.Generator, stretch: float, place: _Place) -> list[_Sound]:
    return [_Sound(stretch * rng.uniform(0.05, 0.08), (250, 1_000 + 0.2 * place.f2_hz, 2_300), voicing=0.35)]


def _glide(rng: np.random.Generator, stretch: float, _place: _Place) -> list[_Sound]:
    mouths = ((300.0, 2_100.0, 2_900.0), (320.0, 750.0, 2_300.0), (380.0, 1_200.0, 2_700.0), (380.0, 1_200.0, 1_650.0))  # j, w, l, r
    return [_Sound(stretch * rng.uniform(0.05, 0.07), mouths[rng.integers(len(mouths))], voicing=0.6)]


_MANNERS = {
    _none: 0.08,
    _voiceless_stop: 0.22,
    _voiced_stop: 0.15,
    _voiceless_fricative: 0.2,
    _voiced_fricative: 0.07,
    _nasal: 0.14,
    _glide: 0.14,
}


def _render(rng: np.random.Generator, speaker: Speaker, score: list[_Sound], accents: list[float]) -> Array:
    counts = [max(2, round(sound.duration_s * FRAMES_PER_S)) for sound in score]
    frames = sum(counts)

    def drawn(values: list[float]) -> Array:
        return np.repeat(np.asarray(values, dtype=np.float64), counts)

    semitones = breakpoints([(0, 2), (1, -rng.uniform(1, 3))], frames) + smooth(drawn(accents), 0.12) + 0.4 * wander(rng, frames, 0.15)
    moved = smooth(np.repeat(np.asarray([sound.formants_hz for sound in score], dtype=np.float64), counts, axis=0), 0.07)
    scale = MAN_TRACT_CM / speaker.tract_cm
    upper = neutral_formants(speaker.tract_cm)[3:]
    formants = np.concatenate([moved * scale, np.broadcast_to(upper, (frames, len(upper)))], axis=1)
    voice = phonate(
        Phonation(
            f0_hz=speaker.f0_hz * 2 ** (semitones / 12),
            voicing=smooth(drawn([sound.voicing for sound in score]), 0.025),
            breath=smooth(drawn([sound.breath for sound in score]), 0.015),
            formants_hz=formants,
            tilt_db=7.0,
            larynx=Larynx(jitter=0.01, shimmer=0.05),
        ),
        rng,
    )
    bands = np.repeat(np.stack([band(*sound.band_hz, slope_db=18) * sound.frication for sound in score]), counts, axis=0)
    return voice + shaped_noise(smooth(bands, 0.012), rng)
