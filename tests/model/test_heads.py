"""Heads learned on a trunk that stays as it is."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from earmark_model.contract import LABELS
from earmark_model.heads import Heard, learn_heads
from earmark_model.network import Network, NetworkSpec
from earmark_model.train_config import SIZES, HeadsConfig, TrainConfig, sized

SPEC = NetworkSpec(blocks=7, embedding=16, sharpness=0.0, beside=8, teacher_labels=3, dropout=0.0)
CONFIG = HeadsConfig(rounds=80, batch_size=32, learning_rate=1e-2)
TAUGHT = [0, 2]


def heard(count: int = 512) -> Heard:
    """Examples whose labels and teachers follow from the embedding, beyond what is linear in it."""
    torch.manual_seed(5)
    embedding = torch.randn(count, 16) * 3 + 2
    flag = (embedding[:, 0] > 2).float()
    apart = ((embedding[:, 1] - 2).abs() > 2).float()
    target = torch.zeros(count, len(LABELS))
    target[:, 0], target[:, 1] = flag, apart
    return Heard(embedding, target, torch.ones(count, len(LABELS)), torch.stack([apart, flag], 1))


def scores(network: Network, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    assert network.beside is not None
    assert network.teacher_head is not None
    both = torch.cat([embedding, torch.nn.functional.hardswish(network.beside(embedding))], 1)
    return torch.sigmoid(network.head(both)), torch.sigmoid(network.teacher_head(both))


def test_heads_learn_labels_and_teachers_while_the_trunk_and_the_taggers_rows_stay() -> None:
    torch.manual_seed(0)
    network, examples = Network(SPEC).eval(), heard()
    before = copy.deepcopy(network.state_dict())
    losses = learn_heads(network, examples, TAUGHT, CONFIG)
    assert len(losses) == CONFIG.rounds
    assert losses[-1] < losses[0] / 2
    with torch.inference_mode():
        labels, teachers = scores(network, examples.embedding)
    assert ((labels[:, :2] > 0.5) == examples.target[:, :2].bool()).float().mean() > 0.95
    assert ((teachers[:, TAUGHT] > 0.5) == examples.teacher.bool()).float().mean() > 0.95
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{layer}.{part}" for layer in ("beside", "head", "teacher_head") for part in ("weight", "bias")}
    torch.testing.assert_close(network.teacher_head.weight[1], before["teacher_head.weight"][1])


def test_an_example_whose_weight_is_nothing_teaches_no_label() -> None:
    torch.manual_seed(0)
    one, other = Network(SPEC), None
    other = copy.deepcopy(one)
    examples = heard()
    unsure = examples._replace(weight=torch.zeros_like(examples.weight))
    torch.manual_seed(1)
    learn_heads(one, unsure, TAUGHT, CONFIG)
    torch.manual_seed(1)
    learn_heads(other, unsure._replace(target=1 - examples.target), TAUGHT, CONFIG)
    torch.testing.assert_close(one.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("spec", "count"), [(dataclasses.replace(SPEC, beside=0), 64), (dataclasses.replace(SPEC, teacher_labels=0), 64), (SPEC, 31)]
)
def test_what_cannot_be_learned_is_refused(spec: NetworkSpec, count: int) -> None:
    with pytest.raises(ValueError, match="beside"):
        learn_heads(Network(spec), heard(count), TAUGHT, CONFIG)


def test_a_loss_that_is_no_number_is_told() -> None:
    examples = heard()
    with pytest.raises(ValueError, match="lower the learning rate"):
        learn_heads(Network(SPEC), examples._replace(embedding=examples.embedding * float("nan")), TAUGHT, CONFIG)


def test_heads_learned_apart_need_units_beside_the_embedding() -> None:
    assert TrainConfig(**SIZES["taught"]).network.beside
    with pytest.raises(ValueError, match="units beside"):
        TrainConfig(heads=HeadsConfig())
    with pytest.raises(ValueError, match="rounds must be positive"):
        HeadsConfig(rounds=0)


def test_another_share_of_the_trunk_may_be_kept() -> None:
    assert TrainConfig(**sized("taught", 0.7)).heads == dataclasses.replace(HeadsConfig(), keep=0.7)
    assert TrainConfig(**sized("taught")).heads == HeadsConfig()
    with pytest.raises(ValueError, match=r"--keep belongs to --size taught.*not to --size small"):
        sized("small", 0.7)
    with pytest.raises(ValueError, match=r"keep is a share in \[0, 1\], got 1.5"):
        sized("taught", 1.5)
