"""A small honest bundle: a graph that measures tones. Each label listens to one frequency, so that a test can write what is heard."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.edge.review_double import ReviewDouble, serving

from earmark_edge.scorer import Scorer
from earmark_model.contract import GRAPH_FILE, LABELS, SPEC_FILE, BundleSpec, Guarantee, Threshold, sha256_file

RATE_HZ = 16_000
TONE_HZ = {"scream": 3_000, "cry": 500, "baby_cry": 1_000, "shout": 2_000, "laughter": 1_500, "speech": 200, "other": 6_000}
GUARANTEE = Guarantee(alpha=0.05, delta=0.05, positives=59, misses=0, calibration_sha256="c" * 64)


def tone_graph() -> onnx.ModelProto:
    """25 ms Hann windows every 10 ms, the power at each label's frequency, averaged over 8: a tone of amplitude 0.032 scores 0.5."""
    time_s = np.arange(400) / RATE_HZ
    window = np.hanning(401)[:400]
    phases = 2 * np.pi * np.array([TONE_HZ[label] for label in LABELS])[:, None] * time_s
    kernels = np.concatenate([np.cos(phases), np.sin(phases)]) * window * 2 / window.sum()  # [2 * classes, 400]
    constants = {
        "kernels": kernels[:, None].astype(np.float32),
        "channel_axis": np.array([1], np.int64),
        "floor": np.array(1e-9, np.float32),
        "slope": np.array(2 / np.log(10), np.float32),
        "offset": np.array(6, np.float32),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["audio", "channel_axis"], ["mono"]),
        helper.make_node("Conv", ["mono", "kernels"], ["parts"], strides=[160]),
        helper.make_node("Mul", ["parts", "parts"], ["squares"]),
        helper.make_node("Split", ["squares"], ["real", "imaginary"], axis=1, num_outputs=2),
        helper.make_node("Add", ["real", "imaginary"], ["power"]),
        helper.make_node("AveragePool", ["power"], ["mean"], kernel_shape=[8], strides=[8], ceil_mode=1),
        helper.make_node("Add", ["mean", "floor"], ["floored"]),
        helper.make_node("Log", ["floored"], ["log"]),
        helper.make_node("Mul", ["log", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Transpose", ["score"], ["frame_scores"], perm=[0, 2, 1]),
        helper.make_node("ReduceMax", ["frame_scores", "channel_axis"], ["clip_scores"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["batch", "samples"])],
        [
            helper.make_tensor_value_info("clip_scores", TensorProto.FLOAT, ["batch", len(LABELS)]),
            helper.make_tensor_value_info("frame_scores", TensorProto.FLOAT, ["batch", "frames", len(LABELS)]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def overlapping_tone_graph() -> onnx.ModelProto:
    """The tone graph in the form of schema 2: power of the first frames may be given, that of the others comes out."""
    model = tone_graph()
    graph = model.graph
    constants = {"held": np.zeros((1, len(LABELS), 0), np.float32), "hop": np.array([160], np.int64), "last": np.array([2**62], np.int64),
                 "third": np.array([2], np.int64), "nothing": np.array(0, np.float32)}  # fmt: skip
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.input.append(helper.make_tensor_value_info("held", TensorProto.FLOAT, [1, len(LABELS), "held_frames"]))
    graph.output.append(helper.make_tensor_value_info("mel_power", TensorProto.FLOAT, ["batch", len(LABELS), "mel_frames"]))
    by_output = {node.output[0]: node for node in graph.node}
    by_output["mono"].input[0] = "further"
    by_output["power"].output[0] = "mel_power"
    by_output["mean"].input[0] = "power"
    before = [
        helper.make_node("Shape", ["held"], ["held_shape"]),
        helper.make_node("Gather", ["held_shape", "third"], ["held_frames"]),
        helper.make_node("Mul", ["held_frames", "hop"], ["first"]),
        helper.make_node("Slice", ["audio", "first", "last", "channel_axis"], ["further"]),
        helper.make_node("Mul", ["audio", "nothing"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros", "channel_axis"], ["zero_rows"]),
        helper.make_node("Unsqueeze", ["zero_rows", "third"], ["zero"]),
        helper.make_node("Add", ["held", "zero"], ["known"]),  # one for each row of the batch
    ]
    nodes = [*before, *graph.node]
    at = next(i for i, node in enumerate(nodes) if node.output[0] == "mean")
    nodes.insert(at, helper.make_node("Concat", ["known", "mel_power"], ["power"], axis=2))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def write_bundle(folder: Path, *, graph: onnx.ModelProto | None = None, verified: tuple[str, ...] = LABELS, **changes: object) -> Path:
    """A bundle at `folder`: the tone graph, every threshold 0.5, with a guarantee for the labels in `verified`."""
    folder.mkdir(parents=True, exist_ok=True)
    tones = overlapping_tone_graph if changes.get("schema") == 2 else tone_graph
    (folder / GRAPH_FILE).write_bytes((graph or tones()).SerializeToString())
    fields = {
        "labels": LABELS,
        "sensitive": ("scream", "cry", "baby_cry"),
        "sample_rate_hz": RATE_HZ,
        "window_samples": 32_000,
        "hop_samples": 8_000,
        "frame_hop_samples": 1_280,
        "thresholds": {label: Threshold(0.5, GUARANTEE if label in verified else None) for label in LABELS},
        "graph_sha256": sha256_file(folder / GRAPH_FILE),
        **changes,
    }
    (folder / SPEC_FILE).write_text(BundleSpec(**fields).to_json())
    return folder


def play(*parts: tuple[str, float], amplitude: float = 0.3) -> np.ndarray:
    """Sound as a list of (label or labels joined by '+', seconds): the tones that the graph hears as those labels; "" is silence."""
    pieces = []
    for names, seconds in parts:
        time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        tones = [np.sin(2 * np.pi * TONE_HZ[name] * time_s) for name in names.split("+") if name]
        pieces.append(amplitude * np.sum(tones, axis=0) if tones else np.zeros(len(time_s)))
    return np.concatenate(pieces).astype(np.float32)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def scorer(bundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture(scope="session")
def overlapping_scorer(tmp_path_factory) -> Scorer:
    """The same, with a graph that takes over what the window before has computed."""
    return Scorer(write_bundle(tmp_path_factory.mktemp("overlapping"), schema=2, mel_hop_samples=160))


@pytest.fixture(scope="session", name="play")
def play_fixture() -> Callable[..., np.ndarray]:
    return play


@pytest.fixture(scope="session", name="write_bundle")
def write_bundle_fixture() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture
def service() -> Iterator[ReviewDouble]:
    with serving() as double:
        yield double
