"""What decides how a network is trained, and how far a run has come."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from earmark_model.frontend import FrontendSpec
from earmark_model.network import NetworkSpec
from earmark_model.pretrained import Blend
from earmark_model.processes import PRECISIONS
from earmark_model.selection import RULES


@dataclass(frozen=True, slots=True)
class HeadsConfig:
    """How heads are learned on a trunk that stays as it is, see `earmark_model.heads`.

    `rounds` over `examples` that the trunk has heard once; what another tagger says counts `teacher_weight` times what the labels say.
    The examples are of `clean_examples` sounds, each degraded in several ways. `keep` of every weight of the trunk is what it was before
    it was taught (Wortsman et al., 2022): it then hears a little less in noise, and more of what it was never taught with.
    """

    keep: float = 0.35
    clean_examples: int = 48_000
    examples: int = 60_000
    rounds: int = 8
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    teacher_weight: float = 8.0

    def __post_init__(self) -> None:
        for name in ("clean_examples", "examples", "rounds", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be positive, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 <= self.keep <= 1:
            msg = f"keep is a share in [0, 1], got {self.keep}"
            raise ValueError(msg)


SIZES: dict[str, dict[str, Any]] = {
    "standard": {},
    # the tagger learns to say of a degraded sound what it says of the clean one, and new heads read it: see earmark_model.trunk
    "taught": {
        "heads": HeadsConfig(),
        "network": NetworkSpec(pooled_frames=3, sharpness=0.0, beside=256, coarse=True),
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 5e-4,
        "weight_decay": 1e-4,
        "keep_began": 0.0,
        "teacher_share": 0.8,
        "taggers_alone": ("cry",),
        "animals": 0.1,
    },
    # half the cost of the one that it follows; its frames are of 20 ms, which mn04's weights must get used to
    "light": {
        "network": NetworkSpec(pooled_frames=3, sharpness=0.0, beside=128, light=True),
        "frontend": FrontendSpec(hop_samples=320),
        "learning_rate": 8e-4,
        "keep_began": 0.0,
    },
    # most of its head begins at random, so it learns faster and is not drawn back to where it began
    "small": {"network": NetworkSpec(blocks=10, embedding=64), "learning_rate": 1e-3, "keep_began": 0.0},
}
"""What a size changes in a `TrainConfig`; the small bundle is at most 128 kB and 30 M multiply-adds per second of audio."""
VALIDATED_ON = ("val", "left-out")
"""Names of what a run is validated on: the split val, and the clips of the sources that it was told to leave out."""


def sized(size: str, keep: float | None = None) -> dict[str, Any]:
    """What a size changes in a `TrainConfig`; `keep` in place of that of its `HeadsConfig`.

    Raises:
        ValueError: there is no such size, or it has no trunk of which a share could be kept, or that is no share.
    """
    if size not in SIZES:
        msg = f"--size must be one of {', '.join(SIZES)}, got {size!r}"
        raise ValueError(msg)
    if keep is None:
        return SIZES[size]
    if "heads" not in SIZES[size]:
        msg = f"--keep belongs to --size taught, whose trunk is drawn back before its heads are learned, not to --size {size}"
        raise ValueError(msg)
    return {**SIZES[size], "heads": dataclasses.replace(SIZES[size]["heads"], keep=keep)}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides how a network is trained; written beside every checkpoint.

    Training ends after `epochs`, or after `minutes` of training time (validation counted) where that is set; the learning
    rate warms up over `warmup` of the whole and then falls as a cosine. `ema_decay` is the moving average's memory per step.
    `batch_size` counts the examples of all processes together, so that a run does not depend on how many share it.
    `keep_began`, `teacher_share`, `taggers_alone` and `animals` settle the measured network, see `earmark_model.pretrained.Blend`.
    With `heads` the trunk learns from what it said itself of clean sound (`earmark_model.trunk`), for so long; the heads afterwards.
    `best.pt` is chosen by the rule `select_by` (see `earmark_model.selection`), on the clips `select_on`: val or left-out.
    """

    seed: int = 1
    epochs: int = 60
    minutes: float | None = None
    examples_per_epoch: int = 24_000
    batch_size: int = 48
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    warmup: float = 0.03
    ema_decay: float = 0.998
    teacher_weight: float = 8.0
    keep_began: float = 0.5
    teacher_share: float = 0.65
    taggers_alone: tuple[str, ...] = ()
    animals: float = 0.0
    heads: HeadsConfig | None = None
    precision: str = "float32"
    select_by: str = "balanced"
    select_on: str = "val"
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
        _ = self.blend
        if self.heads and not self.network.beside:
            msg = "heads that are learned apart need units beside the embedding, got none"
            raise ValueError(msg)
        if self.seed < 0:
            msg = f"seed must be 0 or more, got {self.seed}"
            raise ValueError(msg)
        for name, known in (("precision", PRECISIONS), ("select_by", RULES), ("select_on", VALIDATED_ON)):
            if getattr(self, name) not in known:
                msg = f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                raise ValueError(msg)

    @property
    def blend(self) -> Blend:
        """How the measured network comes from the trained one.

        Raises:
            ValueError: a share is outside [0, 1], or a label not a sensitive one.
        """
        return Blend(self.keep_began, self.teacher_share, tuple(self.taggers_alone), self.animals)

    def learning_rate_at(self, done: float) -> float:
        """The learning rate after the share `done` of training, in [0, 1]."""
        return self.learning_rate * share_of_rate(done, self.warmup) + 1e-6


def share_of_rate(done: float, warmup: float) -> float:
    """The share of the full learning rate after the share `done` of training: it warms up, then falls as a cosine."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


@dataclass(slots=True)
class Progression:
    """How far a run has come."""

    epoch: int = 0
    seconds: float = 0.0
    best: float = -1.0
    heads: bool = False
    """Whether heads that are learned apart are learned."""

    def done(self, config: TrainConfig, within_epoch: float = 0.0) -> float:
        """Share of the training that is done, in [0, 1]."""
        by_epochs = (self.epoch + within_epoch) / config.epochs
        by_time = 0.0 if config.minutes is None else self.seconds / (config.minutes * 60)
        return min(1.0, max(by_epochs, by_time))
