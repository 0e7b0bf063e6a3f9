"""The network of a bundle, out of its graph: so that a bundle whose training run is gone can be written in today's form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from earmark_model.calibration import OTHER, Calibration
from earmark_model.contract import CARD_FILE, GRAPH_FILE, LABELS, BundleError, BundleSpec, read_bundle
from earmark_model.export import CalibratedTagger, ParityReport, check_parity, fused, write_bundle
from earmark_model.frontend import FrontendSpec
from earmark_model.graph import FRONT_END
from earmark_model.network import NetworkSpec, Tagger


def restored(folder: Path) -> tuple[CalibratedTagger, BundleSpec]:
    """The calibrated network that the graph of a bundle of schema 1 holds, and the bundle's description.

    Raises:
        BundleError: the bundle is missing or damaged, does not say how its network is built, or its graph has other weights than that.
    """
    spec = read_bundle(folder)
    path = folder / GRAPH_FILE
    if spec.schema != 1:
        msg = f"{folder}: its schema is {spec.schema} already; nothing to renew"
        raise BundleError(msg)
    try:
        train = spec.provenance["train"]
        tagger = Tagger(FrontendSpec(**train["frontend"]), NetworkSpec(**{**train["network"], "teacher_labels": 0}))
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{folder}: its provenance does not say how the network is built ({error}); export its training run again"
        raise BundleError(msg) from error
    graph = onnx.load(path).graph
    tagger = fused(tagger)
    try:
        _load(tagger.network, _layers(graph))
        calibration = _calibration(graph)
    except (StopIteration, KeyError, ValueError) as error:
        msg = f"{path}: it does not hold the network that its provenance describes ({error}); export its training run again"
        raise BundleError(msg) from error
    return CalibratedTagger(tagger, calibration).eval(), spec


def renewed(folder: Path, out: Path) -> ParityReport:
    """Write the bundle at `folder` again at `out` in the form of today's exports, with the same scores, thresholds, provenance and card.

    Raises:
        BundleError: as `restored`.
        ExportError: the restored network, or the new graph, does not score as the old graph; nothing was written.
    """
    model, spec = restored(folder)
    check_parity(model, folder, _probes())
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    return write_bundle(model, spec.thresholds, spec.provenance, card, _probes(), out, triage=spec.triage)


def _probes() -> list[NDArray[np.float32]]:
    """Sounds that reach every part of a network: noise of several levels that comes and goes, a sliding tone, silence."""
    rng = np.random.default_rng(0)
    time_s = np.arange(48_000) / 16_000
    tone = 0.2 * np.sin(2 * np.pi * (200 + 900 * time_s) * time_s)
    bursts = rng.standard_normal(48_000) * np.repeat(10.0 ** rng.uniform(-4, -0.5, 12), 4_000)
    return [np.clip(sound, -1, 1).astype(np.float32) for sound in (bursts, tone, tone + bursts, np.zeros(48_000))]


def _load(network: nn.Module, layers: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
    """Give the network's convolutions and linear layers, which it holds in the order in which they run, the graph's weights."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight, bias = next(layers)
            rows = layer.weight.shape[: 2 if isinstance(layer, nn.Conv2d) else 0]
            if rows:  # channels that only fill up lanes are zero
                weight, bias = weight[: rows[0], : rows[1]], bias[: rows[0]]
            elif weight.shape != layer.weight.shape:
                weight = weight.T
            if weight.shape != layer.weight.shape:
                msg = f"weights of {list(weight.shape)} where {list(layer.weight.shape)} belong"
                raise ValueError(msg)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight.copy()))
                assert layer.bias is not None, "batch norms are folded in"
                layer.bias.copy_(torch.from_numpy(bias.copy()))
    if next(layers, None) is not None:
        msg = "more layers than the network has"
        raise ValueError(msg)


def _layers(graph: onnx.GraphProto) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weights and biases of the graph's layers after the front end, in order."""
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    users = {name: node for node in graph.node for name in node.input}

    def constant(name: str) -> NDArray[Any]:
        if name in values:
            return values[name]
        node = made[name]
        if node.op_type == "Cast":
            return constant(node.input[0]).astype(np.float32)
        if node.op_type == "Mul":
            return np.asarray(constant(node.input[0]) * constant(node.input[1]))
        msg = f"a weight that {node.op_type} makes"
        raise ValueError(msg)

    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"} or FRONT_END in node.name:
            continue
        if len(node.input) > 2:  # noqa: PLR2004 - a bias of its own
            yield constant(node.input[1]), constant(node.input[2])
        else:
            bias = next(name for name in users[node.output[0]].input if name in values)
            yield constant(node.input[1]), values[bias]


def _calibration(graph: onnx.GraphProto) -> Calibration:
    """sigmoid(logits * scale + bias + rest * sure), read from the end: the output is made by Sigmoid, Add, Add and two products."""
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    last = made[made["clip_scores"].input[0]]
    inner, rest = (made[name] for name in last.input)
    scaled = made[next(name for name in inner.input if name not in values)]
    scale, bias, beside = (next(values[name] for name in node.input if name in values) for node in (scaled, inner, rest))
    return Calibration(tuple(map(float, scale)), tuple(map(float, bias)), LABELS, rest=float(beside[OTHER]))
