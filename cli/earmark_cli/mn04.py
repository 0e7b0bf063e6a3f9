"""EfficientAT's mn04_as, run live from the weights that lie in the corpus: its own front end at 32 kHz and its own strides.

Schmid, Koutini and Widmer, "Efficient large-scale audio tagging via transformer-to-CNN knowledge distillation" (ICASSP 2023).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earmark_cli.yamnet import PeerError
from earmark_data.torchaudio_transforms import Resample
from earmark_model.network import EXPANSION, ORIGINAL_BLOCKS, STEM, InvertedResidual
from earmark_model.pretrained import CLASSES, ROWS, TAGGER

SAMPLE_RATE_HZ, OWN_RATE_HZ = 16_000, 32_000
FRAME_SAMPLES, HOP_SAMPLES, DFT_POINTS = 800, 320, 1_024
MELS = 128
HIGHEST_HZ = 15_000.0
EMPHASIS = 0.97
LOG_OFFSET = 1e-5
EMBEDDING = 512
WINDOW_S, WINDOW_HOP_S = 2.0, 1.0
"""A window and its hop, as in the scores that the corpus records."""

SHORTEST_SAMPLES = 1_600
"""Less is padded to this: the first frame mirrors 16 ms."""

LABELS = tuple({row: name for name, row in ROWS.items()}.get(row, f"class {row}") for row in range(CLASSES))
"""Names of the 527 classes where the corpus knows them, otherwise `class N`."""


class Mn04(nn.Module):
    """The published tagger: audio `[batch, samples]` at 16 kHz in [-1, 1], 0.1 s or more, to logits `[batch, 527]`.

    Frozen and in evaluation mode when read with `read`; gradients pass through it to the audio.
    """

    hann: Tensor
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.resample = Resample(SAMPLE_RATE_HZ, OWN_RATE_HZ)
        self.register_buffer("hann", torch.hann_window(FRAME_SAMPLES, periodic=False), persistent=False)
        self.register_buffer("mel", torch.from_numpy(kaldi_mel()).float(), persistent=False)
        layers: list[nn.Module] = [_stem(1, STEM, 3, 2)]
        width = STEM
        for block in ORIGINAL_BLOCKS:
            layers.append(InvertedResidual(width, block))
            width = block.outputs
        layers.append(_stem(width, EXPANSION * width, 1, 1))
        self.features = nn.Sequential(*layers)
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(
            *pool, nn.Linear(EXPANSION * width, EMBEDDING), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(EMBEDDING, CLASSES)
        )

    @classmethod
    def read(cls, path: Path) -> Mn04:
        """The tagger with the weights of a state dict.

        Raises:
            PeerError: the file is missing or holds other weights.
        """
        if not path.is_file():
            msg = f"{path}: no such weights; the peer mn04 is run from {TAGGER}, which lies in the corpus's teachers folder"
            raise PeerError(msg)
        tagger = cls()
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            named = {name.replace(".conc_se_layers.0.", "."): tensor for name, tensor in held.items()}
            missing = set(tagger.load_state_dict(named, strict=False).missing_keys) - {"resample.kernel"}
        except Exception as error:  # torch raises its own, pickle's and built-in errors for a file that is something else
            msg = f"{path}: not the weights of mn04_as ({type(error).__name__}); take the file that came with the corpus"
            raise PeerError(msg) from error
        if missing:
            msg = f"{path}: not the weights of mn04_as: without {min(missing)}"
            raise PeerError(msg)
        return tagger.eval().requires_grad_(False)

    def log_mel(self, audio: Tensor) -> Tensor:
        """`[batch, samples]` at 16 kHz to `[batch, 128, frames]` of 10 ms, in single precision whatever surrounds it."""
        with torch.autocast(audio.device.type, enabled=False):
            raised = self.resample(audio.float())
            emphasised = raised[:, 1:] - EMPHASIS * raised[:, :-1]
            spectrum = torch.stft(emphasised, DFT_POINTS, HOP_SAMPLES, FRAME_SAMPLES, self.hann, center=True, return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()  # [batch, bins, frames]
            return (torch.log(self.mel @ power + LOG_OFFSET) + 4.5) / 5

    def forward(self, audio: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.classifier(self.features(self.log_mel(audio).unsqueeze(1)))
        return logits

    @torch.inference_mode()
    def scores(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities `[windows, 527]` of `[samples]` at 16 kHz, by `windows`."""
        found: NDArray[np.float32] = torch.sigmoid(self(torch.from_numpy(windows(audio)))).numpy()
        return found


def windows(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[samples]` as `[windows, samples]`: the fewest windows of 2 s, a second apart, that cover the clip.

    As in the recorded scores, the last is padded with silence and a clip of less than one window is heard as it is.
    """
    size, hop = round(WINDOW_S * SAMPLE_RATE_HZ), round(WINDOW_HOP_S * SAMPLE_RATE_HZ)
    size = min(size, max(audio.size, SHORTEST_SAMPLES))
    further = max(0, -(-(audio.size - size) // hop))
    padded = np.zeros(size + further * hop, np.float32)
    padded[: audio.size] = audio
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop].copy()


def kaldi_mel() -> NDArray[np.float64]:
    """Kaldi's mel triangles, straight in mel from 0 to 15 kHz, `[128, bins]`; the bin at half the rate counts nothing."""

    def mel(hz: NDArray[Any]) -> NDArray[Any]:
        return 1127.0 * np.log1p(hz / 700.0)

    edges = np.linspace(0.0, mel(np.array(HIGHEST_HZ)), MELS + 2)[:, None]
    bins = mel(np.arange(DFT_POINTS // 2 + 1) * (OWN_RATE_HZ / DFT_POINTS))
    rising, falling = (bins - edges[:-2]) / np.diff(edges, axis=0)[:-1], (edges[2:] - bins) / np.diff(edges, axis=0)[1:]
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    triangles[:, -1] = 0.0
    return triangles


def _stem(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=1e-3), nn.Hardswish())
