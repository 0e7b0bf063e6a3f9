"""From a trained run to the bundle that a device runs, refused unless onnxruntime agrees with torch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from earmark_edge.scorer import Scorer
from earmark_model.calibration import OTHER, YIELDING, Calibration
from earmark_model.contract import CARD_FILE, GRAPH_FILE, LABELS, SENSITIVE, SPEC_FILE, BundleSpec, Threshold, sha256_file
from earmark_model.deployed import Deployed
from earmark_model.graph import ROUNDED_FROM, quantised, write_graph
from earmark_model.network import Tagger

WINDOW_SAMPLES = 32_000
HOP_SAMPLES = 8_000
TOLERANCE = 1e-4
"""Largest difference of any probability between torch and onnxruntime: single precision summed in another order."""


class ExportError(ValueError):
    """The graph does not do what the network does, or the bundle would break its contract; nothing was written."""


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Largest differences of clip and frame probabilities, and over how many inputs and lengths."""

    inputs: int
    lengths: int
    clip_difference: float
    frame_difference: float


class CalibratedTagger(nn.Module):
    """What is exported: audio `[batch, samples]` to calibrated clip `[batch, labels]` and frame scores `[batch, frames, labels]`."""

    scale: Tensor
    bias: Tensor
    rest: Tensor
    top: Tensor

    def __init__(self, tagger: Tagger, calibration: Calibration) -> None:
        super().__init__()
        self.tagger = tagger
        scale, yields = torch.tensor(calibration.scale), torch.zeros(len(LABELS))
        yields[:YIELDING] = torch.tensor(calibration.yields)
        self.register_buffer("scale", scale * (1 + yields))
        self.register_buffer("bias", torch.tensor(calibration.bias, dtype=torch.float32))
        self.register_buffer("top", -scale * yields)  # of the largest sensitive logit, which has the same scale and bias
        rest = torch.zeros(len(LABELS))
        rest[OTHER] = calibration.rest
        self.register_buffer("rest", rest)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits = self.tagger(audio)
        return self._calibrated(logits.clip), self._calibrated(logits.frames)

    def _calibrated(self, logits: Tensor) -> Tensor:
        """As `Calibration` does, `[..., labels]`."""
        sure = torch.logsumexp(logits[..., :OTHER], dim=-1, keepdim=True)  # [..., 1]
        surest = logits[..., :YIELDING].amax(-1, keepdim=True)
        return torch.sigmoid(logits * self.scale + self.bias + self.rest * sure + self.top * surest)


def fused(tagger: Tagger) -> Tagger:
    """The network as it will run: batch norms folded into convolutions, no teacher head, large weights rounded to 8 bits per channel.

    Changes `tagger` in place and returns it; calibrate and measure after this, so that every figure is the shipped graph's.
    """
    tagger.eval()
    network = tagger.network
    network.teacher_head = None
    for parent in list(network.modules()):
        for name, layers in list(parent.named_children()):
            if isinstance(layers, nn.Sequential) and any(isinstance(layer, nn.BatchNorm2d) for layer in layers):
                setattr(parent, name, _fuse_pairs(layers))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.numel() >= ROUNDED_FROM:
                steps, scale = quantised(weight.numpy())
                weight.copy_(torch.from_numpy(steps * scale))
    return tagger


