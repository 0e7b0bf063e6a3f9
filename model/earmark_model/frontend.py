"""The log-mel front end: the only one. Training, evaluation and the exported graph all run this module.

The 512-point DFT is done in two stages of small matrix products (Cooley and Tukey, 1965, with 512 = 32 x 16), which need a
seventh of the multiplications of one large product and store 60 kB of constants instead of 820 kB. Both stages, the window
and the twiddle factors are fixed weights, so the exported graph holds a convolution and two products, and no STFT op.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

COARSE = 32
"""Points of the first stage, which runs over samples `PHASES` apart."""
PHASES = 16
"""Points of the second stage; also the number of polyphase branches of the audio."""
KEPT = COARSE // 2 + 1
"""Of the first stage's 32 residues 17 suffice: the others hold the mirror images of a real signal's spectrum."""

MEL_GROUPS = 6
"""The filterbank is applied in this many parts, which skip most of its zeros."""


@dataclass(frozen=True, slots=True)
class FrontendSpec:
    """The front end's parameters: part of the model, saved with it, never overridden.

    Frame `t` covers samples `t * hop_samples` to `t * hop_samples + frame_samples`: no padding, no look-ahead.
    The bands, the emphasis of highs, the floor and the two constants are those of EfficientAT's taggers (Schmid et al., 2023),
    whose 128 bands from 0 to 15 kHz at 32 kHz are the first 103 here, so that their weights hear what they were trained on:
    bin power is weighted by `4 |1 - emphasis exp(-i w)|^2` with w the frequency at 32 kHz (their filter, and their frames of
    twice as many samples), and the result is `(log(mel power + log_floor) - mean) / std`.
    Before that the input is brought to `level_dbfs` RMS as a whole, so that a far scream is heard like a near one; what is
    quieter than about `quietest_dbfs` stays quiet.
    """

    sample_rate_hz: int = 16_000
    frame_samples: int = 400
    hop_samples: int = 160
    dft_points: int = COARSE * PHASES
    mels: int = 103
    min_hz: float = 0.0
    max_hz: float = 7_892.44
    emphasis: float = 0.97
    log_floor: float = 1e-5
    mean: float = -4.5
    std: float = 5.0
    level_dbfs: float = -20.0
    quietest_dbfs: float = -80.0

    def __post_init__(self) -> None:
        if self.dft_points != COARSE * PHASES:
            msg = f"dft_points must be {COARSE * PHASES}, which the two-stage DFT is built for, got {self.dft_points}"
            raise ValueError(msg)
        if not 0 < self.frame_samples <= self.dft_points or self.frame_samples % PHASES or self.hop_samples % PHASES:
            msg = (
                f"frame_samples and hop_samples must be multiples of {PHASES}, the frame at most {self.dft_points}, "
                f"got {self.frame_samples} and {self.hop_samples}"
            )
            raise ValueError(msg)
        if self.hop_samples <= 0 or self.mels <= 0 or self.log_floor <= 0 or self.std <= 0:
            msg = f"hop_samples, mels, log_floor and std must be positive, got {self}"
            raise ValueError(msg)
        if not (0 <= self.emphasis < 1 and self.quietest_dbfs < self.level_dbfs <= 0):
            msg = f"need 0 <= emphasis < 1 and quietest_dbfs < level_dbfs <= 0, got {self}"
            raise ValueError(msg)
        if not 0 <= self.min_hz < self.max_hz <= self.sample_rate_hz / 2:
            msg = f"bands must lie within 0 <= min_hz < max_hz <= {self.sample_rate_hz / 2:g}, got {self.min_hz:g} to {self.max_hz:g}"
            raise ValueError(msg)

    def frames(self, samples: int) -> int:
        """How many whole frames `samples` samples hold."""
        return max(0, 1 + (samples - self.frame_samples) // self.hop_samples)


def hann_window(samples: int) -> NDArray[np.float64]:
    """Periodic Hann window, `[samples]`, in [0, 1]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)


