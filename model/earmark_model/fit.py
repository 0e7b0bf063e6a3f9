"""The training loop: batches in, checkpoints and a log out. It knows tensors and figures, not files of audio."""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel

from earmark_model.checkpoint import BEST, LAST, CheckpointError, read_checkpoint, write_checkpoint
from earmark_model.frontend import FrontendSpec
from earmark_model.metrics import Figures
from earmark_model.network import NetworkSpec, Tagger

LOG = "log.csv"
_CACHED_CLIPS = 4
"""The front end runs on this many clips at once: they stay in a processor's cache, and go four times as fast as a whole batch."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides how a network is trained; written beside every checkpoint.

    Training ends after `epochs`, or after `minutes` of training time (validation counted) where that is set; the learning
    rate warms up over `warmup` of the whole and then falls as a cosine. `ema_decay` is the moving average's memory per step.
    """

    seed: int = 1
    epochs: int = 60
    minutes: float | None = None
    examples_per_epoch: int = 24_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup: float = 0.03
    ema_decay: float = 0.998
    teacher_weight: float = 3.0
    frontend: FrontendSpec = field(default_factory=FrontendSpec)
    network: NetworkSpec = field(default_factory=NetworkSpec)

    def __post_init__(self) -> None:
        for name in ("epochs", "examples_per_epoch", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise ValueError(msg)
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            msg = f"minutes must be a positive number, got {self.minutes}"
            raise ValueError(msg)
        if not (0 <= self.warmup < 1 and 0 <= self.ema_decay < 1 and self.teacher_weight >= 0 and self.weight_decay >= 0):
            msg = f"need 0 <= warmup < 1, 0 <= ema_decay < 1, teacher_weight >= 0 and weight_decay >= 0, got {self}"
            raise ValueError(msg)
        if self.seed < 0:
            msg = f"seed must be 0 or more, got {self.seed}"
            raise ValueError(msg)

    def learning_rate_at(self, done: float) -> float:
        """The learning rate after the share `done` of training, in [0, 1]."""
        if done < self.warmup:
            return self.learning_rate * max(done / self.warmup, 0.01)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - self.warmup) / (1 - self.warmup)))) + 1e-6


class Batch(Protocol):
    """What a loader yields: `audio` `[batch, samples]`, `target` and `weight` `[batch, labels]`, `teacher` `[batch, teacher_labels]`."""

    audio: Tensor
    target: Tensor
    weight: Tensor
    teacher: Tensor


@dataclass(slots=True)
class Progression:
    """How far a run has come."""

    epoch: int = 0
    seconds: float = 0.0
    best: float = -1.0

    def done(self, config: TrainConfig, within_epoch: float = 0.0) -> float:
        """Share of the training that is done, in [0, 1]."""
        by_epochs = (self.epoch + within_epoch) / config.epochs
        by_time = 0.0 if config.minutes is None else self.seconds / (config.minutes * 60)
        return min(1.0, max(by_epochs, by_time))


