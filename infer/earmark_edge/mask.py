"""Masked audio: what a scream or a cry sounds like, without the words. Pure: samples and randomness in, samples out.

Two things happen, and neither can be undone, because what they remove is in nothing that leaves:

1. *Formant movement is averaged away.* In each half octave the level of every moment gives way to its average over about a second, and the
   loudness of every moment to its average over a third of one. Vowels and consonants are movements faster than that (Drullman, Festen
   and Plomp, 1994); a scream or a cry hardly changes in that time, so it stays what it was.
2. *Order is drawn by lot.* Low and high frequencies are laid apart from grains of 150 to 300 ms, each from somewhere within 0.3 s, with
   replacement, half of them backwards: about a fifth of either is never drawn at all, and what sounded together no longer does. Each
   grain is shifted by up to 12 ms to where it continues the one before (Verhelst and Roelands, 1993), as a splice sounds like a burst.

What is measured of it stands in `docs/masking.md`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

MIN_RATE_HZ = 8_000
_FRAME_S = 0.032
_OVERLAP = 4
"""Frames that cover each sample."""
_LOWEST_BAND_HZ = 100.0
_MOST_GAIN = 10.0
"""20 dB: the hiss of a pause is not lifted to the loudness of what surrounds it."""
_FLOOR = 1e-10


class MaskError(ValueError):
    """The samples cannot be masked; the message says why, and nothing may leave in their place."""


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """How much is destroyed. The values are those that were measured; others are for measuring.

    `shape_s`, `level_s`: half widths of the averages (Hann) over the spectrum's shape and over loudness. `bands_per_octave`: of the shape.
    `crossover_hz`: below and above it order is drawn apart. `grain_s`: shortest and longest grain. `reach_s`: how far away a grain may
    come from. `backwards`: the part of grains that run backwards. `fade_s`: how long grains overlap. `seek_s`: how far one shifts to fit.
    """

    shape_s: float = 0.6
    level_s: float = 0.15
    bands_per_octave: float = 2.0
    crossover_hz: float = 1_000.0
    grain_s: tuple[float, float] = (0.15, 0.30)
    reach_s: float = 0.3
    backwards: float = 0.5
    fade_s: float = 0.05
    seek_s: float = 0.012

    def __post_init__(self) -> None:
        shortest, longest = self.grain_s
        if not (0 < 2 * self.fade_s <= shortest < longest and min(self.reach_s, self.seek_s) >= 0 and 0 <= self.backwards <= 1):
            msg = f"a mask needs 0 < 2 fade_s <= grain_s[0] < grain_s[1], no negative reach_s or seek_s, backwards in [0, 1]; got {self}"
            raise ValueError(msg)
        if not (min(self.shape_s, self.level_s) >= _FRAME_S and self.bands_per_octave > 0 and self.crossover_hz > 0):
            msg = f"a mask needs shape_s and level_s of at least {_FRAME_S} s, bands and a crossover above 0; got {self}"
            raise ValueError(msg)


MASK = MaskSpec()


def mask(audio: Floats, sample_rate_hz: int, rng: np.random.Generator, spec: MaskSpec = MASK) -> Floats:
    """Masked audio of the same length and power, float32 `[samples]` in [-1, 1], from `[samples]` in [-1, 1].

    A clip too short for grains to be drawn from becomes noise of its spectrum's shape. Where the same power would not fit into full
    scale, the loudest sample is full scale.

    Raises:
        MaskError: no samples, another shape, a sample that is not finite, or a rate below 8 kHz.
    """
    if audio.ndim != 1 or not len(audio) or sample_rate_hz < MIN_RATE_HZ:
        msg = (
            f"cannot mask {list(audio.shape)} samples at {sample_rate_hz} Hz; expected [samples], at least one, at {MIN_RATE_HZ} Hz or more"
        )
        raise MaskError(msg)
    if not np.isfinite(audio).all():
        msg = f"sample {int(np.argmin(np.isfinite(audio)))} is not a finite number; nothing was masked"
        raise MaskError(msg)
    given = audio.astype(np.float64)
    if not given.any():
        return np.zeros(len(audio), np.float32)
    if len(given) < 2 * spec.grain_s[1] * sample_rate_hz:
        made = _noise_like(given, sample_rate_hz, rng, spec)
    else:
        still = _without_movement(given, sample_rate_hz, spec)
        low, high = _split(still, sample_rate_hz, spec.crossover_hz)
        made = _drawn_by_lot(low, sample_rate_hz, rng, spec) + _drawn_by_lot(high, sample_rate_hz, rng, spec)
    made *= np.sqrt(np.mean(given**2) / max(np.mean(made**2), np.finfo(float).tiny))
    return (made / max(1.0, float(np.abs(made).max()))).astype(np.float32)


def rng_for(audio: Floats, secret: bytes = b"") -> np.random.Generator:
    """Lots that a clip always draws alike, so that masks of one clip cannot be averaged, and that nobody without the clip can repeat.

    `secret` (at most 64 bytes) is the device's own, where it has one.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(audio, "<f4").tobytes(), key=secret, person=b"earmark mask 1").digest()
    return np.random.default_rng(int.from_bytes(digest))


def _without_movement(audio: Doubles, sample_rate_hz: int, spec: MaskSpec) -> Doubles:
    """Each band's power at each moment replaced by slow averages of shape and loudness."""
    samples = round(_FRAME_S * sample_rate_hz)
    hop = samples // _OVERLAP
    spectra, window = _spectra(audio, samples, hop)  # [frames, bins]
    bands = _bands(samples, sample_rate_hz, spec.bands_per_octave)  # [bands, bins]
    power = np.abs(spectra) ** 2 @ (bands / bands.sum(axis=1, keepdims=True)).T  # [frames, bands]
    power += _FLOOR * power.max()
    shape = _averaged(power, round(spec.shape_s * sample_rate_hz / hop))
    level = _averaged(power.sum(axis=1, keepdims=True), round(spec.level_s * sample_rate_hz / hop))
    wanted = shape / shape.sum(axis=1, keepdims=True) * level
    gain = np.minimum(np.sqrt(wanted / power), _MOST_GAIN) @ bands  # [frames, bins]
    return _overlapped(spectra * gain, window, hop, len(audio))


