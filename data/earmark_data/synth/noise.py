"""Noise with a spectrum that moves."""

from __future__ import annotations

import numpy as np

from earmark_data.synth.contour import FRAME_SAMPLES, SAMPLE_RATE_HZ, Array

BIN_HZ = 50
_WINDOW_SAMPLES = SAMPLE_RATE_HZ // BIN_HZ  # 20 ms, four frames
_BINS = _WINDOW_SAMPLES // 2
CENTRES_HZ = BIN_HZ * np.arange(1.0, _BINS + 1)


def shaped_noise(magnitudes: Array, rng: np.random.Generator) -> Array:
    """Gaussian noise of about unit deviation times `magnitudes` `[frames, bins of BIN_HZ]`; `[frames * FRAME_SAMPLES]`.

    Overlap-add of independent spectra under a Hann window, whose squares sum to a constant at this hop.
    """
    frames = len(magnitudes)
    spectra = (rng.normal(size=(frames, _BINS)) + 1j * rng.normal(size=(frames, _BINS))) * magnitudes
    pieces = np.fft.irfft(np.concatenate([np.zeros((frames, 1)), spectra], axis=1), _WINDOW_SAMPLES, axis=1)
    pieces *= np.hanning(_WINDOW_SAMPLES + 1)[:-1] * np.sqrt(_WINDOW_SAMPLES / 3)
    overlap = _WINDOW_SAMPLES // FRAME_SAMPLES
    sound = np.zeros((frames + overlap - 1, FRAME_SAMPLES))
    for step in range(overlap):
        sound[step : step + frames] += pieces[:, step * FRAME_SAMPLES : (step + 1) * FRAME_SAMPLES]
    start = (_WINDOW_SAMPLES - FRAME_SAMPLES) // 2
    return np.asarray(sound.ravel()[start : start + frames * FRAME_SAMPLES])


def band(low_hz: float, high_hz: float, slope_db: float = 12.0) -> Array:
    """Magnitudes `[bins]` of a band: flat between the corners, falling by `slope_db` per octave outside."""
    outside = np.maximum(np.log2(np.maximum(low_hz, 1) / CENTRES_HZ), np.log2(CENTRES_HZ / high_hz))
    return np.asarray(10 ** (-slope_db * np.maximum(outside, 0) / 20))
