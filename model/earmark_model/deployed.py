"""The calibrated network as a device runs it: the same scores as the trained one's, in fewer and faster steps.

Built from a network whose batch norms are folded. What differs is the order of the arithmetic, chosen for onnxruntime: all layers
are convolutions and pools, which it keeps in one layout; the first block's projection and shortcut are part of the convolution
that follows them; and mel power of frames that an earlier, overlapping window has computed is taken over.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from earmark_model.calibration import OTHER, YIELDING
from earmark_model.frontend import LogMel
from earmark_model.network import STEM, InvertedResidual

if TYPE_CHECKING:
    from earmark_model.export import CalibratedTagger

LANES = 16
"""Channels that onnxruntime's convolutions take at once; with fewer it leaves its fast layout."""
ABOVE_ZERO = 0.5
"""Hard swish is never below -0.375: raised by this, a value passes a ReLU unchanged."""


class Continued(nn.Module):
    """The front end from where held mel power ends: log-mel `[batch, mels, frames]`, and mel power of the further frames."""

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.log_mel = log_mel

    def forward(self, audio: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """`[batch, samples]` and `[batch, mels, held]`; see `Deployed`."""
        fresh = self.log_mel.power(audio[:, held.shape[2] * self.log_mel.spec.hop_samples :])
        gain = self.log_mel.level_gain(audio)[:, :, None]
        return self.log_mel.scaled(torch.cat([held * gain, fresh * gain], 2)), fresh


class Deployed(nn.Module):
    """Audio `[batch, samples]` and held mel power `[batch, mels, held]` to clip scores, frame scores and the further frames' mel power.

    `held` is the mel power of the audio's own first frames, none or any number of them, which are not computed again; what is computed
    comes third, `[batch, mels, frames - held]`. Both are at the audio's own level: the window's gain is applied afterwards.
    """

    scale: Tensor
    bias: Tensor
    rest: Tensor
    top: Tensor

    def __init__(self, model: CalibratedTagger) -> None:
        super().__init__()
        network = copy.deepcopy(model.tagger.network)
        self.frontend = Continued(model.tagger.frontend)
        self.spec = network.spec
        stem, first, second, *others, last = network.features
        self.begin = _merged(cast("nn.Sequential", stem), cast("InvertedResidual", first), cast("InvertedResidual", second))
        self.blocks = nn.Sequential(*others, last)
        height = self._height()
        self.pool = nn.AvgPool2d((height, self.spec.pooled_frames), 1, (0, self.spec.pooled_frames // 2), count_include_pad=False)
        self.embed = _pointwise(network.embed)
        self.beside = None if network.beside is None else _pointwise(network.beside)
        self.head = _pointwise(network.head)
        for name, value in (("scale", model.scale), ("bias", model.bias), ("rest", model.rest), ("top", model.top)):
            self.register_buffer(name, value[:, None])  # [labels, 1]

    def forward(self, audio: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        log_mel, fresh = self.frontend(audio, held)
        x = self.blocks(self.begin(log_mel.unsqueeze(1)))
        pooled = self.pool(x)  # [batch, width, 1, frames]
        if not self.spec.sharpness:
            pooled = torch.cat([pooled, x.mean((2, 3), keepdim=True)], 3)  # the whole, as a last frame
        x = functional.hardswish(self.embed(pooled))
        if self.beside is not None:
            x = torch.cat([x, functional.hardswish(self.beside(x))], 1)
        scores = self._calibrated(self._with_clip(self.head(x)[:, :, 0]))  # [batch, labels, frames + 1]
        return scores[:, :, -1], scores[:, :, :-1].transpose(1, 2), fresh

    def _with_clip(self, logits: Tensor) -> Tensor:
        """Logits of frames `[batch, labels, frames]`, and the clip's as a last one; as `Network` pools them."""
        sharp = self.spec.sharpness
        if not sharp:
            return logits
        count = torch.tensor(0.0) + logits.shape[2]  # a tensor, so that the exported graph takes any length
        return torch.cat([logits, (torch.logsumexp(sharp * logits, 2, keepdim=True) - torch.log(count)) / sharp], 2)

    def _calibrated(self, logits: Tensor) -> Tensor:
        sure = torch.logsumexp(logits[:, :OTHER], dim=1, keepdim=True)
        surest = logits[:, :YIELDING].amax(1, keepdim=True)
        return torch.sigmoid(logits * self.scale + self.bias + self.rest * sure + self.top * surest)

    @torch.no_grad()
    def _height(self) -> int:
        """Rows of the last features: what is left of the mels."""
        mels = self.frontend.log_mel.spec.mels
        return int(self.blocks(self.begin(torch.zeros(1, 1, mels, LANES))).shape[2])


@torch.no_grad()
def _merged(stem: nn.Sequential, first: InvertedResidual, second: InvertedResidual) -> nn.Sequential:
    """The stem and two blocks with `LANES` channels, half of which carry the stem's output past the first block's filter.

    The first block adds to its input a linear function of what it filters, and the second begins with a linear function of that sum:
    one convolution of both does the work of two and an addition.
    """
    filtering, projecting, expanding = (cast("nn.Sequential", each) for each in (*first.block, second.block[0]))
    widest, filtered, projected, expanded = (cast("nn.Conv2d", each[0]) for each in (stem, filtering, projecting, expanding))
    wide = nn.Conv2d(1, LANES, 3, 2, 1)
    passing = nn.Conv2d(LANES, LANES, 3, 1, 1, groups=LANES)
    joined = nn.Conv2d(LANES, expanded.out_channels, 1)
    half, matrix = slice(STEM), expanded.weight[:, :, 0, 0]  # [expanded, stem]
    for part in (wide, passing, joined):
        part.weight.zero_()
        _bias(part).zero_()
    for lanes in (half, slice(STEM, None)):
        wide.weight[lanes], _bias(wide)[lanes] = widest.weight, _bias(widest)
    passing.weight[half, :, 1, 1], _bias(passing)[half] = 1, ABOVE_ZERO
    passing.weight[STEM:], _bias(passing)[STEM:] = filtered.weight, _bias(filtered)
    joined.weight[:, half, 0, 0] = matrix
    joined.weight[:, STEM:, 0, 0] = matrix @ projected.weight[:, :, 0, 0]
    _bias(joined).copy_(_bias(expanded) + matrix @ (_bias(projected) - ABOVE_ZERO))
    return nn.Sequential(wide, stem[1], passing, nn.ReLU(), joined, expanding[1], *list(second.block)[1:])


@torch.no_grad()
def _pointwise(linear: nn.Linear) -> nn.Conv2d:
    convolution = nn.Conv2d(linear.in_features, linear.out_features, 1)
    convolution.weight.copy_(linear.weight[:, :, None, None])
    _bias(convolution).copy_(linear.bias)
    return convolution


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None, "its batch norm is folded in"
    return convolution.bias