def _drawn_by_lot(audio: Doubles, sample_rate_hz: int, rng: np.random.Generator, spec: MaskSpec) -> Doubles:
    """Grains of `audio` in an order drawn with replacement, each fading into the next."""
    count = len(audio)
    fade, seek, reach = (round(seconds * sample_rate_hz) for seconds in (spec.fade_s, spec.seek_s, spec.reach_s))
    rise = np.sin(np.linspace(0, np.pi / 2, fade))
    made = np.zeros(count + 2 * round(spec.grain_s[1] * sample_rate_hz))
    at, tail = 0, np.zeros(fade)
    while at < count:
        length = round(rng.uniform(*spec.grain_s) * sample_rate_hz)
        start = int(np.clip(at + rng.integers(-reach, reach + 1), 0, count - length))
        source = audio
        if rng.random() < spec.backwards:
            source, start = audio[::-1], count - length - start
        start = _continuing(source, start, length, tail, seek) if at else start
        grain = source[start : start + length].copy()
        tail = grain[length - fade :].copy()
        if at:
            grain[:fade] *= rise
        grain[length - fade :] *= rise[::-1]
        made[at : at + length] += grain
        at += length - fade
    return made[:count]


def _continuing(source: Doubles, start: int, length: int, tail: Doubles, seek: int) -> int:
    """Of the starts within `seek` samples, the one whose first samples are most like `tail`, the fading end of the grain before."""
    first, last = max(0, start - seek), min(len(source) - length, start + seek)
    heads = np.lib.stride_tricks.sliding_window_view(source[first : last + len(tail)], len(tail))
    likeness = heads @ tail / np.sqrt((heads**2).sum(axis=1) + np.finfo(float).tiny)
    return first + int(likeness.argmax())


def _noise_like(audio: Doubles, sample_rate_hz: int, rng: np.random.Generator, spec: MaskSpec) -> Doubles:
    """Noise with the powers of the clip's half octaves, which is all that is left of it."""
    samples = 2 * max(len(audio), round(_FRAME_S * sample_rate_hz))
    bands = _bands(samples, sample_rate_hz, spec.bands_per_octave)
    bands = bands[bands.sum(axis=1) > 0]
    power = np.abs(np.fft.rfft(audio, samples)) ** 2 @ (bands / bands.sum(axis=1, keepdims=True)).T
    noise = np.fft.rfft(rng.standard_normal(samples)) * np.sqrt(power @ bands)
    return np.fft.irfft(noise, samples)[: len(audio)]


def _split(audio: Doubles, sample_rate_hz: int, crossover_hz: float) -> tuple[Doubles, Doubles]:
    """What lies below the crossover and what lies above, adding up to the whole; the border is a quarter octave wide."""
    samples = len(audio) + sample_rate_hz // 8
    octaves = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / sample_rate_hz), 1.0) / crossover_hz)
    low = np.fft.irfft(np.fft.rfft(audio, samples) * np.clip(0.5 - 4 * octaves, 0, 1), samples)[: len(audio)]
    return low, audio - low


def _bands(samples: int, sample_rate_hz: int, per_octave: float) -> Doubles:
    """Triangles evenly spaced in octaves that add up to 1 in every bin: `[bands, bins]`."""
    hertz = np.fft.rfftfreq(samples, 1 / sample_rate_hz)
    place = per_octave * np.log2(np.maximum(hertz, _LOWEST_BAND_HZ) / _LOWEST_BAND_HZ)
    triangles: Doubles = np.maximum(0.0, 1.0 - np.abs(place - np.arange(np.ceil(place[-1]) + 1)[:, None]))
    return triangles


def _averaged(values: Doubles, reach: int) -> Doubles:
    """`[frames, columns]` averaged over `reach` frames on each side (Hann), at the ends over those that there are."""
    weights = np.hanning(2 * reach + 3)[1:-1]
    length = len(values) + len(weights) - 1
    spread = np.fft.irfft(np.fft.rfft(values, length, axis=0) * np.fft.rfft(weights, length)[:, None], length, axis=0)
    present = np.convolve(np.ones(len(values)), weights)[reach : reach + len(values), None]
    floor: Doubles = np.maximum(spread[reach : reach + len(values)] / present, values.min())  # rounding may dip below 0
    return floor


def _spectra(audio: Doubles, samples: int, hop: int) -> tuple[npt.NDArray[np.complex128], Doubles]:
    """Frames of `samples` every `hop`, from one frame before the first sample to one after the last, and their root-Hann window."""
    frames = -(-(len(audio) + samples) // hop) + 1
    padded = np.zeros(frames * hop + 2 * samples)
    padded[samples : samples + len(audio)] = audio
    window = np.sqrt(np.hanning(samples + 1)[:samples])
    return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, samples)[::hop] * window, axis=1), window


def _overlapped(spectra: npt.NDArray[np.complex128], window: Doubles, hop: int, count: int) -> Doubles:
    """The inverse of `_spectra`."""
    samples = len(window)
    made = np.zeros(len(spectra) * hop + samples)
    for i, frame in enumerate(np.fft.irfft(spectra, samples, axis=1) * window):
        made[i * hop : i * hop + samples] += frame
    return made[samples : samples + count] / (_OVERLAP / 2)
