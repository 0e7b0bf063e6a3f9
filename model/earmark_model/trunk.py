"""Teaching a tagger's trunk to hear through noise, rooms and devices: it repeats what it said itself of the clean sound.

No label is asked, so it cannot learn a corpus's recorders by heart, which training on labels does (docs/experiments.md). A second
tagger's scores of the clean sound are learned beside, through the same embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from earmark_model.network import Network


class Repeated(Protocol):
    """A batch: `clean`, the embedding of the clean sounds, `[batch, embedding]`; `teacher` `[batch, taught]`, a tagger's scores of them."""

    clean: Tensor
    teacher: Tensor


class Repeating:
    """The loss of a network that hears degraded sounds: how far it is from the clean ones.

    `own` are the rows of the teacher head whose logits matter most, those of the sensitive classes; `taught` the rows that learn the
    second tagger's scores. `deviation` of each number of the embedding over clean sounds, `[embedding]`, brings them to one scale.
    """

    still = True
    """Batch norms and dropout stay as they are: the statistics are AudioSet's."""
    EMBEDDING, OWN, TAUGHT = 0.3, 0.05, 10.0
    """What the three parts count; each is then of the order of 0.1 in the middle of training."""

    def __init__(self, began: Network, deviation: Tensor, own: Sequence[int], taught: Sequence[int]) -> None:
        if began.teacher_head is None or began.beside is None or not own or not taught:
            msg = "need a network with a teacher head and units beside its embedding, and rows of both kinds"
            raise ValueError(msg)
        self.head = copy.deepcopy(began.teacher_head).requires_grad_(requires_grad=False)
        self.deviation, self.own, self.taught = deviation, list(own), list(taught)

    def __call__(self, network: Network, log_mel: Tensor, batch: Repeated) -> Tensor:
        """The loss of `network` on log-mel `[batch, mels, frames]`."""
        assert network.teacher_head is not None
        device = log_mel.device
        clean, teacher = batch.clean.to(device), batch.teacher.to(device)
        embedding = network.embedding(log_mel)
        said = network.teacher_head(_read(network, embedding))
        with torch.no_grad():
            before = self.head(_without(clean, self.head))
        far = mse_loss(embedding / self.deviation.to(device), clean / self.deviation.to(device))
        own = mse_loss(said[:, self.own], before[:, self.own])
        taught = binary_cross_entropy_with_logits(said[:, self.taught], teacher)
        return self.EMBEDDING * far + self.OWN * own + self.TAUGHT * taught


class Labelled(Repeated, Protocol):
    """A batch with labels too: `target`, `weight` and `teacher` `[batch, labels]`, the last what a network said of the clean sounds."""

    target: Tensor
    weight: Tensor


class Following:
    """The loss of a network that hears degraded sounds and follows a larger one, which heard them clean; and our labels beside.

    With `deviation`, as in `Repeating`, it also repeats the embedding that a tagger has of the clean sounds: what that says of a sound
    beyond the labels is learned too.
    """

    LABELS, EMBEDDING = 0.25, 0.1
    """What the labels and the embedding count, beside what the larger network says."""
    still = False

    def __init__(self, deviation: Tensor | None = None) -> None:
        self.deviation = deviation

    def __call__(self, network: Network, log_mel: Tensor, batch: Labelled) -> Tensor:
        """The loss of `network` on log-mel `[batch, mels, frames]`."""
        target, weight, teacher = (part.to(log_mel.device) for part in (batch.target, batch.weight, batch.teacher))
        far = torch.zeros((), device=log_mel.device)
        if self.deviation is None:
            logits = network(log_mel).clip
        else:
            deviation = self.deviation.to(log_mel.device)
            embedding = network.embedding(log_mel)
            far = mse_loss(embedding / deviation, batch.clean.to(log_mel.device) / deviation)
            logits = network.head(_read(network, network.dropout(embedding)))
        by_label = (binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).mean()
        return binary_cross_entropy_with_logits(logits, teacher) + self.LABELS * by_label + self.EMBEDDING * far


def _read(network: Network, embedding: Tensor) -> Tensor:
    assert network.beside is not None
    return torch.cat([embedding, nn.functional.hardswish(network.beside(embedding))], 1)


def _without(embedding: Tensor, head: nn.Linear) -> Tensor:
    """What a head reads that has not learned to read the units beside the embedding yet: they count nothing there."""
    return nn.functional.pad(embedding, (0, head.in_features - embedding.shape[1]))
