"""Lays out the device's third-octave picture: shades of ink as SVG paths, its axis in hertz, and what it shows in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earmark_edge.picture import ThirdOctavePicture
from earmark_review.figures import Tick
from earmark_review.spectrogram import colour_at

SHADES = 14
RANGE_DB = 48.0
"""From full ink to none: third octaves of a quiet room lie about this far below someone who cries near by."""
FLOOR_DB = -96.0
_TICKS_HZ = (125, 250, 500, 1000, 2000, 4000)

Levels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shade:
    """All cells of one loudness as one SVG path, in a box of columns by bands, the highest band at the top."""

    ink: float
    """Opacity in grey, 0 to 1."""
    colour: str
    path: str


@dataclass(frozen=True, slots=True)
class BandsFigure:
    """The picture, placed on the evidence's time axis."""

    columns: int
    bands: int
    start_percent: float
    width_percent: float
    shades: Sequence[Shade]
    frequency_ticks: Sequence[Tick]
    words: str
    """What it shows, for whoever does not see it."""


def lay_out(picture: ThirdOctavePicture, start_s: float, duration_s: float) -> BandsFigure:
    """The picture on an axis of `duration_s` seconds from `start_s` of the stream."""
    levels = np.array(picture.levels_db, dtype=np.float64)  # [columns, bands]
    ticks = [
        Tick(100 * (1 - (picture.bands_hz.index(hertz) + 0.5) / len(picture.bands_hz)), f"{hertz}")
        for hertz in _TICKS_HZ
        if hertz in picture.bands_hz
    ]
    return BandsFigure(
        columns=len(levels),
        bands=len(picture.bands_hz),
        start_percent=100 * (picture.start_s - start_s) / duration_s,
        width_percent=100 * picture.duration_s / duration_s,
        shades=_shades(levels),
        frequency_ticks=ticks,
        words=_words(picture, levels, picture.start_s - start_s),
    )


def inked(levels: Levels) -> NDArray[np.int64]:
    """How dark each cell is, 0 (clear) to `SHADES`; `[columns, bands]`. Silence stays clear, however even it is."""
    top = float(levels.max())
    bottom = max(top - RANGE_DB, FLOOR_DB)
    return np.asarray(np.round(SHADES * np.clip((levels - bottom) / max(top - bottom, 1.0), 0, 1)), dtype=np.int64)


def _shades(levels: Levels) -> Sequence[Shade]:
    ink = inked(levels)
    found = []
    for shade in range(1, SHADES + 1):
        path = _cells(ink == shade)
        if path:
            found.append(Shade(shade / SHADES, colour_at(shade / SHADES), path))
    return found


def _cells(is_inked: NDArray[np.bool_]) -> str:
    """A path around every inked cell; neighbours in time share one rectangle. `[columns, bands]`, the lowest band first."""
    columns, bands = is_inked.shape
    padded = np.zeros((columns + 2, bands), dtype=np.int8)
    padded[1:-1] = is_inked
    edges = np.diff(padded, axis=0)  # [columns + 1, bands]: 1 where a run begins, -1 just after it ends
    runs = []
    for band in range(bands):
        begins, ends = np.flatnonzero(edges[:, band] == 1), np.flatnonzero(edges[:, band] == -1)
        runs += [f"M{begin} {bands - 1 - band}h{end - begin}v1h-{end - begin}z" for begin, end in zip(begins, ends, strict=True)]
    return "".join(runs)


def _words(picture: ThirdOctavePicture, levels: Levels, offset_s: float) -> str:
    low, high = picture.bands_hz[0], picture.bands_hz[-1]
    column, band = np.unravel_index(int(levels.argmax()), levels.shape)
    if levels[column, band] <= FLOOR_DB:
        return f"bands from {low} to {high} Hz; silence"
    at_s = offset_s + (int(column) + 0.5) * picture.column_s
    return f"bands from {low} to {high} Hz, loudest at {at_s:.1f} s around {picture.bands_hz[int(band)]} Hz"
