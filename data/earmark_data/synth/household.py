"""Sounds of a home that nobody should be disturbed for: machines, kitchen, doors, water, steps, television, a dog."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from earmark_data.synth.contour import FRAME_SAMPLES, SAMPLE_RATE_HZ, Array, Sound, breakpoints, finish, frames_in, happens, smooth, wander
from earmark_data.synth.noise import CENTRES_HZ, band, shaped_noise
from earmark_data.synth.voice import Larynx, Phonation, neutral_formants, phonate


def fan(rng: np.random.Generator, duration_s: float) -> Sound:
    """A fan or a refrigerator: noise that falls by 4 to 7 dB per octave, and hum at multiples of the mains' 50 or 60 Hz."""
    frames = frames_in(duration_s)
    fall = (CENTRES_HZ / 100) ** (-rng.uniform(4, 7) / 6.02)
    air = shaped_noise(np.broadcast_to(fall, (frames, len(fall))) * (1 + 0.05 * wander(rng, frames, 0.5)[:, None]), rng)
    mains_hz = rng.choice([50, 60])
    time_s = np.arange(len(air)) / SAMPLE_RATE_HZ
    hum = sum(rng.uniform(0.2, 1) / order * np.sin(2 * np.pi * mains_hz * order * time_s + rng.uniform(0, 6)) for order in (2, 3, 4, 6))
    return _clip(air / air.std() + 0.4 * np.asarray(hum), duration_s)


def running_water(rng: np.random.Generator, duration_s: float) -> Sound:
    """A tap: hiss, and bubbles that ring at their Minnaert resonance of 500 to 5000 Hz for 2 to 8 ms and rise (van den Doel, 2005)."""
    sound = shaped_noise(np.broadcast_to(0.9 * band(1_200, 6_000, 6), (frames_in(duration_s), len(CENTRES_HZ))), rng)
    for start in rng.integers(0, len(sound), round(900 * duration_s)):
        pitch_hz = np.exp(rng.uniform(np.log(500), np.log(5_000)))
        _add(sound, start, rng.gamma(1, 0.5) * _ring(pitch_hz, 3 / pitch_hz + 0.001, rise=0.1))
    return _clip(sound, duration_s)


def dishes(rng: np.random.Generator, duration_s: float) -> Sound:
    """Plates and cutlery: clusters of knocks, each a handful of inharmonic modes of 1.2 to 7 kHz that die within 20 to 150 ms."""
    sound = np.zeros(frames_in(duration_s) * FRAME_SAMPLES)
    pieces = [np.exp(rng.uniform(np.log(1_200), np.log(7_000), 6)) for _ in range(3)]
    for start in _clusters(rng, len(sound), every_s=0.7, knocks=(1, 5), gap_s=(0.03, 0.18)):
        level = rng.gamma(2, 0.3)
        for mode_hz in pieces[rng.integers(3)]:
            _add(sound, start, level * rng.uniform(0.2, 1) * _ring(mode_hz * rng.uniform(0.99, 1.01), rng.uniform(0.01, 0.06)))
        _add(sound, start, 0.5 * level * rng.normal(size=80) * np.exp(-np.arange(80) / 20))
    return _clip(sound, duration_s)


def door_knock(rng: np.random.Generator, duration_s: float) -> Sound:
    """Knuckles on a wooden door: three or four thumps at 3 to 5 per second, modes of 150 to 1800 Hz that die within 5 to 15 ms."""
    sound = np.zeros(frames_in(duration_s) * FRAME_SAMPLES)
    modes_hz = np.exp(rng.uniform(np.log(150), np.log(1_800), 12))
    for start in _clusters(rng, len(sound), every_s=3.0, knocks=(3, 5), gap_s=(0.2, 0.3)):
        for mode_hz in modes_hz:
            _add(sound, start, (150 / mode_hz) ** 0.4 * rng.uniform(0.3, 1) * _ring(mode_hz, rng.uniform(0.003, 0.01)))
        _add(sound, start, 0.8 * rng.normal(size=200) * np.exp(-np.arange(200) / 20))
    return _clip(sound, duration_s)


def footsteps(rng: np.random.Generator, duration_s: float) -> Sound:
    """Walking at 1.7 to 2.2 steps per second: a heel's thud of 60 to 350 Hz and, 50 to 90 ms later, the sole's scuff of noise."""
    sound = np.zeros(frames_in(duration_s) * FRAME_SAMPLES)
    place, step_s = 0.05, 1 / rng.uniform(1.7, 2.2)
    while place < duration_s - 0.2:
        start = round(place * SAMPLE_RATE_HZ)
        heel = np.outer(np.exp(-np.arange(12) / 1.5), rng.uniform(0.7, 1.3) * band(60, 350, 9))
        _add(sound, start, shaped_noise(heel, rng))
        scuff = np.outer(np.hanning(16), rng.uniform(0.1, 0.25) * band(400, 3_500, 6))
        _add(sound, start + round(rng.uniform(0.05, 0.09) * SAMPLE_RATE_HZ), shaped_noise(scuff, rng))
        place += step_s * rng.uniform(0.95, 1.05)
    return _clip(sound, duration_s)


def kettle(rng: np.random.Generator, duration_s: float) -> Sound:
    """A kettle coming to the boil: a rumble of 200 to 1500 Hz that swells, shaken by bubbles at 10 to 25 Hz; steam above 2 kHz."""
    frames = frames_in(duration_s)
    swell = breakpoints([(0, 0.25), (0.7, 1), (0.9, 1), (1, 0.4)], frames)
    bubbling = (1 + 0.35 * wander(rng, frames, 0.05)).clip(0.1)
    rumble = np.outer(swell * bubbling, band(200, 1_500, 9))
    steam = np.outer(swell**3, 0.3 * band(2_000, 7_000, 6))
    return _clip(shaped_noise(rumble + steam, rng), duration_s)


