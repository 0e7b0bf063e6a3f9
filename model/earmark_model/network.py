"""The network: a residual CNN over log-mel, with frame scores and clip scores for the design's labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from earmark_model.contract import LABELS
from earmark_model.frontend import FrontendSpec, LogMel

TIME_STRIDE = 8
"""Log-mel frames per network frame: the stem and two stages halve time."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Size of the network; part of the model.

    `channels` are the widths of the four stages. `context` widths of dilation (1, 2, 4) let a frame hear about two seconds.
    `sharpness` of the pooling: a clip's score lies between the mean (0) and the maximum (infinity) of its frames' logits.
    `teacher_labels` adds a head that learns two taggers' scores beside the labels; it is dropped at export.
    """

    channels: tuple[int, int, int, int] = (16, 32, 64, 112)
    context: int = 3
    dropout: float = 0.2
    sharpness: float = 3.0
    teacher_labels: int = 0

    def __post_init__(self) -> None:
        if len(self.channels) != 4 or min(self.channels) < 1 or any(width % 16 for width in self.channels):  # noqa: PLR2004 - four stages
            # torch's half-precision convolutions on a CPU overrun their buffers with other widths (seen with 4 and with 8)
            msg = f"channels must be four multiples of 16, got {self.channels}"
            raise ValueError(msg)
        if not (0 <= self.dropout < 1 and self.sharpness > 0 and self.context >= 0 and self.teacher_labels >= 0):
            msg = f"need 0 <= dropout < 1, sharpness > 0, context >= 0, teacher_labels >= 0, got {self}"
            raise ValueError(msg)


class Logits(NamedTuple):
    """`clip` `[batch, labels]`, `frames` `[batch, frames, labels]`, `teacher` `[batch, teacher_labels]` (empty without that head)."""

    clip: Tensor
    frames: Tensor
    teacher: Tensor


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al., 2016), with the striding in the first."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == (1, 1)
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, mels, frames]` to `[batch, outputs, mels / stride, frames / stride]`."""
        return torch.relu(self.body(x) + self.shortcut(x))


class ContextBlock(nn.Module):
    """A dilated convolution over time beside a shortcut."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, width, frames]` to the same."""
        return x + self.body(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


class Network(nn.Module):
    """Log-mel `[batch, mels, frames]` to `Logits`. Frames are 8 log-mel frames (80 ms) apart."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        stem, second, third, last = spec.channels
        self.stem = nn.Sequential(nn.Conv2d(1, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(
            ResidualBlock(stem, stem, (1, 1)),
            ResidualBlock(stem, second, (2, 2)),
            ResidualBlock(second, third, (2, 2)),
            ResidualBlock(third, last, (2, 1)),
        )
        self.context = nn.Sequential(*(ContextBlock(last, 2**step) for step in range(spec.context)))
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(last, len(LABELS))
        self.teacher_head = nn.Linear(last, spec.teacher_labels) if spec.teacher_labels else None

    def forward(self, log_mel: Tensor) -> Logits:
        """See the class."""
        x = self.stages(self.stem(log_mel.unsqueeze(1)))  # [batch, last, mels / 16, frames / 8]
        x = self.context(x.mean(2)).transpose(1, 2)  # [batch, frames / 8, last]
        x = self.dropout(x)
        frames = self.head(x)
        teacher = self._pool(self.teacher_head(x)) if self.teacher_head is not None else frames.new_zeros(frames.shape[0], 0)
        return Logits(self._pool(frames), frames, teacher)

    def _pool(self, frames: Tensor) -> Tensor:
        """Smooth maximum over time, log-mean-exp of sharpened logits: a short scream in a long clip still counts."""
        sharp = self.spec.sharpness
        count = torch.tensor(0.0, device=frames.device) + frames.shape[1]  # a tensor, so that the exported graph takes any length
        return (torch.logsumexp(sharp * frames, dim=1) - torch.log(count)) / sharp


class Tagger(nn.Module):
    """Front end and network: audio `[batch, samples]` to `Logits`."""

    def __init__(self, frontend: FrontendSpec, network: NetworkSpec) -> None:
        super().__init__()
        self.frontend = LogMel(frontend)
        self.network = Network(network)

    def forward(self, audio: Tensor) -> Logits:
        """See the class."""
        logits: Logits = self.network(self.frontend(audio))
        return logits


def parameters(model: nn.Module) -> int:
    """How many trained parameters the model has."""
    return sum(math.prod(weight.shape) for weight in model.parameters())
