"""The network: a mobile CNN that begins with the weights of a public tagger, with frame and clip scores for the design's labels.

Inverted residuals with squeeze and excitation (Howard et al., "Searching for MobileNetV3", 2019) at width 0.4, as trained
on AudioSet by Schmid et al., "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation" (ICASSP 2023).
The names of the parts are those of that model's weights, so that they load by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from earmark_model.contract import LABELS
from earmark_model.frontend import FrontendSpec, LogMel

STEM = 8
EXPANSION = 6


class BlockSpec(NamedTuple):
    """One inverted residual: depthwise kernel, expanded and output width, width of the squeeze (0: none), and striding."""

    kernel: int
    expanded: int
    outputs: int
    squeezed: int = 0
    stride: tuple[int, int] = (1, 1)
    dilation: int = 1
    hard_swish: bool = True


ORIGINAL_BLOCKS = (
    BlockSpec(3, 8, 8, hard_swish=False),
    BlockSpec(3, 24, 16, stride=(2, 2), hard_swish=False),
    BlockSpec(3, 32, 16, hard_swish=False),
    BlockSpec(5, 32, 16, 8, (2, 2), hard_swish=False),
    BlockSpec(5, 48, 16, 16, hard_swish=False),
    BlockSpec(5, 48, 16, 16, hard_swish=False),
    BlockSpec(3, 96, 32, stride=(2, 2)),
    BlockSpec(3, 80, 32),
    BlockSpec(3, 72, 32),
    BlockSpec(3, 72, 32),
    BlockSpec(3, 192, 48, 48),
    BlockSpec(3, 272, 48, 72),
    BlockSpec(5, 272, 64, 72, (2, 2)),
    BlockSpec(5, 384, 64, 96),
    BlockSpec(5, 384, 64, 96),
)
BLOCKS = (
    *ORIGINAL_BLOCKS[:-3],
    ORIGINAL_BLOCKS[-3]._replace(stride=(2, 1)),
    *(block._replace(dilation=2) for block in ORIGINAL_BLOCKS[-2:]),
)
"""Where the original halves time a fifth time these do not, and reach as far by dilation, which its weights fit exactly."""
LIGHT_BLOCKS = (*BLOCKS[:-2], *ORIGINAL_BLOCKS[-2:])
"""For log-mel frames of 20 ms, twice as long as the original's: time is halved once less, so that its last layers reach as far."""
OMITTED = (12, 15)
"""Blocks, from 1, that a light network lacks: with shortcuts, so that what passes them still has a meaning."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Size of the network; part of the model.

    The first `blocks` of `BLOCKS` are built, where `coarse` those of `ORIGINAL_BLOCKS`, whose frames are twice as long and cost a fifth
    less; `embedding` is the width before the scores. A frame's score hears the mean of `pooled_frames` frames (odd; 7 of 160 ms are
    1.1 s). `sharpness` of the pooling: a clip's logit lies between the mean (towards 0) and the maximum (towards infinity) of its
    frames' logits; exactly 0 hears the mean of all frames as one, as the tagger was trained.
    `beside` adds so many units between the embedding and the scores, which read both. `teacher_labels` adds a head that learns
    two taggers' scores beside the labels; it is dropped at export. `light`: `LIGHT_BLOCKS` less `OMITTED`, for frames of 20 ms.
    """

    blocks: int = len(BLOCKS)
    embedding: int = 512
    pooled_frames: int = 7
    dropout: float = 0.2
    sharpness: float = 3.0
    beside: int = 0
    teacher_labels: int = 0
    coarse: bool = False
    light: bool = False

    def __post_init__(self) -> None:
        if not 7 <= self.blocks <= len(BLOCKS):  # noqa: PLR2004 - with fewer, time would not be halved four times
            msg = f"blocks must be 7 to {len(BLOCKS)}, got {self.blocks}"
            raise ValueError(msg)
        if self.pooled_frames < 1 or self.pooled_frames % 2 == 0:
            msg = f"pooled_frames must be odd and positive, got {self.pooled_frames}"
            raise ValueError(msg)
        if not (0 <= self.dropout < 1 and min(self.sharpness, self.beside, self.teacher_labels) >= 0 and self.embedding > 0):
            msg = f"need 0 <= dropout < 1, sharpness >= 0, embedding > 0, beside >= 0, teacher_labels >= 0, got {self}"
            raise ValueError(msg)
        if self.coarse and self.light:
            msg = "a network is coarse or light, not both"
            raise ValueError(msg)

    @property
    def built(self) -> tuple[BlockSpec, ...]:
        """The blocks, those that a light network lacks included."""
        return (ORIGINAL_BLOCKS if self.coarse else LIGHT_BLOCKS if self.light else BLOCKS)[: self.blocks]

    @property
    def time_stride(self) -> int:
        """Log-mel frames per network frame: the stem halves time, and so do blocks."""
        return 2 * math.prod(block.stride[1] for block in self.built)


