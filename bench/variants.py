"""Regenerate bench/VARIANTS.md: does a bundle gain by 16-bit weights or by 8-bit arithmetic? Size, time on one thread, triage recall.

The 8-bit graph is onnxruntime's static quantisation (QDQ, one scale per channel), calibrated on training clips; the front end stays in
single precision, since the powers of a spectrum span ten decades.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from earmark_cli.bench_report import processor
from earmark_cli.graph_cost import session
from earmark_cli.peers import BundleListener
from earmark_cli.progress import counted
from earmark_cli.scored import Scored
from earmark_data.audio import read_audio
from earmark_data.manifest import Manifest, read_manifest
from earmark_edge.scorer import Scorer, Scores
from earmark_model.contract import GRAPH_FILE, LABELS
from earmark_model.metrics import BUDGETS

ROOT = Path(__file__).resolve().parents[1]
WINDOW, WHOLE = 32_000, 160_000
TRUNK = ("Conv",)
WITH_HEADS = ("Conv", "Gemm", "MatMul", "Mul", "Add", "AveragePool", "ReduceMean", "Concat")
Audio = NDArray[np.float32]


class Windows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime publishes no types
    """One window from the middle of each clip."""

    def __init__(self, manifest: Manifest) -> None:
        self.inputs = self._windows(manifest)

    def _windows(self, manifest: Manifest) -> Iterator[dict[str, Audio]]:
        for row in manifest:
            audio = read_audio(row.path)
            first = max(0, (audio.size - WINDOW) // 2)
            yield {"audio": np.pad(audio, (0, max(0, WINDOW - audio.size)))[None, first : first + WINDOW]}

    def get_next(self) -> dict[str, Audio] | None:
        """The next input, or None at the end."""
        return next(self.inputs, None)


class Variant:
    """A graph in the place of a bundle's own, with what `BundleListener` needs of a scorer."""

    def __init__(self, graph: bytes, like: Scorer) -> None:
        self.spec, self.graph, self.session = like.spec, graph, session(graph)

    def run(self, audio: Audio) -> Scores:
        """As `Scorer.run`."""
        return Scores(*self.session.run(["clip_scores", "frame_scores"], {"audio": audio}))


def main() -> None:
    """Make the variants, measure them in turn, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "model" / "bundles" / "earmark")
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--clips", type=int, default=0, help="of the validation split, evenly drawn; 0 takes all")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "VARIANTS.md")
    options = parser.parse_args()
    whole = read_manifest(options.corpus / "manifest.csv")
    scorer = Scorer(options.bundle)
    graphs = variants(options.bundle / GRAPH_FILE, _spread(whole.select(splits=["train"]), 256))
    found = {name: Variant(graph, scorer) for name, graph in graphs.items()}
    times = timed(found, options.rounds)
    chosen = _spread(whole.select(splits=["val"]), options.clips or len(whole))
    scores = {name: heard(each, chosen) for name, each in found.items()}
    report = table(found, times, scores, chosen)
    options.out.write_text(report, encoding="utf-8")
    print(report)


def variants(path: Path, clips: Manifest) -> dict[str, bytes]:
    """The graph as it is and what could be made of it, serialised."""
    plain = folded(path)
    made = {"as exported": path.read_bytes()}
    made["half-precision weights"] = halved(copy.deepcopy(plain)).SerializeToString()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(plain, folder / "plain.onnx")
        quant_pre_process(str(folder / "plain.onnx"), str(folder / "ready.onnx"), skip_symbolic_shape=True)
        ready = onnx.load(folder / "ready.onnx")
        front = front_end(ready)
        for title, kinds in (("8-bit convolutions", TRUNK), ("8-bit throughout", WITH_HEADS)):
            quantize_static(
                str(folder / "ready.onnx"), str(folder / "int8.onnx"), Windows(clips), quant_format=QuantFormat.QDQ, per_channel=True,
                weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, op_types_to_quantize=list(kinds), nodes_to_exclude=front,
            )  # fmt: skip
            made[title] = (folder / "int8.onnx").read_bytes()
    return made


def folded(path: Path) -> onnx.ModelProto:
    """The graph with its stored steps and formulas turned back into weights, as a quantiser wants to see them."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def front_end(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes before the trunk, which begins with the first convolution over a plane."""
    planes = {each.name for each in model.graph.initializer if len(each.dims) == 4}  # noqa: PLR2004 - outputs, inputs, height, width
    names = [node.name for node in model.graph.node]
    first = next(place for place, node in enumerate(model.graph.node) if node.op_type == "Conv" and node.input[1] in planes)
    return names[:first]


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every matrix and kernel stored in 16 bits and cast when the session starts; arithmetic in half is no kernel of the processor's."""
    for initializer in list(model.graph.initializer):
        values = onnx.numpy_helper.to_array(initializer)
        if values.dtype == np.float32 and values.ndim > 1:
            name = initializer.name
            initializer.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            cast = onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"cast {name}", to=onnx.TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    return model