_SCALE_SEMITONES = (0, 2, 4, 7, 9, 12)


def television_music(rng: np.random.Generator, duration_s: float) -> Sound:
    """A tune from a small loudspeaker: a plucked melody over chords and a soft beat at 90 to 130 per minute, 150 Hz to 6 kHz."""
    sound = np.zeros(frames_in(duration_s) * FRAME_SAMPLES)
    beat_s = 60 / rng.uniform(90, 130)
    root_hz = rng.uniform(130, 200)
    for beat in range(int(duration_s / beat_s) + 1):
        start = round(beat * beat_s * SAMPLE_RATE_HZ)
        if beat % 4 == 0:
            chord = root_hz * 2 ** (rng.choice([0, 5, 7, 9]) / 12)
            for semitones in (0, 4, 7):
                _add(sound, start, 0.4 * _pluck(rng, chord * 2 ** (semitones / 12), 4 * beat_s, 1.2))
        for half in (0.0, 0.5):
            if happens(rng, 0.7):
                note_hz = root_hz * 2 ** (rng.choice(_SCALE_SEMITONES) / 12)
                _add(sound, start + round(half * beat_s * SAMPLE_RATE_HZ), 0.4 * _pluck(rng, note_hz, beat_s, 0.3))
        _add(sound, start, (0.9 if beat % 2 == 0 else 0.2) * _ring(65, 0.06))
        _add(
            sound,
            start + round(0.5 * beat_s * SAMPLE_RATE_HZ),
            0.12 * shaped_noise(np.outer(np.exp(-np.arange(14) / 3), band(4_000, 7_500)), rng),
        )
    loudspeaker = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ)
    return _clip(
        np.fft.irfft(loudspeaker * np.clip((hertz - 80) / 120, 0, 1) * np.clip((7_000 - hertz) / 1_500, 0, 1), len(sound)), duration_s
    )


def dog_bark(rng: np.random.Generator, duration_s: float) -> Sound:
    """Barks of 0.12 to 0.25 s in groups of one to four, 0.3 to 0.6 s apart; f0 arched at 350 to 800 Hz, hoarse (Yin and McCowan, 2004)."""
    sound = np.zeros(frames_in(duration_s) * FRAME_SAMPLES)
    height_hz, tract_cm = rng.uniform(350, 700), rng.uniform(14, 20)
    formants_hz = neutral_formants(tract_cm)
    for start in _clusters(rng, len(sound), every_s=2.0, knocks=(1, 5), gap_s=(0.3, 0.6)):
        frames = frames_in(rng.uniform(0.12, 0.25))
        arch = smooth(breakpoints([(0, 0.7), (0.3, 1.05), (1, 0.6)], frames), 0.03)
        loudness = smooth(breakpoints([(0, 0), (0.1, 1), (0.5, 0.8), (1, 0)], frames), 0.02)
        larynx = Larynx(jitter=0.04, shimmer=0.2, subharmonic=0.5, rough=0.5, rough_hz=90.0)
        mouth = np.broadcast_to(formants_hz, (frames, len(formants_hz)))
        _add(sound, start, phonate(Phonation(height_hz * arch, loudness, 0.25 * loudness, mouth, 3.0, 1.5, larynx), rng))
    return _clip(sound, duration_s)


def _clusters(rng: np.random.Generator, samples: int, every_s: float, knocks: tuple[int, int], gap_s: tuple[float, float]) -> list[int]:
    """Starts, in samples, of knocks that come in groups; at least one group."""
    starts: list[int] = []
    place = rng.uniform(0, 0.2)
    while place < samples / SAMPLE_RATE_HZ - 0.1 or not starts:
        for _ in range(rng.integers(*knocks)):
            starts.append(round(place * SAMPLE_RATE_HZ))
            place += rng.uniform(*gap_s)
        place += every_s * rng.exponential()
    return [start for start in starts if start < samples]


def _ring(hertz: float, decay_s: float, rise: float = 0.0) -> Array:
    """A struck mode that falls to 1/e in `decay_s`; its pitch rises by the fraction `rise` over that time."""
    time_s = np.arange(round(5 * decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.asarray(np.sin(2 * np.pi * hertz * time_s * (1 + rise * time_s / decay_s)) * np.exp(-time_s / decay_s))


def _pluck(rng: np.random.Generator, hertz: float, duration_s: float, decay_s: float) -> Array:
    time_s = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    orders = np.arange(1, min(10, int(7_000 / hertz)) + 1)
    partials = [
        np.sin(2 * np.pi * hertz * k * time_s + rng.uniform(0, 6)) * np.exp(-time_s * (0.5 + 0.5 * k) / decay_s) / k for k in orders
    ]
    fades = np.minimum(1, np.minimum(time_s / 0.005, (duration_s - time_s) / 0.02))
    return np.asarray(sum(partials) * fades)


def _add(sound: Array, start: int, piece: Sequence[float] | Array) -> None:
    stop = min(len(sound), start + len(piece))
    sound[start:stop] += piece[: max(0, stop - start)]


def _clip(sound: Array, duration_s: float) -> Sound:
    return finish(sound[: round(duration_s * SAMPLE_RATE_HZ)])
