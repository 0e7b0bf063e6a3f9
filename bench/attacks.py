"""What somebody would try who knows how a clip was masked and wants the words back. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from earmark_edge.mask import MASK, MaskSpec, mask

RATE_HZ = 16_000
Floats = NDArray[np.float32]
Attack = Callable[[Floats, Floats], Floats]
"""From the original, for what an attacker could only obtain by having the device mask it again, and the mask, to a guess."""

MASKS_AVERAGED = 8
_PIECE = RATE_HZ * 12 // 100
_GROUP = 10
_ORDER_KEPT = MaskSpec(reach_s=0.0, seek_s=0.0, backwards=0.0)


def reversed_whole(_: Floats, masked: Floats) -> Floats:
    """Played backwards."""
    return masked[::-1].copy()


def reversed_pieces(_: Floats, masked: Floats) -> Floats:
    """Every 200 ms backwards, where it stands."""
    piece = RATE_HZ // 5
    return np.concatenate([masked[at : at + piece][::-1] for at in range(0, len(masked), piece)])


def reordered(_: Floats, masked: Floats) -> Floats:
    """In each 1.2 s, pieces of 120 ms put into the order, and each into the direction, in which their spectra continue one another best."""
    whole = masked[: len(masked) // _PIECE * _PIECE].reshape(-1, _PIECE)
    guessed = [_chained(whole[at : at + _GROUP]) for at in range(0, len(whole), _GROUP)]
    return np.concatenate([*guessed, masked[whole.size :]]).astype(np.float32)


def bandwidth_extended(_: Floats, masked: Floats) -> Floats:
    """Highs lifted by a pre-emphasis of 0.97 and the band below 4 kHz mirrored above it, as is done to dull recordings."""
    spectrum = np.fft.rfft(np.append(masked[0], masked[1:] - 0.97 * masked[:-1]))
    half = len(spectrum) // 2
    spectrum[half : 2 * half] += 0.5 * np.conj(spectrum[:half][::-1])
    extended: Floats = np.fft.irfft(spectrum, len(masked)).astype(np.float32)
    return extended


def samples_averaged(original: Floats, masked: Floats) -> Floats:
    """The mean of masks of the same clip under other lots; a device never makes them, as a clip always draws the same ones."""
    averaged: Floats = np.mean([masked, *_masked_again(original)], axis=0).astype(np.float32)
    return averaged


def spectra_averaged(original: Floats, masked: Floats) -> Floats:
    """The mean power spectrogram of such masks, on the phases of the first."""
    first = _spectra(masked)
    power = np.mean([np.abs(first) ** 2, *(np.abs(_spectra(again)) ** 2 for again in _masked_again(original))], axis=0)
    return _sound(np.sqrt(power) * np.exp(1j * np.angle(first)), len(masked))


def spectra_sharpened(original: Floats, masked: Floats) -> Floats:
    """The same mean, and the blur in time of lots up to `reach_s` away undone (Richardson, 1972; Lucy, 1974; 10 rounds)."""
    first = _spectra(masked)
    seen = np.mean([np.abs(first) ** 2, *(np.abs(_spectra(again)) ** 2 for again in _masked_again(original))], axis=0)
    reach = min(round(MASK.reach_s * RATE_HZ / _HOP), (len(seen) - 1) // 2)
    blur = np.ones(2 * reach + 1) / (2 * reach + 1)
    guess = np.maximum(seen, 1e-12)
    for _ in range(10):
        guess = guess * _blurred(seen / np.maximum(_blurred(guess, blur), 1e-12), blur)
    return _sound(np.sqrt(guess) * np.exp(1j * np.angle(first)), len(masked))


def lots_known(original: Floats, _: Floats) -> Floats:
    """Every grain put back where it came from, the right way round, and those that were never drawn restored: more than anyone can do."""
    return mask(original, RATE_HZ, np.random.default_rng(0), _ORDER_KEPT)


ATTACKS: Mapping[str, Attack] = {
    "played backwards": reversed_whole,
    "pieces backwards": reversed_pieces,
    "pieces re-ordered": reordered,
    "bandwidth extended": bandwidth_extended,
    f"{MASKS_AVERAGED} masks averaged": samples_averaged,
    f"{MASKS_AVERAGED} spectrograms averaged": spectra_averaged,
    "the same, sharpened": spectra_sharpened,
    "every lot known": lots_known,
}

_FRAME, _HOP = 512, 128


def _masked_again(original: Floats) -> list[Floats]:
    return [mask(original, RATE_HZ, np.random.default_rng(lots)) for lots in range(1, MASKS_AVERAGED)]


def _chained(pieces: Floats) -> Floats:
    """From the first piece on, always the one whose beginning, either way round, is most like the end of the last."""
    left, chain = list(pieces[1:]), [pieces[0]]
    while left:
        end = _ending(chain[-1][-_FRAME:])
        options = [(float(end @ _ending(way[:_FRAME])), i, way) for i, piece in enumerate(left) for way in (piece, piece[::-1])]
        _, i, best = max(options, key=lambda option: option[0])
        chain.append(best)
        del left[i]
    return np.concatenate(chain)


def _ending(samples: Floats) -> NDArray[np.float64]:
    spectrum = np.sqrt(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), _FRAME)))
    unit: NDArray[np.float64] = spectrum / (np.linalg.norm(spectrum) + 1e-12)
    return unit


def _blurred(power: NDArray[np.float64], blur: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.convolve(column, blur, "same") for column in power.T], axis=1)


def _spectra(samples: Floats) -> NDArray[np.complex128]:
    padded = np.pad(samples.astype(np.float64), (_FRAME, 2 * _FRAME))
    spectra: NDArray[np.complex128] = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP] * _WINDOW, axis=1)
    return spectra


def _sound(spectra: NDArray[np.complex128], count: int) -> Floats:
    made = np.zeros(len(spectra) * _HOP + _FRAME)
    for i, frame in enumerate(np.fft.irfft(spectra, _FRAME, axis=1) * _WINDOW):
        made[i * _HOP : i * _HOP + _FRAME] += frame
    return (made[_FRAME : _FRAME + count] / 2).astype(np.float32)


_WINDOW = np.sqrt(np.hanning(_FRAME + 1)[:_FRAME])
