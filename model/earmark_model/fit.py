"""The training loop: batches in, checkpoints and a log out. It knows tensors and figures, not files of audio."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel

from earmark_model.checkpoint import BEST, LAST, CheckpointError, read_checkpoint, write_checkpoint
from earmark_model.curves import AP, LEFT_OUT, Curves
from earmark_model.frontend import FrontendSpec
from earmark_model.heads import Heard, learn_heads
from earmark_model.metrics import Figures
from earmark_model.network import Network, NetworkSpec, Tagger
from earmark_model.pretrained import Blend, blended, drawn_back
from earmark_model.processes import Interrupts, Processes
from earmark_model.selection import selection
from earmark_model.train_config import VALIDATED_ON, Progression, TrainConfig

_CACHED_CLIPS = 4
"""The front end runs on this many clips at once: they stay in a processor's cache, and go four times as fast as a whole batch."""
logger = logging.getLogger(__name__)


class Batch(Protocol):
    """What a loader yields: `audio` `[batch, samples]`, `target` and `weight` `[batch, labels]`, `teacher` `[batch, teacher_labels]`."""

    audio: Tensor
    target: Tensor
    weight: Tensor
    teacher: Tensor


class Objective(Protocol):
    """The loss of the network on log-mel `[batch, mels, frames]` of one of the loader's batches.

    `still`: without batch norms that learn, and without dropout.
    """

    still: bool

    def __call__(self, network: Network, log_mel: Tensor, batch: Any) -> Tensor:
        """See the class."""
        ...