class Trainer:
    """One run in the folder `run`: `last.pt` after each epoch and at an interruption, `best.pt` by validation, `log.csv`."""

    def __init__(self, config: TrainConfig, run: Path, *, device: torch.device, augment: nn.Module | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run, self.device = config, run, device
        self.tagger = Tagger(config.frontend, config.network).to(device)
        self.tagger.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types only the other overloads
        self.averaged = AveragedModel(self.tagger, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True)
        self.augment = augment
        self.optimizer = torch.optim.AdamW(self.tagger.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.progression = Progression()

    def resume(self) -> None:
        """Go on from `last.pt`.

        Raises:
            CheckpointError: it is missing, damaged, or of a network of another shape.
        """
        path = self.run / LAST
        state = read_checkpoint(path)
        try:
            self.tagger.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progression = Progression(**state["progression"])
            torch.set_rng_state(state["rng"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            msg = f"{path}: not a checkpoint of this configuration ({str(error).splitlines()[0]})"
            raise CheckpointError(msg) from error

    def fit(self, batches: Callable[[int], Iterable[Batch]], validate: Callable[[Tagger], Figures]) -> Progression:
        """Train to the end; `batches(epoch)` yields one epoch, `validate` measures the averaged network.

        A KeyboardInterrupt saves the work done so far and is raised again.

        Raises:
            CheckpointError: a checkpoint could not be written.
        """
        with _progress_bar() as bar:
            task = bar.add_task("training", total=1.0, loss=float("nan"), rate=0.0, best=self.progression.best, left="")
            while self.progression.done(self.config) < 1.0:
                try:
                    loss = self._epoch(batches(self.progression.epoch), lambda **shown: bar.update(task, **shown))
                except KeyboardInterrupt:
                    self._save(LAST)
                    raise
                started = time.monotonic()
                figures = validate(self._averaged_tagger())
                self.progression.seconds += time.monotonic() - started
                self._end_epoch(loss, figures)
                bar.update(task, best=self.progression.best)
        return self.progression

    def _epoch(self, batches: Iterable[Batch], show: Callable[..., None]) -> float:
        self.tagger.train()
        steps = math.ceil(self.config.examples_per_epoch / self.config.batch_size)
        total, examples, began, before = 0.0, 0, time.monotonic(), self.progression.seconds
        for step, batch in enumerate(batches, 1):
            done = self.progression.done(self.config, step / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(done)
            total += self._step(batch)
            examples += batch.audio.shape[0]
            self.progression.seconds = before + time.monotonic() - began
            rate = examples / (time.monotonic() - began)
            left_s = self.progression.seconds / max(done, 1e-6) * (1 - done)
            show(completed=done, loss=total / step, rate=rate, left=f"{left_s / 60:.1f} min left")
            if self.config.minutes is not None and done >= 1.0:
                break
        return total / max(step, 1)

    def _step(self, batch: Batch) -> float:
        parts = (batch.audio, batch.target, batch.weight, batch.teacher)
        audio, target, weight, teacher = (part.to(self.device, non_blocking=True) for part in parts)
        with torch.no_grad():
            piece = _CACHED_CLIPS if self.device.type == "cpu" else len(audio)
            log_mel = torch.cat([self.tagger.frontend(audio[first : first + piece]) for first in range(0, len(audio), piece)])
            if self.augment is not None:
                log_mel = self.augment(log_mel)
        with self._autocast():
            logits = self.tagger.network(log_mel)
        loss = (binary_cross_entropy_with_logits(logits.clip.float(), target, reduction="none") * weight).mean()
        if teacher.shape[1]:
            loss = loss + self.config.teacher_weight * binary_cross_entropy_with_logits(logits.teacher.float(), teacher)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(self.tagger.parameters(), 5.0)
        self.optimizer.step()
        self.averaged.update_parameters(self.tagger)
        return float(loss.detach())

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _averaged_tagger(self) -> Tagger:
        tagger = self.averaged.module
        assert isinstance(tagger, Tagger)
        return tagger.eval()

    def _end_epoch(self, loss: float, figures: Figures) -> None:
        self.progression.epoch += 1
        if better := figures.selection > self.progression.best:
            self.progression.best = figures.selection
        row = {
            "epoch": self.progression.epoch,
            "minutes": round(self.progression.seconds / 60, 2),
            "loss": round(loss, 5),
            "selection": round(figures.selection, 4),
            "triage_recall_at_1_percent": figures.triage_recall_at_1_percent,
            "triage_auroc": figures.triage_auroc,
            **{f"ap_{label}": each.average_precision for label, each in figures.labels.items()},
        }
        _append(self.run / LOG, row)
        shown = ", ".join(f"{key} {_short(value)}" for key, value in row.items() if key != "epoch")
        logger.info("epoch %d: %s", self.progression.epoch, shown)
        self._save(LAST)
        if better:
            self._save(BEST)

    def _save(self, name: str) -> None:
        state = {
            "model": self.tagger.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progression": asdict(self.progression),
            "rng": torch.get_rng_state(),
            "frontend": asdict(self.config.frontend),
            "network": asdict(self.config.network),
        }
        write_checkpoint(self.run / name, state)


def load_tagger(run: Path, name: str = BEST) -> Tagger:
    """The averaged network of a run, ready to score, without the teacher head's part in it.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another specification.
    """
    state = read_checkpoint(run / name)
    try:
        network = NetworkSpec(**{**state["network"], "channels": tuple(state["network"]["channels"])})
        tagger = Tagger(FrontendSpec(**state["frontend"]), network)
        prefix = "module."
        weights = {key.removeprefix(prefix): value for key, value in state["averaged"].items() if key.startswith(prefix)}
        tagger.load_state_dict(weights)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{run / name}: not a checkpoint that this version can load ({str(error).splitlines()[0]})"
        raise CheckpointError(msg) from error
    return tagger.eval()


def _moving_average(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """An exponential moving average whose memory grows to `decay`, so that the first steps are soon forgotten."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, weight)
            else:  # counters of batches seen
                old.copy_(new)

    return update


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("[bold]training"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%  loss {task.fields[loss]:.4f}  best {task.fields[best]:.3f}  {task.fields[rate]:.0f} clips/s"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )


def _append(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
