"""Learning only what is read from a tagger that stays as it is: a hidden layer beside its embedding, and the heads.

What AudioSet taught of rooms, voices and recorders that a small corpus lacks is then all kept. Minutes instead of hours: the embedding
of every example is computed once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from earmark_model.network import Network
from earmark_model.train_config import HeadsConfig, share_of_rate

WARMUP = 0.03
"""Share of the steps in which the learning rate rises."""


class Heard(NamedTuple):
    """Examples as a network hears them whose trunk stays as it is.

    `embedding` `[examples, embedding]`, of the mean over the example; `target` and `weight` `[examples, labels]`; `teacher`
    `[examples, taught]`, in [0, 1]: what a tagger said of the very same sound.
    """

    embedding: Tensor
    target: Tensor
    weight: Tensor
    teacher: Tensor


class _Readers(nn.Module):
    """The layers to learn, on an embedding brought to mean 0 and deviation 1."""

    def __init__(self, network: Network, heard: Heard) -> None:
        super().__init__()
        assert network.beside is not None
        self.mean, self.deviation = heard.embedding.mean(0), heard.embedding.std(0) + 1e-3
        width, units = network.beside.in_features, network.beside.out_features
        self.dropout = nn.Dropout(network.spec.dropout)
        self.beside = nn.Linear(width, units)
        self.labels = nn.Linear(width + units, heard.target.shape[1])
        self.taught = nn.Linear(width + units, heard.teacher.shape[1])

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the labels and of what is taught, each `[batch, ...]`."""
        x = self.dropout((embedding - self.mean) / self.deviation)
        x = torch.cat([x, self.dropout(nn.functional.hardswish(self.beside(x)))], 1)
        return self.labels(x), self.taught(x)


def learn_heads(network: Network, heard: Heard, taught: list[int], config: HeadsConfig) -> list[float]:
    """Learn `network`'s label head, hidden layer and the rows `taught` of its teacher head, in place; the mean loss of each round.

    The other rows of the teacher head stay the tagger's own classes.

    Raises:
        ValueError: the network has no units beside its embedding or no teacher head, or there are fewer examples than in a batch.
    """
    if network.beside is None or network.teacher_head is None or len(heard.embedding) < config.batch_size:
        msg = f"need a network with `beside` and a teacher head, and {config.batch_size} examples or more, got {len(heard.embedding)}"
        raise ValueError(msg)
    readers = _Readers(network, heard)
    optimizer = torch.optim.AdamW(readers.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = len(heard.embedding) // config.batch_size
    losses = []
    for epoch in range(config.rounds):
        order, total = torch.randperm(len(heard.embedding)), 0.0
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * share_of_rate((epoch + step / steps) / config.rounds, WARMUP) + 1e-6
            chosen = Heard(*(part[order[step * config.batch_size : (step + 1) * config.batch_size]] for part in heard))
            labels, teacher = readers(chosen.embedding)
            by_label = binary_cross_entropy_with_logits(labels, chosen.target, reduction="none") * chosen.weight
            loss = by_label.mean() + config.teacher_weight * binary_cross_entropy_with_logits(teacher, chosen.teacher)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward([loss])
            optimizer.step()
            total += float(loss.detach())
        losses.append(total / steps)
        if not math.isfinite(losses[-1]):
            msg = f"the loss is {losses[-1]} after {epoch + 1} rounds; lower the learning rate"
            raise ValueError(msg)
    _install(readers, network, taught)
    return losses


@torch.no_grad()
def _install(readers: _Readers, network: Network, taught: list[int]) -> None:
    """Put what was learned into the network, which reads the embedding as it is: mean and deviation go into the weights."""
    assert network.beside is not None
    assert network.teacher_head is not None
    width = network.beside.in_features
    network.beside.weight.copy_(readers.beside.weight / readers.deviation)
    network.beside.bias.copy_(readers.beside.bias - network.beside.weight @ readers.mean)
    for learned, head, rows in ((readers.labels, network.head, None), (readers.taught, network.teacher_head, taught)):
        weight = learned.weight.clone()
        weight[:, :width] /= readers.deviation
        bias = learned.bias - weight[:, :width] @ readers.mean
        places = slice(None) if rows is None else rows
        head.weight[places] = weight
        head.bias[places] = bias
