"""Regenerate bench/LOADING.md: how fast examples are prepared beside how fast the network learns from them, in one run."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import torch
from torch.utils.data import DataLoader

from earmark_cli.training import Prepared, TrainingInputs, prepare, validate
from earmark_model.curves import LOG
from earmark_model.fit import Batch, Trainer
from earmark_model.processes import Processes
from earmark_model.train_config import SIZES, TrainConfig, sized

ROOT = Path(__file__).resolve().parents[1]
WORKERS = (0, 1, 2)
ROUNDS = 3
VALIDATED = 16
"""Clips that an epoch is validated on here: what is measured is training."""


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with manifest.csv and teachers/")
    parser.add_argument("--examples", type=int, default=960, help="examples that each figure is measured over")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where train.py keeps decoded clips, and may find them")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "LOADING.md")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    processes = Processes(options.device)
    lines: list[str] = []
    for size in (
        name for name, words in SIZES.items() if not words.get("frozen")
    ):  # a frozen network hears each clip once, and then no more
        with tempfile.TemporaryDirectory(dir=options.runs, prefix="loading-") as run:
            config = TrainConfig(**{**sized(size), "epochs": 1, "examples_per_epoch": options.examples})
            prepared = prepare(TrainingInputs(options.corpus, Path(run), workers=0), config, processes, resume=False)
            lines += _measured(prepared, processes, size)
    report = _report(lines, processes, options.examples)
    options.out.write_text(report, encoding="utf-8")
    print(report)


def _measured(prepared: Prepared, processes: Processes, size: str) -> list[str]:
    """Table lines of one size. Work is counted in time of the processor, which others on the machine hardly lengthen."""
    ready = list(_batches(prepared, 0))
    _learned(prepared, processes, ready[:2])  # the first steps choose kernels and fill caches
    preparing, learning = [], []
    for _ in range(ROUNDS):
        alone, beside = Timed(_batches(prepared, 0)), Timed(ready)
        count = sum(len(batch.audio) for batch in alone)
        preparing.append(1_000 * alone.spent_s / count)
        _learned(prepared, processes, beside)  # what is done after the last batch, such as validating, is not counted
        learning.append(1_000 * beside.spent_s / count)
    one, other = statistics.median(preparing), statistics.median(learning)
    lines = []
    for workers in WORKERS:
        together = _learned(prepared, processes, _batches(prepared, workers))
        rate, waited = together["examples_per_s"], together["waited_percent"]
        lines.append(f"| {size} | {one:.2f} | {other:.2f} | {other / one:.1f} | {workers} | {rate:.0f} | {waited:.1f} % |")
    return lines


class Timed:
    """Hands on batches, and counts the seconds of processor, over all threads, until whoever takes them is done with the last."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches, self.spent_s = batches, 0.0

    def __iter__(self) -> Iterator[Batch]:
        """Once."""
        began = time.process_time()
        yield from self._batches
        self.spent_s = time.process_time() - began


def _batches(prepared: Prepared, workers: int) -> Iterable[Batch]:
    """One epoch, as `train.py` loads it."""
    config = prepared.config
    loader = DataLoader(
        prepared.dataset, config.batch_size, sampler=range(config.examples_per_epoch), num_workers=workers, drop_last=True
    )  # fmt: skip
    return cast("Iterable[Batch]", loader)


def _learned(prepared: Prepared, processes: Processes, batches: Iterable[Batch]) -> dict[str, float]:
    """What the trainer's own log says of an epoch over `batches`: `examples_per_s` and `waited_percent`."""
    few = {on: dataclasses.replace(clips, rows=clips.rows[:: -(-len(clips) // VALIDATED)]) for on, clips in prepared.validation.items()}
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(prepared.config, Path(run), processes=processes, teacher_labels=_teacher_labels(prepared))
        trainer.fit(lambda _: batches, lambda tagger: validate(tagger, few, prepared.pcm))
        with (Path(run) / LOG).open(encoding="utf-8") as file:
            row = next(csv.DictReader(file))
    return {name: float(row[name]) for name in ("examples_per_s", "waited_percent")}


def _teacher_labels(prepared: Prepared) -> tuple[str, ...]:
    return prepared.dataset.teachers.labels if prepared.dataset.teachers else ()


def _report(lines: list[str], processes: Processes, examples: int) -> str:
    device = torch.cuda.get_device_name() if processes.device.type == "cuda" else f"{torch.get_num_threads()} threads of the processor"
    header = "network | preparing an example, ms | learning from it, ms | times as long | loading processes | learned per second | waited"
    return f"""# Loading beside training

`python -m bench.loading --corpus CORPUS`: {examples} examples a figure, the median of {ROUNDS} rounds; {os.cpu_count()} cores, the network
on {device}; load average {os.getloadavg()[0]:.0f} when it ended.

An example is drawn, cropped, mixed, reverberated and levelled from decoded clips in a memory-mapped file. Milliseconds are of processor,
over all threads: so many times longer does the network take for an example than its preparation, on one core. The last two columns are by
the clock and depend on what else the machine does: the share of an epoch that the trainer waited for data tells a starved one. With 0
loading processes examples are prepared between steps, and all of that counts as waiting.

| {header} |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