def write_bundle(
    model: CalibratedTagger,
    thresholds: Mapping[str, Threshold],
    provenance: Mapping[str, Any],
    card: str,
    clips: Sequence[NDArray[np.float32]],
    out: Path,
    *,
    triage: Threshold | None = None,
) -> ParityReport:
    """Export, check against `clips` (real audio, `[samples]` each) and at many lengths, and move the finished folder to `out`.

    Raises:
        ExportError: parity fails or `out` is not a folder to replace; `out` is then as it was.
    """
    if not clips:
        msg = "parity needs at least one real clip to compare on"
        raise ExportError(msg)
    if out.exists() and not (out / SPEC_FILE).exists() and any(out.iterdir()):
        msg = f"{out}: exists and is not a bundle; choose another --out"
        raise ExportError(msg)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as name:
        folder = Path(name) / "bundle"
        folder.mkdir()
        write_graph(Deployed(model), folder / GRAPH_FILE)
        spec = replace(_spec(model.tagger, thresholds, provenance, sha256_file(folder / GRAPH_FILE)), triage=triage)
        (folder / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        report = check_parity(model, folder, clips)
        if out.exists():
            shutil.rmtree(out)
        folder.replace(out)
    return report


def check_parity(model: CalibratedTagger, folder: Path, clips: Sequence[NDArray[np.float32]]) -> ParityReport:
    """Compare torch with the device's own runtime on every clip and on lengths from one window up.

    Raises:
        ExportError: a probability differs by more than 1e-4, a shape differs, or a score is not in [0, 1].
    """
    scorer = Scorer(folder)
    shortest = scorer.spec.window_samples
    inputs = [np.pad(clip, (0, max(0, shortest - clip.size))) for clip in clips]
    longest = max(inputs, key=lambda clip: clip.size)
    source = np.tile(longest, -(-(3 * shortest) // longest.size))
    inputs += [source[:length] for length in _lengths(shortest, scorer.spec.frame_hop_samples)]
    clip_difference = frame_difference = 0.0
    for audio in inputs:
        batch = audio[None].astype(np.float32)
        with torch.inference_mode():
            expected = [part.numpy() for part in model(torch.from_numpy(batch))]
        found = scorer.run(batch)
        for wanted, given in zip(expected, found, strict=True):
            if wanted.shape != given.shape or not ((given >= 0) & (given <= 1)).all():
                msg = f"{audio.size} samples: torch gives {wanted.shape}, onnxruntime {given.shape}, or a score outside [0, 1]"
                raise ExportError(msg)
        clip_difference = max(clip_difference, float(np.abs(expected[0] - found[0]).max()))
        frame_difference = max(frame_difference, float(np.abs(expected[1] - found[1]).max()))
        if max(clip_difference, frame_difference) > TOLERANCE:
            worst = max(clip_difference, frame_difference)
            msg = f"{audio.size} samples: torch and onnxruntime differ by {worst:.2e}, more than {TOLERANCE:.0e}; no bundle was written"
            raise ExportError(msg)
    return ParityReport(len(inputs), len({clip.size for clip in inputs}), clip_difference, frame_difference)


def _lengths(window: int, frame_hop: int) -> list[int]:
    """One window, each edge at which another frame begins to count, odd lengths between, and three windows."""
    edges = [window + step for step in range(1, 2 * frame_hop, 97)]
    return [window, *edges, window + frame_hop - 1, window + frame_hop, window + frame_hop + 1, 2 * window + 1, 3 * window]


def _spec(tagger: Tagger, thresholds: Mapping[str, Threshold], provenance: Mapping[str, Any], graph_sha256: str) -> BundleSpec:
    frontend = tagger.frontend.spec
    return BundleSpec(
        labels=LABELS,
        sensitive=SENSITIVE,
        sample_rate_hz=frontend.sample_rate_hz,
        window_samples=WINDOW_SAMPLES,
        hop_samples=HOP_SAMPLES,
        frame_hop_samples=frontend.hop_samples * tagger.network.spec.time_stride,
        thresholds=dict(thresholds),
        graph_sha256=graph_sha256,
        provenance=dict(provenance),
        schema=2,
        mel_hop_samples=frontend.hop_samples,
    )


def _fuse_pairs(layers: nn.Sequential) -> nn.Sequential:
    """A chain with each batch norm folded into the convolution before it."""
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            before = kept[-1]
            assert isinstance(before, nn.Conv2d)
            kept[-1] = fuse_conv_bn_eval(before, layer)
        else:
            kept.append(layer)
    return nn.Sequential(*kept)