@dataclass(slots=True)
class Pace:
    """How one epoch goes: its mean loss, and how long the trainer waited for data instead of learning."""

    steps: int = 0
    examples: int = 0
    loss_sum: float = 0.0
    waited_s: float = 0.0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def awaited(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, with the time noted that each kept the trainer waiting."""
        asked = time.monotonic()
        for batch in batches:
            self.waited_s += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def count(self, examples: int, loss: float) -> None:
        """Note a step over so many examples."""
        self.steps += 1
        self.examples += examples
        self.loss_sum += loss
        self.seconds = time.monotonic() - self.began

    @property
    def loss(self) -> float:
        """Mean over the steps."""
        return self.loss_sum / max(self.steps, 1)

    @property
    def examples_per_s(self) -> float:
        """Examples learned from per second, waiting included."""
        return self.examples / max(self.seconds, 1e-9)

    @property
    def waited_percent(self) -> float:
        """Share of the time that went by waiting for data, in percent."""
        return 100 * self.waited_s / max(self.seconds, 1e-9)


class Trainer:
    """One run in the folder `run`: `last.pt` after each epoch and at an interruption, `best.pt` by validation, and the curves."""

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        *,
        processes: Processes,
        augment: nn.Module | None = None,
        begin: Callable[[Network], object] | None = None,
        teacher_labels: Sequence[str] = (),
        objective: Objective | None = None,
    ) -> None:
        if config.batch_size % processes.count or config.examples_per_epoch < processes.count:
            msg = f"{processes.count} processes need a batch_size that is a multiple of that, and an example each; got {config.batch_size}"
            raise ValueError(msg)
        torch.manual_seed(config.seed)
        self.config, self.run, self.processes, self.device = config, run, processes, processes.device
        self.tagger = Tagger(config.frontend, config.network)
        self.teacher_labels = tuple(teacher_labels)
        self.began: dict[str, Tensor] | None = None
        if begin is not None:
            begin(self.tagger.network)
            self.began = {name: value.clone() for name, value in self.tagger.network.state_dict().items()}
        self.tagger.to(self.device)
        self.tagger.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types only the other overloads
        self.averaged = AveragedModel(self.tagger, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True)
        self.augment, self.objective = augment, objective
        self.optimizer = torch.optim.AdamW(self.tagger.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.network = processes.prepare(self.tagger.network)  # the one to call: it casts, and averages gradients over processes
        self.progression = Progression()
        self.interrupts = Interrupts()
        self._vary()

    def resume(self) -> None:
        """Go on from `last.pt`.

        Raises:
            CheckpointError: it is missing, damaged, or of a network of another shape.
        """
        path = self.run / LAST
        state = read_checkpoint(path)
        try:
            for part in ("frontend", "network"):
                if differing := _differences(state[part], asdict(getattr(self.config, part))):
                    msg = f"{part} {differing}"
                    raise ValueError(msg)  # noqa: TRY301 - told like every other way in which it does not fit
            self.tagger.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.progression = Progression(**state["progression"])
            self.began, self.teacher_labels = state["began"], tuple(state["teacher_labels"])
            torch.set_rng_state(state["rng"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            msg = f"{path}: not a checkpoint of this configuration ({str(error).splitlines()[0]})"
            raise CheckpointError(msg) from error
        self._vary()

    def fit(self, batches: Callable[[int], Iterable[Batch]], validate: Callable[[Tagger], Mapping[str, Figures]]) -> Progression:
        """Train to the end; `batches(epoch)` yields one epoch, `validate` measures the averaged network.

        `validate` names what it measured on by `VALIDATED_ON`; it runs in the main process alone. A KeyboardInterrupt, or
        SIGTERM, saves the work done so far, once and in the main process, and is raised as KeyboardInterrupt in all.

        Raises:
            CheckpointError: a checkpoint could not be written.
        """
        curves = Curves(self.run)
        with self.interrupts, _progress_bar(shown=self.processes.main) as bar:
            task = bar.add_task("training", total=1.0, loss=float("nan"), rate=0.0, best=self.progression.best, left="")
            try:
                while self.progression.done(self.config) < 1.0:
                    pace = self._epoch(batches(self.progression.epoch), lambda **shown: bar.update(task, **shown))
                    self.progression = self.processes.on_main(partial(self._end_epoch, pace, validate, curves))
                    bar.update(task, best=self.progression.best)
            except (KeyboardInterrupt, RuntimeError) as error:
                # Signals reach loader workers and other processes too: once asked to stop, their sudden end is no failure.
                if not (isinstance(error, KeyboardInterrupt) or self.interrupts.asked):
                    raise
                if self.processes.main:
                    self._save(LAST)
                raise KeyboardInterrupt from error
        return self.progression

    def draw_back(self) -> Tagger:
        """The averaged network, its trunk drawn back to where it began by the share that `HeadsConfig` keeps.

        Its teacher head is the tagger's own: what rows of it learned to read beside the embedding is learned anew.
        """
        assert self.config.heads is not None
        assert self.began is not None
        tagger = self._mean()
        network = drawn_back(tagger.network, self.began, self.config.heads.keep)
        network.load_state_dict({name: value for name, value in self.began.items() if name.startswith("teacher_head")}, strict=False)
        tagger.network = network
        return tagger

    def fit_heads(self, heard: Heard, taught: list[int], validate: Callable[[Tagger], Mapping[str, Figures]]) -> Progression:
        """Learn the heads alone, from examples that the averaged trunk has heard; see `earmark_model.heads`. They are then the best.

        Raises:
            ValueError: see `learn_heads`.
            CheckpointError: the checkpoint could not be written.
        """
        assert self.config.heads is not None
        pace, tagger = Pace(), self._mean()
        for loss in learn_heads(tagger.network, heard, taught, self.config.heads):
            pace.count(len(heard.embedding), loss)
        self.tagger.load_state_dict(tagger.state_dict())
        self.progression.seconds, self.progression.best, self.progression.heads = self.progression.seconds + pace.seconds, -1.0, True
        return self._end_epoch(pace, validate, Curves(self.run))

    def _epoch(self, batches: Iterable[Batch], show: Callable[..., None]) -> Pace:
        self.tagger.train(self.objective is None or not self.objective.still)
        steps = math.ceil(self.config.examples_per_epoch / self.config.batch_size)
        pace, before = Pace(), self.progression.seconds
        for step, batch in enumerate(pace.awaited(batches), 1):
            done = self.progression.done(self.config, step / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.learning_rate_at(done)
            loss = self._step(batch)
            pace.count(batch.audio.shape[0] * self.processes.count, loss)
            self.progression.seconds, stop = self.processes.agree(before + pace.seconds, stop=self.interrupts.asked)
            if stop:
                raise KeyboardInterrupt
            left_s = self.progression.seconds / max(done, 1e-6) * (1 - done)
            show(completed=done, loss=pace.loss, rate=pace.examples_per_s, left=f"{left_s / 60:.1f} min left")
            if self.config.minutes is not None and done >= 1.0:
                break
        return pace

    def _step(self, batch: Batch) -> float:
        audio = batch.audio.to(self.device, non_blocking=True)
        with torch.no_grad(), self.device:  # what augmentation draws is made where the audio is
            piece = _CACHED_CLIPS if self.device.type == "cpu" else len(audio)
            log_mel = torch.cat([self.tagger.frontend(audio[first : first + piece]) for first in range(0, len(audio), piece)])
            if self.augment is not None:
                log_mel = self.augment(log_mel)
        loss = self._by_label(log_mel, batch) if self.objective is None else self.objective(self.tagger.network, log_mel, batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([loss])
        nn.utils.clip_grad_norm_(self.tagger.parameters(), 5.0)
        self.optimizer.step()
        self.processes.average(self.tagger.buffers())
        self.averaged.update_parameters(self.tagger)
        return float(loss.detach())

    def _by_label(self, log_mel: Tensor, batch: Batch) -> Tensor:
        target, weight, teacher = (part.to(self.device, non_blocking=True) for part in (batch.target, batch.weight, batch.teacher))
        logits = self.network(log_mel)
        loss: Tensor = (binary_cross_entropy_with_logits(logits.clip.float(), target, reduction="none") * weight).mean()
        if teacher.shape[1]:
            loss = loss + self.config.teacher_weight * binary_cross_entropy_with_logits(logits.teacher.float(), teacher)
        return loss

    def _vary(self) -> None:
        """Give every process but the main one chances of its own, so that dropout and augmentation differ between their shares."""
        if not self.processes.main:
            own = np.random.SeedSequence((self.config.seed, self.processes.index, self.progression.epoch))
            torch.manual_seed(int(own.generate_state(1)[0]))

    def _mean(self) -> Tagger:
        """The moving average of the weights."""
        tagger = self.averaged.module
        assert isinstance(tagger, Tagger)
        return tagger

    def _averaged_tagger(self) -> Tagger:
        """What is measured: the moving average of the weights, settled as it will ship."""
        settled = Tagger(self.config.frontend, dataclasses.replace(self.config.network, teacher_labels=0))
        settled.network = blended(self._mean().network, self.began, self.teacher_labels, self.config.blend)
        return settled.to(self.device).eval()

    def _end_epoch(self, pace: Pace, validate: Callable[[Tagger], Mapping[str, Figures]], curves: Curves) -> Progression:
        """Validate, save, and only then note the epoch: a log that lacks one is a smaller loss than a checkpoint."""
        started = time.monotonic()
        with self.interrupts.at_once():
            validated = validate(self._averaged_tagger())
        self.progression.seconds += time.monotonic() - started
        self.progression.epoch += 1
        selected = selection(validated[self.config.select_on], self.config.select_by)
        if selected > self.progression.best:
            self.progression.best = selected
            self._save(BEST)  # before the other, which holds the figure: a best one that is noted is there
        self._save(LAST)
        row = {
            "epoch": self.progression.epoch,
            "minutes": round(self.progression.seconds / 60, 2),
            "loss": round(pace.loss, 5),
            "learning_rate": float(f"{self.optimizer.param_groups[0]['lr']:.4g}"),
            "examples_per_s": round(pace.examples_per_s, 1),
            "waited_percent": round(pace.waited_percent, 1),
            "selection": round(selected, 4),
            **{name: value for on, figures in validated.items() for name, value in _columns(on, figures).items()},
        }
        clips = ", ".join(f"{figures.clips:,} clips of {on}" for on, figures in validated.items())
        curves.add(row, f"{self.run.name}: validated on {clips}")
        logger.info("epoch %d: %s", row["epoch"], ", ".join(f"{key} {_short(value)}" for key, value in row.items() if key != "epoch"))
        return self.progression

    def _save(self, name: str) -> None:
        state = {
            "model": self.tagger.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progression": asdict(self.progression),
            "rng": torch.get_rng_state(),
            "frontend": asdict(self.config.frontend),
            "network": asdict(self.config.network),
            "blend": asdict(self.config.blend),
            "began": self.began,
            "teacher_labels": self.teacher_labels,
        }
        write_checkpoint(self.run / name, state)


def load_tagger(run: Path, name: str = BEST, *, keep: float | None = None, teacher_share: float | None = None) -> Tagger:
    """The averaged network of a run, settled by `blended` as it was measured, or with another `keep` or `teacher_share`.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of another specification.
    """
    state = read_checkpoint(run / name)
    try:
        network = NetworkSpec(**state["network"])
        tagger = Tagger(FrontendSpec(**state["frontend"]), network)
        prefix = "module."
        weights = {key.removeprefix(prefix): value for key, value in state["averaged"].items() if key.startswith(prefix)}
        tagger.load_state_dict(weights)
        tagger.network = blended(tagger.network, state["began"], state["teacher_labels"], _blend(state["blend"], keep, teacher_share))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        msg = f"{run / name}: not a checkpoint that this version can load ({str(error).splitlines()[0]})"
        raise CheckpointError(msg) from error
    return tagger.eval()


def _blend(own: Mapping[str, Any], keep: float | None, teacher_share: float | None) -> Blend:
    wanted = {"keep": keep, "teacher_share": teacher_share}
    return Blend(**{**own, **{name: value for name, value in wanted.items() if value is not None}})


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


def _progress_bar(*, shown: bool) -> Progress:
    return Progress(
        TextColumn("[bold]training"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%  loss {task.fields[loss]:.4f}  best {task.fields[best]:.3f}  {task.fields[rate]:.0f} clips/s"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        disable=not shown,
    )


def _columns(on: str, figures: Figures) -> dict[str, float | None]:
    """A validation's columns in the log; those of left-out sources begin with `LEFT_OUT`."""
    prefix = "" if on == VALIDATED_ON[0] else LEFT_OUT
    triage = {"triage_recall_at_1_percent": figures.triage_recall_at_1_percent, "triage_auroc": figures.triage_auroc}
    precisions = {f"{AP}{label}": each.average_precision for label, each in figures.labels.items()}
    return {prefix + name: value for name, value in (triage | precisions).items()}


def _differences(saved: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """The entries that are not the same, as text; empty if all are."""
    names = [name for name in wanted if saved.get(name) != wanted[name]]
    return ", ".join(f"{name} {saved.get(name)}, not {wanted[name]}" for name in names)


def _short(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