def timed(found: dict[str, Variant], rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of one thread for each second of audio, whole recordings of 10 s and windows of 2 s, in turn."""
    audio = (0.1 * np.random.default_rng(0).standard_normal((1, WHOLE))).astype(np.float32)
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in found}
    for number in range(rounds + 1):
        for name, each in found.items():
            for kept, samples in zip(taken[name], (WHOLE, WINDOW), strict=True):
                began = time.process_time()
                each.run(audio[:, :samples])
                if number:  # the first run allocates
                    kept.append((time.process_time() - began) * 1000 * 16_000 / samples)
    return {name: (statistics.median(whole), statistics.median(window)) for name, (whole, window) in taken.items()}


def heard(variant: Variant, manifest: Manifest) -> NDArray[np.float64]:
    """Clip scores `[clips, labels]`, by windows as a device hears them."""
    listener = BundleListener(variant)  # type: ignore[arg-type]  # as much of a scorer as it needs
    scores = np.zeros((len(manifest), len(LABELS)))
    with counted("clips") as progress:
        for position, row in enumerate(manifest):
            scores[position] = listener.hear(read_audio(row.path))
            progress(position + 1, len(manifest))
    return scores


def table(
    found: dict[str, Variant], times: dict[str, tuple[float, float]], scores: dict[str, NDArray[np.float64]], manifest: Manifest
) -> str:
    """Markdown."""
    models = {name: Scored(name, manifest, each) for name, each in scores.items()}
    first = models["as exported"]
    kept = first.threshold(BUDGETS[0])
    lines = []
    for name, model in models.items():
        own = [float(np.mean(model.triage[model.positive] >= model.threshold(budget))) for budget in BUDGETS]
        unchanged = np.mean(model.triage[model.positive] >= kept), np.mean(model.triage[model.negative] >= kept)
        apart = np.abs(model.scores - first.scores).max()
        cells = [f"{len(found[name].graph) / 1000:,.0f}", *(f"{each:.2f}" for each in times[name]), *(f"{each:.3f}" for each in own)]
        lines.append(f"| {name} | {' | '.join(cells)} | {unchanged[0]:.3f} / {unchanged[1]:.3f} | {apart:.3f} |")
    headings = ["graph", "kB", "10 s, ms/s", "2 s, ms/s", *(f"recall at {budget.name}" for budget in BUDGETS)]
    headings += ["recall / false positives at the first one's threshold", "largest difference"]
    return (
        f"# Variants of the exported graph\n\n{processor()}, {os.cpu_count()} cores, one thread, onnxruntime {onnxruntime.__version__}; "
        f"written by `python -m bench.variants`. {len(manifest):,} validation clips, by windows.\n\n"
        f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}\n" + "\n".join(lines) + "\n"
    )


def _spread(manifest: Manifest, most: int) -> Manifest:
    """Every n-th clip, so that at most `most` are taken."""
    step = max(1, -(-len(manifest) // most))
    return Manifest(manifest.path, manifest.rows[::step], manifest.sha256)


if __name__ == "__main__":
    main()