class Logits(NamedTuple):
    """`clip` `[batch, labels]`, `frames` `[batch, frames, labels]`, `teacher` `[batch, teacher_labels]` (empty without that head)."""

    clip: Tensor
    frames: Tensor
    teacher: Tensor


class SqueezeExcitation(nn.Module):
    """Each channel scaled by what all channels hold on average (Hu et al., 2018)."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, squeezed), nn.Linear(squeezed, width)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, width, mels, frames]` to the same."""
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))
        return x * scale.reshape(-1, x.shape[1], 1, 1)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, squeeze and excite, project; beside a shortcut where the shapes allow."""

    def __init__(self, inputs: int, spec: BlockSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if spec.expanded != inputs:
            layers.append(_convolution(inputs, spec.expanded, 1, activation=spec.hard_swish))
        layers.append(_convolution(spec.expanded, spec.expanded, spec.kernel, spec.stride, spec.dilation, activation=spec.hard_swish))
        if spec.squeezed:
            layers.append(SqueezeExcitation(spec.expanded, spec.squeezed))
        layers.append(_convolution(spec.expanded, spec.outputs, 1, activation=None))
        self.block = nn.Sequential(*layers)
        self.shortcut = inputs == spec.outputs and spec.stride == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, mels, frames]` to `[batch, outputs, mels / stride, frames / stride]`."""
        y: Tensor = self.block(x)
        return x + y if self.shortcut else y


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: tuple[int, int] = (1, 1), dilation: int = 1, *, activation: bool | None
) -> nn.Sequential:
    """Convolution (per channel where it is larger than a point), batch norm, and hard swish, ReLU or nothing."""
    padding = (kernel // 2, kernel // 2 * dilation)
    groups = inputs if kernel > 1 and inputs == outputs else 1
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, (1, dilation), groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    if activation is not None:
        layers.append(nn.Hardswish() if activation else nn.ReLU())
    return nn.Sequential(*layers)


class Network(nn.Module):
    """Log-mel `[batch, mels, frames]` to `Logits`. Frames are `NetworkSpec.time_stride` log-mel frames apart."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        layers: list[nn.Module] = [_convolution(1, STEM, 3, (2, 2), activation=True)]
        width = STEM
        for number, block in enumerate(spec.built, 1):
            # what is left out keeps its place, by which weights are named
            layers.append(nn.Identity() if spec.light and number in OMITTED else InvertedResidual(width, block))
            width = block.outputs
        layers.append(_convolution(width, EXPANSION * width, 1, activation=True))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AvgPool1d(spec.pooled_frames, 1, spec.pooled_frames // 2, count_include_pad=False)
        self.embed = nn.Linear(EXPANSION * width, spec.embedding)
        self.dropout = nn.Dropout(spec.dropout)
        self.beside = nn.Linear(spec.embedding, spec.beside) if spec.beside else None
        read = spec.embedding + spec.beside
        self.head = nn.Linear(read, len(LABELS))
        self.teacher_head = nn.Linear(read, spec.teacher_labels) if spec.teacher_labels else None

    def forward(self, log_mel: Tensor) -> Logits:
        """See the class."""
        x = self.features(log_mel.unsqueeze(1)).mean(2)  # [batch, width, frames]
        pooled = self.pool(x)
        if not self.spec.sharpness:
            pooled = torch.cat([pooled, x.mean(2, keepdim=True)], 2)  # the whole, as a last frame
        x = self.dropout(self.embedded(pooled))  # [batch, frames (+ 1), embedding]
        if self.beside is not None:
            x = torch.cat([x, nn.functional.hardswish(self.beside(x))], 2)
        clip, frames = self._pool(self.head(x))
        teacher = self._pool(self.teacher_head(x))[0] if self.teacher_head is not None else clip.new_zeros(clip.shape[0], 0)
        return Logits(clip, frames, teacher)

    def embedded(self, means: Tensor) -> Tensor:
        """The embedding `[batch, means, embedding]` of means over time of the last features, `[batch, width, means]`."""
        return nn.functional.hardswish(self.embed(means.transpose(1, 2)))

    def embedding(self, log_mel: Tensor) -> Tensor:
        """The embedding `[batch, embedding]` of the mean over each whole sound, log-mel `[batch, mels, frames]`."""
        return self.embedded(self.features(log_mel.unsqueeze(1)).mean((2, 3))[:, :, None])[:, 0]

    def _pool(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """A clip's logits `[batch, labels]`, and those of its frames.

        Smooth maximum over time, log-mean-exp of sharpened logits: a short scream in a long clip still counts. Without sharpness the
        clip's own are the last.
        """
        sharp = self.spec.sharpness
        if not sharp:
            return frames[:, -1], frames[:, :-1]
        count = torch.tensor(0.0, device=frames.device) + frames.shape[1]  # a tensor, so that the exported graph takes any length
        return (torch.logsumexp(sharp * frames, dim=1) - torch.log(count)) / sharp, frames


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
