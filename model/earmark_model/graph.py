"""The network as an ONNX graph: traced, then stored in few bytes and laid out for onnxruntime's fastest kernels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from earmark_model.frontend import KEPT, PHASES, LogMel, hann_window
from earmark_model.network import InvertedResidual, Network

OPSET = 17
TRACED_SAMPLES = 32_000
FRONT_END = "/frontend/"
"""What the names of the front end's nodes hold in a graph, so that its share of the time can be told."""
ROUNDED_FROM = 512
"""Weights of at least this many numbers are stored in 8 bits, to which `export.fused` has rounded them: nothing is lost."""
PLACE_BYTES = 12
"""What a number takes that is stored with its row and column; alone it takes 4."""
LANES = 16
"""Channels that onnxruntime's convolutions take at once; with fewer it leaves its fast layout."""


def quantised(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers in [-127, 127] and a scale for each output channel, whose product is `weight` within half a step.

    `[outputs, ...]` to the same and `[outputs, 1, ...]`; rounding what is rounded changes nothing.
    """
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    mantissa, exponent = np.frexp(np.where(largest > 0, largest / 127, 1))
    # 16 bits of scale, rounded up: 127 steps of it are exact in single precision, so that rounding twice is rounding once
    scale = np.ldexp(np.ceil(mantissa * 2**16) / 2**16, exponent).astype(np.float32)
    return np.round(weight / scale).astype(np.int8), scale


def widen(network: Network) -> None:
    """Fill the stem's 8 channels up to `LANES` with ones that are always zero, in a network whose batch norms are folded.

    Every score stays as it is, and onnxruntime takes 4 % less time: up to the second block no tensor changes its layout.
    """
    stem, first, second = (cast("nn.Sequential", network.features[number]) for number in range(3))
    parts = [stem, *(cast("nn.Sequential", part) for block in (first, second) for part in cast("InvertedResidual", block).block)]
    stem, depthwise, projection, expansion = parts[:4]
    stem[0] = _padded(cast("nn.Conv2d", stem[0]), inputs=1, outputs=LANES)
    depthwise[0] = _padded(cast("nn.Conv2d", depthwise[0]), inputs=LANES, outputs=LANES)
    projection[0] = _padded(cast("nn.Conv2d", projection[0]), inputs=LANES, outputs=LANES)
    wide = cast("nn.Conv2d", expansion[0])
    expansion[0] = _padded(wide, inputs=LANES, outputs=wide.out_channels)


@torch.no_grad()
def _padded(narrow: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution of more channels, whose further weights and biases are zero."""
    groups = outputs if narrow.groups > 1 else 1
    wide = nn.Conv2d(inputs, outputs, narrow.kernel_size, narrow.stride, narrow.padding, narrow.dilation, groups)  # type: ignore[arg-type]
    assert wide.bias is not None
    assert narrow.bias is not None, "its batch norm is folded in"
    rows, columns = narrow.weight.shape[:2]
    wide.weight.zero_()[:rows, :columns] = narrow.weight
    wide.bias.zero_()[:rows] = narrow.bias
    return wide


def write_graph(model: nn.Module, frontend: LogMel, path: Path) -> None:
    """Trace `model`, audio `[batch, samples]` to clip and frame scores, and store it compactly; `frontend` is its first part."""
    with warnings.catch_warnings():
        # The exporter by tracing needs no further package and folds constants; torch warns that it prefers the newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, TRACED_SAMPLES),),
            str(path),
            input_names=["audio"],
            output_names=["clip_scores", "frame_scores"],
            dynamic_axes={"audio": {0: "batch", 1: "samples"}, "clip_scores": {0: "batch"}, "frame_scores": {0: "batch", 1: "frames"}},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    _store_in_8_bits(graph)
    _store_sparsely(graph)
    _store_kernel_as_formula(graph, frontend)
    _shorten_names(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _store_in_8_bits(model: onnx.ModelProto) -> None:
    """Store the network's rounded weights as 8-bit steps, scaled when the session starts: a quarter of the size, the same numbers."""
    nodes = []
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < ROUNDED_FROM or values.ndim < 2:  # noqa: PLR2004 - a matrix or a kernel
            continue
        name = initializer.name
        for rows in (values, np.ascontiguousarray(values.T)):  # the exporter turns the matrices of linear layers over
            steps, scale = quantised(rows)
            if np.array_equal(steps * scale, rows):
                break
        else:
            continue  # the front end's constants, which keep single precision
        turned = rows.shape != values.shape or not np.array_equal(rows, values)
        if turned:
            steps, scale = np.ascontiguousarray(steps.T), np.ascontiguousarray(scale.T)
        initializer.CopyFrom(numpy_helper.from_array(steps, f"{name}.steps"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes += [
            helper.make_node("Cast", [f"{name}.steps"], [f"{name}.whole"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]),
        ]
    assert nodes, "the network has large weights, and `fused` has rounded them"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _store_sparsely(model: onnx.ModelProto) -> None:
    """Store matrices of mostly zeros, the mel filters, as the numbers that are there, laid out when the session starts."""
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        values = _value(node)
        if values.dtype != np.float32 or values.size < ROUNDED_FROM or np.count_nonzero(values) * PLACE_BYTES > values.nbytes:
            continue
        name, places = node.output[0], np.argwhere(values).astype(np.int32)
        model.graph.node.remove(node)
        model.graph.initializer.extend(
            numpy_helper.from_array(array, f"{name}.{part}")
            for part, array in (("shape", np.array(values.shape)), ("places32", places), ("held", values[tuple(places.T)]))
        )
        cast = helper.make_node("Cast", [f"{name}.places32"], [f"{name}.places"], to=TensorProto.INT64)
        zeros = helper.make_node("ConstantOfShape", [f"{name}.shape"], [f"{name}.zeros"])
        model.graph.node.insert(0, helper.make_node("ScatterND", [f"{name}.zeros", f"{name}.places", f"{name}.held"], [name]))
        model.graph.node.insert(0, zeros)
        model.graph.node.insert(0, cast)


def _store_kernel_as_formula(model: onnx.ModelProto, frontend: LogMel) -> None:
    """Replace the DFT's first stage, 54 kB, by what it is made of: one turn of a cosine, the window, and which point each tap takes."""
    kernel = frontend.first.numpy()
    node = next(each for each in model.graph.node if each.op_type == "Constant" and np.array_equal(_value(each), kernel))
    name, points = node.output[0], frontend.spec.dft_points
    sample = np.arange(frontend.spec.frame_samples).reshape(-1, PHASES).T[:, None, None, :]  # [phases, 1, 1, taps]
    parts: dict[str, NDArray[Any]] = {
        "turn": np.cos(2 * np.pi * np.arange(points) / points).astype(np.float32),
        "window": hann_window(frontend.spec.frame_samples)[sample].astype(np.float32),
        "sample": sample,
        "residue": np.arange(KEPT)[None, None, :, None],
        "quarter": points // 4 * np.arange(2)[None, :, None, None],  # the real part, and a quarter turn on the imaginary one
        "points": np.array(points),
        "shape": np.array(kernel.shape),
    }
    held = {part: f"{name}.{part}" for part in parts}
    steps = (
        ("Mul", ("sample", "residue"), "angle"),
        ("Add", ("angle", "quarter"), "turned"),
        ("Mod", ("turned", "points"), "point"),
        ("Gather", ("turn", "point"), "wave"),
        ("Mul", ("wave", "window"), "taps"),
        ("Reshape", ("taps", "shape"), ""),
    )
    made = [helper.make_node(op, [f"{name}.{each}" for each in given], [f"{name}.{out}" if out else name]) for op, given, out in steps]
    model.graph.initializer.extend(numpy_helper.from_array(array, held[part]) for part, array in parts.items())
    model.graph.node.remove(node)
    for each in reversed(made):
        model.graph.node.insert(0, each)


def _shorten_names(model: onnx.ModelProto) -> None:
    """Number what lies between input and output, which the exporter names after long paths; the front end keeps its mark."""
    kept = {each.name for each in (*model.graph.input, *model.graph.output)} | {""}
    short: dict[str, str] = {}

    def renamed(name: str) -> str:
        mark = FRONT_END if FRONT_END in name else ""
        return name if name in kept else short.setdefault(name, f"{mark}{len(short)}")

    for initializer in model.graph.initializer:
        initializer.name = renamed(initializer.name)
    for number, node in enumerate(model.graph.node):
        node.name = f"{FRONT_END}{number}" if FRONT_END in f"{node.name}{node.output[0]}" else f"{number}"
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]


def _value(constant: onnx.NodeProto) -> NDArray[Any]:
    return numpy_helper.to_array(constant.attribute[0].t)
