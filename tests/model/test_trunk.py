"""A trunk that repeats of a degraded sound what it said of the clean one."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from earmark_model.contract import LABELS
from earmark_model.network import Network, NetworkSpec
from earmark_model.trunk import Following, Repeating

SPEC = NetworkSpec(blocks=7, embedding=16, sharpness=0.0, beside=8, teacher_labels=4, dropout=0.0)
OWN, TAUGHT = [2, 3], [0, 1]


class Batch(NamedTuple):
    clean: Tensor
    teacher: Tensor


def begun() -> Network:
    torch.manual_seed(0)
    network = Network(SPEC)
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = None  # the mean over what it has seen
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 103, 32) + torch.randn(8, 103, 1) * 2)
        network.embed.weight *= 10
    network.eval()
    assert network.teacher_head is not None
    with torch.no_grad():
        network.teacher_head.weight[:, SPEC.embedding :] = 0  # as begin_with leaves them
    return network


def embeddings(network: Network, log_mel: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.embedded(network.features(log_mel.unsqueeze(1)).mean((2, 3))[:, :, None])[:, 0].clone()


def test_the_clean_sound_itself_costs_nothing_but_what_the_other_tagger_says() -> None:
    network = begun()
    log_mel = torch.randn(3, 103, 32)
    clean = embeddings(network, log_mel)
    assert network.teacher_head is not None
    said = torch.sigmoid(network.teacher_head(torch.nn.functional.pad(clean, (0, SPEC.beside))))
    batch = Batch(clean, said[:, TAUGHT].detach())
    objective = Repeating(network, torch.ones(16), OWN, TAUGHT)
    entropy = -(batch.teacher * batch.teacher.log() + (1 - batch.teacher) * (1 - batch.teacher).log()).mean()
    torch.testing.assert_close(objective(network, log_mel, batch), Repeating.TAUGHT * entropy)
    other = objective(network, log_mel + torch.randn_like(log_mel), batch)
    assert other > objective(network, log_mel, batch)


def learn(network: Network, objective: Repeating | Following, log_mel: Tensor, batch: Any, *, steps: int, rate: float) -> list[float]:
    """The losses, one for each step."""
    optimizer, losses = torch.optim.AdamW(network.parameters(), rate), []
    for _ in range(steps):
        loss = objective(network, log_mel, batch)
        optimizer.zero_grad()
        torch.autograd.backward([loss])
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_a_trunk_learns_to_hear_through_noise_what_it_heard_before() -> None:
    before, log_mel = begun(), torch.randn(16, 103, 32) + torch.randn(16, 103, 1) * 2
    network, batch = copy.deepcopy(before), Batch(embeddings(before, log_mel), torch.full((16, 2), 0.5))
    objective = Repeating(before, batch.clean.std(0) + 0.05, OWN, TAUGHT)
    noisy = log_mel + torch.randn_like(log_mel)
    learn(network, objective, noisy, batch, steps=40, rate=1e-3)
    was = (embeddings(before, noisy) - batch.clean).square().mean()
    assert (embeddings(network, noisy) - batch.clean).square().mean() < was / 2
    assert all(weight.grad is None for weight in objective.head.parameters()), "what was said of the clean sound does not move"


@pytest.mark.parametrize(
    ("spec", "own"),
    [(NetworkSpec(blocks=7, embedding=16, beside=8), OWN), (NetworkSpec(blocks=7, embedding=16, teacher_labels=4), OWN), (SPEC, [])],
)
def test_a_network_that_cannot_repeat_is_refused(spec: NetworkSpec, own: list[int]) -> None:
    with pytest.raises(ValueError, match="teacher head"):
        Repeating(Network(spec), torch.ones(16), own, TAUGHT)


class Labelled(NamedTuple):
    target: Tensor
    weight: Tensor
    teacher: Tensor
    clean: Tensor


def test_a_small_network_follows_what_a_large_one_says_of_the_clean_sound() -> None:
    large, log_mel = begun(), torch.randn(16, 103, 32) + torch.randn(16, 103, 1) * 2
    with torch.no_grad():
        said = torch.sigmoid(large(log_mel).clip)
    small = Network(NetworkSpec(blocks=7, embedding=8, sharpness=0.0))
    batch = Labelled(said.round(), torch.zeros(16, len(LABELS)), said, said)
    losses = learn(small, Following(), log_mel, batch, steps=30, rate=3e-3)
    least = float(-(said * said.log() + (1 - said) * (1 - said).log()).mean())
    assert losses[-1] - least < (losses[0] - least) / 2
    unsure = batch._replace(target=1 - batch.target)
    torch.testing.assert_close(Following()(small.eval(), log_mel, batch), Following()(small, log_mel, unsure))


def test_a_light_network_also_repeats_the_embedding_of_the_clean_sound() -> None:
    before, log_mel = begun(), torch.randn(16, 103, 32) + torch.randn(16, 103, 1) * 2
    network, said = copy.deepcopy(before), torch.full((16, len(LABELS)), 0.5)
    batch = Labelled(said, torch.zeros(16, len(LABELS)), said, embeddings(before, log_mel))
    objective, noisy = Following(batch.clean.std(0) + 0.05), log_mel + torch.randn_like(log_mel)
    learn(network, objective, noisy, batch, steps=40, rate=1e-3)
    was = (embeddings(before, noisy) - batch.clean).square().mean()
    assert (embeddings(network, noisy) - batch.clean).square().mean() < was / 2
    network.eval()
    far = ((embeddings(network, noisy) - batch.clean) / objective.deviation).square().mean()
    told = Following()(network, noisy, batch) + Following.EMBEDDING * far
    torch.testing.assert_close(objective(network, noisy, batch), told)