def mel_filterbank(spec: FrontendSpec) -> NDArray[np.float64]:
    """Triangular filters evenly spaced on the HTK mel scale, `[mels, bins]`, over DFT bins 0 to the Nyquist one; peaks reach 1.

    Formula: O'Shaughnessy, "Speech Communication: Human and Machine" (1987).
    """
    to_mel = 2595.0 * np.log10(1.0 + np.array([spec.min_hz, spec.max_hz]) / 700.0)
    corners_hz = 700.0 * (10.0 ** (np.linspace(to_mel[0], to_mel[1], spec.mels + 2) / 2595.0) - 1.0)
    bins_hz = np.arange(spec.dft_points // 2 + 1) * spec.sample_rate_hz / spec.dft_points
    rising = (bins_hz - corners_hz[:-2, None]) / (corners_hz[1:-1] - corners_hz[:-2])[:, None]
    falling = (corners_hz[2:, None] - bins_hz) / (corners_hz[2:] - corners_hz[1:-1])[:, None]
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return triangles


def bin_weights(spec: FrontendSpec) -> NDArray[np.float64]:
    """What each DFT bin's power counts, `[bins]`: 1 without emphasis, else as in `FrontendSpec`."""
    if not spec.emphasis:
        return np.ones(spec.dft_points // 2 + 1)
    at_32_khz = 2 * np.pi * np.arange(spec.dft_points // 2 + 1) / (2 * spec.dft_points)
    weights: NDArray[np.float64] = 4 * np.abs(1 - spec.emphasis * np.exp(-1j * at_32_khz)) ** 2
    return weights


def _first_stage(spec: FrontendSpec) -> NDArray[np.float64]:
    """Window, 32-point DFTs and twiddle factors as one grouped convolution kernel, `[phases * 2 * kept, 1, taps]`.

    Branch `b` holds samples 16 a + b; its output `k1` is sum over a of w[16a+b] x[16a+b] exp(-2 pi i (16a+b) k1 / 512).
    """
    taps = spec.frame_samples // PHASES
    sample = np.arange(spec.frame_samples).reshape(taps, PHASES).T  # [phases, taps]
    angle = -2 * np.pi * sample[:, None, :] * np.arange(KEPT)[None, :, None] / spec.dft_points  # [phases, kept, taps]
    windowed = hann_window(spec.frame_samples)[sample][:, None, :]
    kernel = np.stack([windowed * np.cos(angle), windowed * np.sin(angle)], axis=1)  # [phases, 2, kept, taps]
    return kernel.reshape(PHASES * 2 * KEPT, 1, taps)


def _order() -> NDArray[np.int64]:
    """The second stage's 16 outputs so that bins come out rising: 0, 15, 1, 14, ..., of which every other holds mirrored bins."""
    return np.stack([np.arange(PHASES // 2), PHASES - 1 - np.arange(PHASES // 2)], axis=1).ravel()


def _second_stage() -> NDArray[np.float64]:
    """16-point complex DFT over the branches as one real matrix, `[2 * phases, phases * 2]`: rows (part, k2), columns (branch, part)."""
    angle = -2 * np.pi * _order()[:, None] * np.arange(PHASES)[None, :] / PHASES  # [k2, branch]
    real, imaginary = np.cos(angle), np.sin(angle)
    rows = [np.stack([real, -imaginary], axis=-1), np.stack([imaginary, real], axis=-1)]  # each [k2, branch, part]
    return np.concatenate(rows).reshape(2 * PHASES, PHASES * 2)


def _mel_rows(spec: FrontendSpec) -> NDArray[np.float64]:
    """The filterbank over the two-stage DFT's own bin order (k2, k1), `[mels, phases * kept]`; a bin that it holds twice counts once."""
    bins = np.arange(KEPT)[None, :] + COARSE * _order()[:, None]  # k = k1 + 32 k2
    bins = np.minimum(bins, spec.dft_points - bins).ravel()  # power of a real signal is symmetric
    seen = np.bincount(bins, minlength=spec.dft_points // 2 + 1)
    rows: NDArray[np.float64] = (mel_filterbank(spec) * bin_weights(spec))[:, bins] / seen[bins]
    return rows


def _bands(rows: NDArray[np.float64]) -> list[tuple[slice, slice]]:
    """Groups of neighbouring mels and the bins that they hear: a fifth of the multiplications of one product."""
    groups = []
    for first, last in pairwise(np.linspace(0, len(rows), min(MEL_GROUPS, len(rows)) + 1).round().astype(int).tolist()):
        heard = np.flatnonzero(rows[first:last].any(axis=0)).tolist() or [0]  # narrow bands may hear nothing
        groups.append((slice(first, last), slice(heard[0], heard[-1] + 1)))
    return groups


class LogMel(nn.Module):
    """Audio `[batch, samples]`, 16 kHz in [-1, 1], to levelled, normalised log-mel `[batch, mels, frames]`."""

    first: Tensor
    second: Tensor
    heard: list[slice]

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__()
        self.spec = spec
        for name, value in (("first", _first_stage(spec)), ("second", _second_stage())):
            self.register_buffer(name, torch.from_numpy(value).float(), persistent=False)
        rows = _mel_rows(spec)
        self.heard = []
        for number, (mels, bins) in enumerate(_bands(rows)):
            self.register_buffer(f"mel{number}", torch.from_numpy(rows[mels, bins].copy()).float(), persistent=False)
            self.heard.append(bins)

    def power(self, audio: Tensor) -> Tensor:
        """Mel power `[batch, mels, frames]` at the audio's own level, before the logarithm."""
        batch = audio.shape[0]
        whole = audio[:, : audio.shape[1] // PHASES * PHASES]
        branches = whole.reshape(batch, -1, PHASES).transpose(1, 2)  # [batch, phases, samples / phases]
        coarse = functional.conv1d(branches, self.first, stride=self.spec.hop_samples // PHASES, groups=PHASES)
        spectrum = self.second @ coarse.reshape(batch, PHASES * 2, -1)  # [batch, part * k2, kept * frames]
        squared = spectrum.square()
        squared = squared[:, :PHASES] + squared[:, PHASES:]  # [batch, k2, kept * frames]
        bins = squared.reshape(batch, PHASES * KEPT, -1)  # [batch, k2 * kept, frames]
        return torch.cat([self.get_buffer(f"mel{number}") @ bins[:, heard] for number, heard in enumerate(self.heard)], dim=1)

    def level_gain(self, audio: Tensor) -> Tensor:
        """Power gain that brings each clip to the working level, `[batch, 1]`."""
        quietest, level = (10 ** (dbfs / 10) for dbfs in (self.spec.quietest_dbfs, self.spec.level_dbfs))
        return level / (audio.square().mean(1, keepdim=True) + quietest)

    def forward(self, audio: Tensor) -> Tensor:
        """See the class."""
        power = self.power(audio) * self.level_gain(audio)[:, :, None]
        return self.scaled(power)

    def scaled(self, power: Tensor) -> Tensor:
        """The front end's output from mel power `[batch, mels, frames]` that was brought to the working level."""
        return torch.log(power + self.spec.log_floor) * (1 / self.spec.std) - self.spec.mean / self.spec.std
