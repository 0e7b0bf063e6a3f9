"""Draws the spectrogram: time to the right, frequency upwards on the mel scale, loudness as ink on a clear ground."""

from __future__ import annotations

import io
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WINDOW_S = 0.032
COLUMNS, ROWS = 1200, 320
RANGE_DB = 62.0
"""From the loudest ink to none; what lies lower is mostly the room."""
FLOOR_DB = -110.0
"""Below this nothing is drawn, so that a silent clip stays clear instead of showing its dither at full ink."""
_BLOCK_FRAMES = 1024


class Palette(StrEnum):
    """Grey is the default: strong colour lends urgency that the sound may not have."""

    GREY = "grey"
    COLOUR = "colour"


_COLOUR_STOPS = np.array([(138, 190, 183), (74, 143, 160), (58, 88, 138), (74, 42, 94), (30, 14, 38)], dtype=np.float64)


def hz_to_mel(frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """The HTK mel scale (O'Shaughnessy, 1987)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency_hz) / 700.0))


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `hz_to_mel`."""
    return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))


def loudness_picture(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """Ink from 0 (none) to 1, `[ROWS, at most COLUMNS]`, highest frequency first; the clip fills the width exactly.

    Long clips have several spectra to a column; the loudest counts, so that a short scream never vanishes between two.
    """
    window = max(64, round(WINDOW_S * rate_hz))
    hop = max(1, min(window // 2, round(len(samples) / COLUMNS)))
    padded = np.pad(samples, (window // 2, window))  # spectrum i is centred on sample i * hop
    starts = np.arange(0, len(samples), hop)
    weights = _mel_weights(rate_hz, 2 * window)
    taper = np.hanning(window + 1)[:-1].astype(np.float32)
    power = np.concatenate([_powers(padded, starts[i : i + _BLOCK_FRAMES], taper, weights) for i in range(0, len(starts), _BLOCK_FRAMES)])
    if len(power) > COLUMNS:
        edges = np.linspace(0, len(power), COLUMNS, endpoint=False).astype(int)
        power = np.maximum.reduceat(power, edges, axis=0)  # [columns, mels]
    level_db = 10 * np.log10(power.T[::-1] + 1e-14)
    top_db = float(np.percentile(level_db, 99.9))
    bottom_db = max(top_db - RANGE_DB, FLOOR_DB)
    return np.asarray(np.clip((level_db - bottom_db) / max(top_db - bottom_db, 1.0), 0, 1))


def _powers(
    padded: NDArray[np.float32], starts: NDArray[np.int64], taper: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    frames = padded[starts[:, None] + np.arange(len(taper))] * taper  # [frames, window]
    spectra = np.abs(np.fft.rfft(frames, 2 * len(taper))) ** 2 / float(np.sum(taper)) ** 2  # [frames, bins]
    return np.asarray(spectra @ weights.T)  # [frames, mels]


def _mel_weights(rate_hz: int, points: int) -> NDArray[np.float64]:
    """Triangles on the mel scale, never narrower than a bin, each summing to one; `[ROWS, bins]`, lowest first."""
    bins_hz = np.fft.rfftfreq(points, 1 / rate_hz)
    centres_hz = mel_to_hz(np.linspace(0, float(hz_to_mel(rate_hz / 2)), ROWS))
    half_widths_hz = np.maximum(np.gradient(centres_hz), bins_hz[1])
    weights = np.maximum(0, 1 - np.abs(bins_hz - centres_hz[:, None]) / half_widths_hz[:, None])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def spectrogram_png(samples: NDArray[np.float32], rate_hz: int, palette: Palette = Palette.GREY) -> bytes:
    """The picture as PNG, `COLUMNS` by `ROWS`: the ink is in the alpha channel, so it lies on any ground. Axes are the page's."""
    ink = loudness_picture(samples, rate_hz) ** 1.35  # lifts events from the room's haze
    image = Image.fromarray(_grey(ink) if palette is Palette.GREY else _coloured(ink))
    if image.width != COLUMNS:  # a clip so short that there is not a spectrum for each column
        image = image.resize((COLUMNS, ROWS), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=3)  # a fifth of the time of the default, a few per cent larger
    return stream.getvalue()


def _grey(ink: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Black, opaque where there is ink; `[rows, columns, 2]`."""
    return np.stack([np.zeros_like(ink), np.round(255 * ink)], axis=-1).astype(np.uint8)


def colour_at(ink: float) -> str:
    """The colour of a loudness between 0 and 1, as CSS writes it; it fades in, as in the picture."""
    red, green, blue = (round(float(part)) for part in _mixed(np.array([ink]))[0])
    return f"rgb({red} {green} {blue} / {_opacity(ink):.2f})"


def _mixed(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """From pale green to dark violet, getting darker throughout, so that a grey print still reads; `[..., 3]`."""
    stops = np.linspace(0, 1, len(_COLOUR_STOPS))
    return np.stack([np.interp(ink, stops, _COLOUR_STOPS[:, channel]) for channel in range(3)], axis=-1)


def _opacity(ink: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(np.clip(2.5 * np.asarray(ink), 0, 1))


def _coloured(ink: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Coloured, clear where there is no ink; `[rows, columns, 4]`."""
    return np.concatenate([_mixed(ink), 255 * _opacity(ink)[..., None]], axis=-1).round().astype(np.uint8)
