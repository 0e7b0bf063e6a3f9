"""The third-octave picture (tier 1): how loud each band was in each eighth of a second, to a decibel, and nothing finer. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from earmark_edge.wire import WireError, canonical_json, checked, parse_object, require

PICTURE_SCHEMA = 1
PICTURE_MEDIA_TYPE = "application/json"
COLUMN_S = 0.125
SILENCE_DB = -120
"""The lowest level that is written; silence has it."""
LOUDEST_DB = 20
NOMINAL_HZ = (100, 125, 160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000, 6300)
"""Third octaves by their nominal midband frequencies (IEC 61260-1:2014, annex E), all below half of 16 kHz."""
_FIRST_BAND = -10
_OCTAVE = 10**0.3
"""The octave ratio of IEC 61260-1, base ten."""
_ORDER = 3

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ThirdOctavePicture:
    """The tier 1 object, as JSON of media type `application/json`.

    `start_s` is the clip's first sample on the stream's own clock. `levels_db[i][j]` is the level of band `bands_hz[j]` in column `i`,
    which covers `column_s` seconds from `start_s + i * column_s` (the last one what is left of them): whole decibels of mean power, 0 for a
    full-scale square wave, so that a full-scale sine has -3.
    """

    start_s: float
    column_s: float
    bands_hz: tuple[int, ...]
    levels_db: tuple[tuple[int, ...], ...]
    schema: int = PICTURE_SCHEMA

    def __post_init__(self) -> None:
        require(self.schema == PICTURE_SCHEMA, "schema", str(PICTURE_SCHEMA), self.schema)
        require(math.isfinite(self.start_s) and self.start_s >= 0, "start_s", "0 or more seconds", self.start_s)
        require(self.column_s == COLUMN_S, "column_s", f"{COLUMN_S}, since finer columns would disclose more", self.column_s)
        is_known = self.bands_hz == NOMINAL_HZ[: len(self.bands_hz)] and len(self.bands_hz) > 0
        require(is_known, "bands_hz", f"the first of {NOMINAL_HZ}", self.bands_hz)
        require(bool(self.levels_db), "levels_db", "at least one column", self.levels_db)
        widths = {len(column) for column in self.levels_db}
        require(widths == {len(self.bands_hz)}, "levels_db", f"{len(self.bands_hz)} levels in every column", sorted(widths))
        lowest, highest = (extreme(extreme(column) for column in self.levels_db) for extreme in (min, max))
        is_level = lowest >= SILENCE_DB and highest <= LOUDEST_DB
        require(is_level, "levels_db", f"levels from {SILENCE_DB} to {LOUDEST_DB} dB", (lowest, highest))

    @property
    def duration_s(self) -> float:
        """Seconds that the columns cover."""
        return len(self.levels_db) * self.column_s

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, payload: bytes) -> ThirdOctavePicture:
        """Parse and validate.

        Raises:
            WireError: not JSON, or a field is missing, unknown, or outside its range.
        """
        raw = parse_object(payload, "third-octave picture")
        try:
            raw["bands_hz"] = _whole_numbers(raw["bands_hz"], "bands_hz")
            columns = raw["levels_db"]
            require(isinstance(columns, list), "levels_db", "a list of columns", columns)
            raw["levels_db"] = tuple(_whole_numbers(column, "levels_db") for column in columns)
            return cls(**checked(raw, cls))
        except KeyError as error:
            msg = f"third-octave picture: field {error} is missing"
            raise WireError(msg) from error
        except TypeError as error:
            msg = f"the third-octave picture is not of the documented form: {error}"
            raise WireError(msg) from error


def third_octave_picture(audio: Floats, sample_rate_hz: int, start_s: float) -> ThirdOctavePicture:
    """The picture of `audio`, finite `[samples]`, at least one.

    Bands have the base-ten midband frequencies and edges of IEC 61260-1 and third-order Butterworth responses, without delay.
    """
    assert len(audio)
    assert np.isfinite(audio).all()
    bands = tuple(hertz for i, hertz in enumerate(NOMINAL_HZ) if _midband_hz(i) * _OCTAVE ** (1 / 6) < sample_rate_hz / 2)
    column = round(COLUMN_S * sample_rate_hz)
    count = -(-len(audio) // column)
    length = len(audio) + sample_rate_hz  # a second for the lowest band to ring out in
    spectrum, hertz = np.fft.rfft(audio.astype(np.float64), length), np.fft.rfftfreq(length, 1 / sample_rate_hz)
    starts = np.arange(count) * column
    lengths = np.minimum(starts + column, len(audio)) - starts
    levels = np.empty((count, len(bands)))
    for i in range(len(bands)):
        filtered = np.fft.irfft(spectrum * _response(hertz, _midband_hz(i)), length)[: len(audio)]
        levels[:, i] = 10 * np.log10(np.add.reduceat(filtered**2, starts) / lengths + 1e-30)
    whole = np.clip(np.round(levels), SILENCE_DB, LOUDEST_DB).astype(int)
    return ThirdOctavePicture(start_s, COLUMN_S, bands, tuple(tuple(map(int, row)) for row in whole))


def _midband_hz(band: int) -> float:
    """Exact midband frequency of `NOMINAL_HZ[band]`: 1000 Hz times a power of the octave ratio."""
    return float(1_000 * _OCTAVE ** ((band + _FIRST_BAND) / 3))


def _response(hertz: npt.NDArray[np.floating], midband_hz: float) -> Doubles:
    """Magnitude of a Butterworth band-pass whose edges, 3 dB down, are a sixth of an octave away."""
    quality = 1 / (_OCTAVE ** (1 / 6) - _OCTAVE ** (-1 / 6))
    ratio = np.maximum(hertz, 1e-9) / midband_hz
    magnitude: Doubles = 1 / np.sqrt(1 + (quality * (ratio - 1 / ratio)) ** (2 * _ORDER))
    return magnitude


def _whole_numbers(values: object, name: str) -> tuple[int, ...]:
    is_list = isinstance(values, Sequence) and all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    require(is_list, name, "a list of whole numbers", values)
    return tuple(values)  # type: ignore[arg-type]  # just checked
