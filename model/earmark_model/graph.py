"""The network as an ONNX graph: traced, then stored in few bytes and laid out for onnxruntime's fastest kernels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from earmark_model.deployed import Deployed
from earmark_model.frontend import KEPT, PHASES, LogMel, hann_window

OPSET = 17
TRACED_SAMPLES = 32_000
FRONT_END = "/frontend/"
"""What the names of the front end's nodes hold in a graph, so that its share of the time can be told."""
ROUNDED_FROM = 512
"""Weights of at least this many numbers are stored in 8 bits, to which `export.fused` has rounded them: nothing is lost."""
PLACE_BYTES = 12
"""What a number takes that is stored with its row and column; alone it takes 4."""


def quantised(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers in [-127, 127] and a scale for each output channel, whose product is `weight` within half a step.

    `[outputs, ...]` to the same and `[outputs, 1, ...]`; rounding what is rounded changes nothing.
    """
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    mantissa, exponent = np.frexp(np.where(largest > 0, largest / 127, 1))
    # 16 bits of scale, rounded up: 127 steps of it are exact in single precision, so that rounding twice is rounding once
    scale = np.ldexp(np.ceil(mantissa * 2**16) / 2**16, exponent).astype(np.float32)
    return np.round(weight / scale).astype(np.int8), scale


def write_graph(model: Deployed, path: Path) -> None:
    """Trace `model` and store it compactly. Its input `held` may be left out; then no frame is held."""
    frontend = model.frontend.log_mel
    names = {"clip_scores": {0: "batch"}, "frame_scores": {0: "batch", 1: "frames"}, "mel_power": {0: "batch", 2: "mel_frames"}}
    held = torch.zeros(1, frontend.spec.mels, 4)
    with warnings.catch_warnings():
        # The exporter by tracing needs no further package and folds constants; torch warns that it prefers the newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.zeros(2, TRACED_SAMPLES), held),
            str(path),
            input_names=["audio", "held"],
            output_names=list(names),
            dynamic_axes={"audio": {0: "batch", 1: "samples"}, "held": {0: "held_batch", 2: "held_frames"}, **names},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros((1, frontend.spec.mels, 0), np.float32), "held"))
    _store_in_8_bits(graph)
    _store_sparsely(graph)
    _store_kernel_as_formula(graph, frontend)
    _keep_batch(graph)
    _shorten_names(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def _keep_batch(model: onnx.ModelProto) -> None:
    """Let every reshape keep its first axis, the batch, as it is; the exporter looks it up and joins it to the rest each time."""
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type != "Reshape" or (joined := made.get(node.input[1])) is None or joined.op_type != "Concat":
            continue
        parts = [made[name] for name in joined.input]
        if any(part.op_type != "Constant" for part in parts[1:]):
            continue
        shape = np.concatenate([np.zeros(1, np.int64), *(_value(part).reshape(-1) for part in parts[1:])])  # 0: as it was
        name = f"{node.input[1]}.kept"
        model.graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
    _drop_unused(model)


def _drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes whose outputs nobody reads."""
    read = {each.name for each in model.graph.output}
    for node in reversed(list(model.graph.node)):
        if read.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            read.update(node.input)


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
