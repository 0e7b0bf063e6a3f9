"""Slow curves that steer a synthesiser: smoothing, random wandering, breakpoints, and the last touch on a clip.

A curve has one value per frame of `FRAME_SAMPLES` (5 ms); sounds have one per sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 80
FRAMES_PER_S = SAMPLE_RATE_HZ // FRAME_SAMPLES
PEAK = 0.5
"""Every synthetic clip peaks here (-6 dBFS), so that gains in a scene mean the same for all."""

Array = npt.NDArray[np.float64]
Sound = npt.NDArray[np.float32]


def frames_in(duration_s: float) -> int:
    """Number of frames that cover `duration_s`, at least two."""
    return max(2, round(duration_s * FRAMES_PER_S))


def decibels(level_db: npt.ArrayLike) -> Array:
    """Amplitude factor of a level in dB."""
    return np.asarray(10.0 ** (np.asarray(level_db, dtype=np.float64) / 20))


def smooth(values: npt.ArrayLike, width_s: float) -> Array:
    """Moving average under a Hann window of `width_s` along the first axis; the edges are held."""
    curve = np.asarray(values, dtype=np.float64)
    half = max(1, round(width_s * FRAMES_PER_S / 2))
    window = np.hanning(2 * half + 1)
    window /= window.sum()
    padded = np.concatenate([np.repeat(curve[:1], half, axis=0), curve, np.repeat(curve[-1:], half, axis=0)])
    if curve.ndim == 1:
        return np.asarray(np.convolve(padded, window, "valid"))
    return np.asarray(np.stack([np.convolve(column, window, "valid") for column in padded.T], axis=1))


def breakpoints(points: Sequence[tuple[float, float]], frames: int) -> Array:
    """Straight lines through (position in [0, 1], value) pairs, as `[frames]`."""
    positions, values = zip(*points, strict=True)
    return np.asarray(np.interp(np.linspace(0, 1, frames), positions, values))


def wander(rng: np.random.Generator, frames: int, period_s: float) -> Array:
    """A random curve of about unit deviation that turns every `period_s` or so; `[frames]`."""
    knots = int(frames / (period_s * FRAMES_PER_S)) + 4
    places = (np.arange(frames) / (period_s * FRAMES_PER_S)) + rng.uniform(0, 1)
    return smooth(np.interp(places, np.arange(knots), rng.normal(size=knots)), period_s / 2)


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Toss a coin that shows True with `probability`."""
    return bool(rng.random() < probability)


def episodes(rng: np.random.Generator, frames: int, every_s: float, above: float, edge_s: float) -> Array:
    """A curve in [0, 1] that is 1 while a `wander` that turns every `every_s` lies `above` (in deviations), with soft edges."""
    return smooth(wander(rng, frames, every_s) > above, edge_s)


def to_samples(curve: npt.ArrayLike) -> Array:
    """A `[frames]` curve drawn out to `[frames * FRAME_SAMPLES]`."""
    values = np.asarray(curve, dtype=np.float64)
    return np.interp(np.arange(len(values) * FRAME_SAMPLES) / FRAME_SAMPLES, np.arange(len(values)), values)


def finish(sound: npt.ArrayLike, fade_s: float = 0.008) -> Sound:
    """Remove what lies below 40 Hz, fade both ends to zero, and bring the peak to `PEAK`; silence stays silent."""
    wave = np.asarray(sound, dtype=np.float64)
    size = 1 << (len(wave) + SAMPLE_RATE_HZ // 4).bit_length()
    spectrum = np.fft.rfft(wave, size)
    hertz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    wave = np.fft.irfft(spectrum * np.clip((hertz - 20) / 20, 0, 1), size)[: len(wave)]
    fade = min(len(wave) // 2, round(fade_s * SAMPLE_RATE_HZ))
    ramp = np.sin(np.linspace(0, np.pi / 2, fade)) ** 2
    wave[:fade] *= ramp
    wave[len(wave) - fade :] *= ramp[::-1]
    peak = np.abs(wave).max(initial=0)
    return np.asarray(wave * (PEAK / peak if peak > 0 else 0), dtype=np.float32)
