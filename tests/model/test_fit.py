from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from earmark_model.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from earmark_model.contract import LABELS
from earmark_model.fit import TrainConfig, Trainer, load_tagger
from earmark_model.metrics import Figures, measure
from earmark_model.network import NetworkSpec, Tagger

SCREAM, OTHER = LABELS.index("scream"), LABELS.index("other")
SMALL = TrainConfig(
    seed=0, epochs=3, examples_per_epoch=64, batch_size=16, learning_rate=1e-2, network=NetworkSpec(channels=(16, 16, 16, 16), context=1)
)


class Examples(NamedTuple):
    audio: Tensor
    target: Tensor
    weight: Tensor
    teacher: Tensor


def example_audio(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Loud 2 kHz tones are screams, 300 Hz tones are not: anything that learns at all tells them apart."""
    scream = rng.random(count) < 0.5
    time = np.arange(16_000) / 16_000
    audio = np.stack([np.sin(2 * np.pi * (2_000 if each else 300) * time) for each in scream]) * 0.3
    audio += 0.02 * rng.standard_normal(audio.shape)
    return torch.from_numpy(audio).float(), torch.from_numpy(scream)


def batches(epoch: int) -> Iterator[Examples]:
    rng = np.random.default_rng(epoch)
    for _ in range(4):
        audio, scream = example_audio(rng, 16)
        target = torch.zeros(16, len(LABELS))
        target[:, SCREAM], target[:, OTHER] = scream.float(), 1 - scream.float()
        yield Examples(audio, target, torch.ones_like(target), torch.zeros(16, 0))


def validate(tagger: Tagger) -> Figures:
    audio, scream = example_audio(np.random.default_rng(99), 64)
    with torch.inference_mode():
        scores = torch.sigmoid(tagger(audio).clip).numpy()
    return measure(scores, np.where(scream.numpy(), SCREAM, OTHER), np.ones(64))


def trained(run: Path, config: TrainConfig = SMALL) -> Trainer:
    run.mkdir(exist_ok=True)
    trainer = Trainer(config, run, device=torch.device("cpu"))
    trainer.fit(batches, validate)
    return trainer


def test_training_learns_to_tell_two_tones_apart_and_keeps_the_best(tmp_path: Path) -> None:
    trained(tmp_path)
    figures = validate(load_tagger(tmp_path))
    assert figures.triage_auroc is not None
    assert figures.triage_auroc > 0.95
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


def test_an_interrupted_run_keeps_its_work_and_goes_on_to_the_end(tmp_path: Path) -> None:
    trainer = Trainer(SMALL, tmp_path, device=torch.device("cpu"))

    def interrupted(epoch: int) -> Iterator[Examples]:
        for number, batch in enumerate(batches(epoch)):
            if (epoch, number) == (1, 2):
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(interrupted, validate)
    weights = trainer.tagger.state_dict()

    again = Trainer(SMALL, tmp_path, device=torch.device("cpu"))
    again.resume()
    assert again.progression.epoch == 1
    for name, weight in again.tagger.state_dict().items():
        torch.testing.assert_close(weight, weights[name])
    assert again.fit(batches, validate).epoch == 3


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    one, two = trained(tmp_path / "one"), trained(tmp_path / "two")
    for name, weight in one.tagger.state_dict().items():
        torch.testing.assert_close(weight, two.tagger.state_dict()[name], msg=name)
    other = Trainer(dataclasses.replace(SMALL, seed=1), tmp_path, device=torch.device("cpu")).tagger
    assert not torch.equal(other.network.head.weight, Trainer(SMALL, tmp_path, device=torch.device("cpu")).tagger.network.head.weight)


def test_minutes_end_a_run_before_its_epochs(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, epochs=10_000, minutes=0.02)
    trainer = trained(tmp_path, config)
    assert trainer.progression.epoch < 10_000
    assert trainer.progression.done(config) == 1.0


def test_the_learning_rate_warms_up_and_falls_to_nearly_nothing() -> None:
    config = TrainConfig(warmup=0.1)
    assert config.learning_rate_at(0.0) < config.learning_rate_at(0.05) < config.learning_rate_at(0.1)
    assert config.learning_rate_at(0.1) == pytest.approx(config.learning_rate, rel=1e-3)
    assert config.learning_rate_at(1.0) < config.learning_rate / 1_000


def test_weight_zero_takes_a_label_out_of_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    gradients = []
    for value in (0.0, 1.0):
        trainer = Trainer(SMALL, tmp_path, device=torch.device("cpu"))
        batch = next(batches(0))
        batch.weight[:, SCREAM] = 0.0
        batch.target[:, SCREAM] = value
        trainer._step(batch)
        gradients.append(trainer.tagger.network.head.bias.grad.clone())
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0][SCREAM] == 0.0
    assert gradients[0][OTHER] != 0.0


def test_the_teachers_scores_train_the_teacher_head(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, network=dataclasses.replace(SMALL.network, teacher_labels=3))
    trainer = Trainer(config, tmp_path, device=torch.device("cpu"))
    trainer._step(next(batches(0))._replace(teacher=torch.rand(16, 3)))
    assert trainer.tagger.network.teacher_head.weight.grad.abs().sum() > 0


def test_a_checkpoint_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    trained(tmp_path)
    wider = dataclasses.replace(SMALL, network=NetworkSpec(channels=(16, 16, 16, 32), context=1))
    with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint of this configuration"):
        Trainer(wider, tmp_path, device=torch.device("cpu")).resume()


def test_a_damaged_or_missing_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"best\.pt: no such checkpoint"):
        load_tagger(tmp_path)
    (tmp_path / "best.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"best\.pt: not a readable checkpoint") as caught:
        load_tagger(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_loses_no_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint(path, {"value": 1})
    before = shutil.copy(path, tmp_path / "copy")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_checkpoint(path, {"value": 2})
    assert path.read_bytes() == Path(before).read_bytes()
    assert read_checkpoint(path) == {"value": 1}
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"minutes": 0.0},
        {"minutes": float("inf")},
        {"warmup": 1.0},
        {"ema_decay": 1.0},
        {"seed": -1},
        {"teacher_weight": -1.0},
    ],
)
def test_an_impossible_configuration_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        TrainConfig(**change)


def test_the_configuration_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(dataclasses.asdict(SMALL)))["network"]["channels"] == [16, 16, 16, 16]
