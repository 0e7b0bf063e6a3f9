"""Augmentation: what a sound goes through between a mouth and a device, drawn at random.

Waveform functions take and return float32 `[samples]`; the spectrogram module takes and returns `[batch, mels, frames]`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import fftconvolve
from torch import Tensor, nn

from earmark_data.torchaudio_transforms import FrequencyMasking, TimeMasking

Audio = NDArray[np.float32]


def rms(audio: Audio) -> float:
    """Root mean square."""
    return math.sqrt(float(np.dot(audio, audio)) / audio.size) if audio.size else 0.0


def gain(audio: Audio, level_db: float) -> Audio:
    """Scale by `level_db` decibels, and clip at full scale as a converter does."""
    louder: Audio = np.clip(audio * np.float32(10 ** (level_db / 20)), -1.0, 1.0)
    return louder


def drawn_gain(audio: Audio, range_db: tuple[float, float], rng: np.random.Generator) -> Audio:
    """Scale by decibels drawn from a range, but never so far that a peak is overdriven by more than 6 dB."""
    peak_db = 20 * np.log10(max(float(np.abs(audio).max()), 1e-6))
    return gain(audio, float(min(rng.uniform(*range_db), 6.0 - peak_db)))


def mix_at_snr(signal: Audio, noise: Audio, snr_db: float) -> Audio:
    """`signal` with `noise` scaled so that their powers stand `snr_db` apart; unchanged where either is silent.

    Raises:
        ValueError: the lengths differ.
    """
    if signal.shape != noise.shape:
        msg = f"signal and noise must have one length, got {signal.shape} and {noise.shape}"
        raise ValueError(msg)
    signal_rms, noise_rms = rms(signal), rms(noise)
    if signal_rms == 0 or noise_rms == 0:
        return signal
    return signal + noise * np.float32(signal_rms / noise_rms * 10 ** (-snr_db / 20))


def mixup(first: Audio, second: Audio, share: float) -> Audio:
    """`share` of the first and the rest of the second (Zhang et al., 2018); targets are mixed with the same share."""
    return np.float32(share) * first + np.float32(1 - share) * second


def reverberate(audio: Audio, response: Audio) -> Audio:
    """Convolve with a room's impulse response, aligned on its direct sound and at the level the audio had."""
    direct = int(np.argmax(np.abs(response)))
    wet = fftconvolve(audio, response)[direct : direct + audio.size].astype(np.float32)
    wet_rms = rms(wet)
    return wet * np.float32(rms(audio) / wet_rms) if wet_rms > 0 else audio


def coloured_noise(samples: int, exponent: float, rng: np.random.Generator) -> Audio:
    """Noise whose power falls as 1 / frequency ** exponent (0 white, 1 pink, 2 brown), at unit RMS, `[samples]`."""
    spectrum = fft.rfft(rng.standard_normal(samples, np.float32))  # scipy's transform stays in single precision
    spectrum[1:] *= np.arange(1, spectrum.size, dtype=np.float32) ** np.float32(-exponent / 2)
    spectrum[0] = 0
    noise: Audio = fft.irfft(spectrum, samples)
    return noise / np.float32(rms(noise))


class SpectrogramAugment(nn.Module):
    """What a microphone and chance do to a normalised log-mel: a random response, a random low-pass, MixStyle and SpecAugment.

    The response is a curve in decibels through random knots; `floor` and `decibel` are the log floor and one decibel in
    the normalised units, so that a band that is filtered away ends where the front end's own floor is.
    Sources: Park et al., "SpecAugment" (2019); Kim et al., "Domain generalization with relaxed instance frequency-wise
    normalization" and Schmid et al., Freq-MixStyle (DCASE 2022).
    """

    def __init__(
        self, floor: float, decibel: float, *, response_db: float = 8.0, low_pass: float = 0.2, mix_style: float = 0.3, masks: bool = True
    ) -> None:
        super().__init__()
        self.floor, self.decibel = floor, decibel
        self.response_db, self.low_pass, self.mix_style = response_db, low_pass, mix_style
        drawn = (FrequencyMasking(8, iid_masks=True), TimeMasking(25, iid_masks=True), TimeMasking(25, iid_masks=True))
        self.masks = nn.Sequential(*(drawn if masks else ()))

    def forward(self, log_mel: Tensor) -> Tensor:
        """See the class."""
        filtered = log_mel + self._response(log_mel) * self.decibel
        floored = self.floor + nn.functional.softplus(filtered - self.floor, beta=4.0)  # never below the front end's floor
        masked: Tensor = self.masks(self._mixed_style(floored).unsqueeze(1)).squeeze(1)
        return masked

    def _response(self, log_mel: Tensor) -> Tensor:
        """Decibels per band, `[batch, mels, 1]`."""
        batch, mels, _ = log_mel.shape
        knots = (torch.rand(batch, 1, 6) * 2 - 1) * self.response_db
        curve = nn.functional.interpolate(knots, mels, mode="linear", align_corners=True).transpose(1, 2)
        cutoff = torch.where(torch.rand(batch, 1, 1) < self.low_pass, torch.rand(batch, 1, 1) * 0.45 + 0.5, 2.0) * mels
        slope_db = torch.rand(batch, 1, 1) * 8 + 2  # per band
        return curve - slope_db * (torch.arange(mels)[None, :, None] - cutoff).clamp(min=0)

    def _mixed_style(self, log_mel: Tensor) -> Tensor:
        """Mix each clip's per-band mean and deviation with another clip's."""
        if torch.rand(()) >= self.mix_style:
            return log_mel
        mean, std = log_mel.mean(2, keepdim=True), log_mel.std(2, keepdim=True) + 1e-3
        other = torch.randperm(log_mel.shape[0])
        share = torch.distributions.Beta(0.4, 0.4).sample((log_mel.shape[0], 1, 1))
        share = torch.maximum(share, 1 - share)  # a clip keeps most of its own level
        return (log_mel - mean) / std * (share * std + (1 - share) * std[other]) + share * mean + (1 - share) * mean[other]
