"""Calibration: probabilities that mean what they say, the same ones in the graph as here."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from earmark_model.calibration import Calibration, calibrate
from earmark_model.contract import LABELS, SENSITIVE
from earmark_model.export import CalibratedTagger
from earmark_model.metrics import expected_calibration_error

SCREAM, SPEECH, OTHER = (LABELS.index(label) for label in ("scream", "speech", "other"))


def clips(seed: int, count: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """A network that is too sure of itself: of scream, speech and other one is there, and its logit is the higher, but spoilt."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-4, 0.5, (count, len(LABELS)))
    labels = rng.choice([SCREAM, SPEECH, OTHER], count, p=[0.2, 0.3, 0.5])
    for label in (SCREAM, SPEECH):
        logits[:, label] = rng.normal(np.where(labels == label, 2, -2), 1.5)
    logits[:, OTHER] = rng.normal(np.where(labels == OTHER, 0.7, -0.7), 2.0)  # knows little by itself
    return 3 * logits + 1, labels


def test_calibrated_probabilities_of_fresh_clips_mean_what_they_say() -> None:
    found = calibrate(*clips(0))
    logits, labels = clips(1)
    scores, raw = found(logits), expit(logits)
    for label in (SCREAM, SPEECH, OTHER):
        assert expected_calibration_error(scores[:, label], labels == label) < 0.03
        assert expected_calibration_error(raw[:, label], labels == label) > 0.04


def test_other_listens_to_how_sure_the_rest_are() -> None:
    found = calibrate(*clips(0))
    logits, labels = clips(1)
    assert found.rest < 0
    alone = Calibration(found.scale, found.bias, found.fitted)(logits)[:, OTHER]
    with_rest = found(logits)[:, OTHER]

    def separation(scores: np.ndarray) -> float:
        return float(np.mean(scores[labels == OTHER][:, None] > scores[labels != OTHER]))

    assert separation(with_rest) > separation(alone) + 0.1


def test_no_other_label_s_score_depends_on_its_neighbours() -> None:
    found, (logits, _) = calibrate(*clips(0)), clips(1, 50)
    louder = logits.copy()
    louder[:, SPEECH] += 5  # talk over a scream does not hide it
    before, after = found(logits), found(louder)
    kept = [index for index in range(len(LABELS)) if index not in {SPEECH, OTHER}]
    assert np.array_equal(before[:, kept], after[:, kept])
    assert (after[:, OTHER] < before[:, OTHER]).any()


def test_without_clips_of_other_it_is_left_alone() -> None:
    logits, labels = clips(0)
    chosen = labels != OTHER
    found = calibrate(logits[chosen], labels[chosen])
    assert (found.scale[OTHER], found.bias[OTHER], found.rest) == (1.0, 0.0, 0.0)
    assert np.allclose(found(logits)[:, OTHER], expit(logits[:, OTHER]))


def babies(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A network to which every baby's cry sounds like crying, too, only a little less so."""
    rng = np.random.default_rng(seed)
    cry, baby_cry = LABELS.index("cry"), LABELS.index("baby_cry")
    labels = rng.choice([cry, baby_cry, SPEECH, OTHER], 4_000, p=[0.03, 0.17, 0.4, 0.4])
    logits = rng.normal(-3, 1, (4_000, len(LABELS)))
    logits[:, cry] += np.where(np.isin(labels, [cry, baby_cry]), 5, 0)
    logits[:, baby_cry] += np.where(labels == baby_cry, 7, 0)
    return logits, labels


def test_a_sensitive_label_yields_to_the_surest_and_triage_is_as_before() -> None:
    found = calibrate(*babies(0))
    logits, labels = babies(1)
    cry, sensitive = LABELS.index("cry"), [LABELS.index(label) for label in SENSITIVE]
    scores = found(logits)
    unyielding = replace(found, yields=(0.0,) * len(SENSITIVE))(logits)
    assert np.array_equal(scores[:, sensitive].max(1), unyielding[:, sensitive].max(1))
    assert found.yields[sensitive.index(cry)] > 0
    assert expected_calibration_error(scores[:, cry], labels == cry) < 0.02
    assert expected_calibration_error(unyielding[:, cry], labels == cry) > 0.04
    assert found.yields[sensitive.index(SCREAM)] == 0.0  # without clips


def test_extreme_logits_stay_probabilities() -> None:
    found = calibrate(*clips(0))
    for value in (-1e4, 1e4):
        scores = found(np.full((1, len(LABELS)), value))
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("shape", [(5, 7), (2, 9, 7)])
def test_the_graph_applies_the_same_calibration_to_clips_and_frames(shape: tuple[int, ...]) -> None:
    calibration = replace(calibrate(*clips(0)), yields=(0.4, 1.5, 0.0))
    logits = np.random.default_rng(3).normal(0, 4, shape).astype(np.float32)

    class Fixed(nn.Module):
        def forward(self, _: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(clip=torch.from_numpy(logits), frames=torch.from_numpy(logits))

    for scores in CalibratedTagger(Fixed(), calibration)(torch.zeros(1)):  # type: ignore[arg-type]  # any module that gives logits
        assert np.allclose(scores.numpy(), calibration(logits), atol=2e-6)


def test_a_sensitive_label_without_clips_is_put_on_the_scale_of_those_with_some() -> None:
    found = calibrate(*clips(0))
    cry, laughter = LABELS.index("cry"), LABELS.index("laughter")
    assert "cry" not in found.fitted
    assert (found.scale[cry], found.bias[cry]) == pytest.approx((found.scale[SCREAM], found.bias[SCREAM]))
    assert (found.scale[cry], found.bias[cry]) != (1.0, 0.0)
    assert (found.scale[laughter], found.bias[laughter]) == (1.0, 0.0)


def test_the_surest_sensitive_label_stays_the_surest_and_they_mean_together_what_they_say() -> None:
    cry, rng = LABELS.index("cry"), np.random.default_rng(4)
    logits, labels = clips(0)
    chosen = (labels == SPEECH) & (rng.random(len(labels)) < 0.1)  # a few cries, whose logits are less sure than a scream's
    labels, logits = np.where(chosen, cry, labels), logits.copy()
    logits[chosen, cry] = rng.normal(2, 3, chosen.sum())
    found = calibrate(logits, labels)
    scores, sensitive = found(logits), [SCREAM, cry]
    assert np.array_equal(scores[:, : len(SENSITIVE)].argmax(1), logits[:, : len(SENSITIVE)].argmax(1))
    assert {"scream", "cry"} <= set(found.fitted)
    both = np.concatenate([scores[:, each] for each in sensitive])
    assert expected_calibration_error(both, np.concatenate([labels == each for each in sensitive])) < 0.03
