from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_model.calibration import Calibration, calibrate, working_thresholds
from earmark_model.contract import LABELS
from earmark_model.metrics import (
    expected_calibration_error,
    measure,
    recall_at_false_positives,
    recall_at_rate,
    threshold_at_false_positives,
)

RNG = np.random.default_rng(3)
SCREAM, CRY, SPEECH, OTHER = (LABELS.index(label) for label in ("scream", "cry", "speech", "other"))


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.5000001, 0.9, 1.0]), min_size=1, max_size=30), st.integers(0, 30))
def test_a_threshold_never_lets_more_negatives_through_than_allowed_even_with_ties(negatives: list[float], allowed: int) -> None:
    scores = np.array(negatives)
    threshold = threshold_at_false_positives(scores, allowed)
    assert np.sum(scores >= threshold) <= max(allowed, 0) or allowed >= scores.size


def test_recall_counts_positives_above_the_last_allowed_negative() -> None:
    scores = np.array([0.9, 0.8, 0.3, 0.85, 0.2, 0.1, 0.1])
    positive = np.array([True, True, True, False, False, False, False])
    assert recall_at_false_positives(scores, positive, 0) == pytest.approx(1 / 3)
    assert recall_at_false_positives(scores, positive, 1) == 1.0
    assert recall_at_rate(scores, positive, 0.01) == pytest.approx(1 / 3)


def test_recall_without_positives_or_negatives_is_not_a_number_made_up() -> None:
    assert recall_at_rate(np.array([0.5, 0.6]), np.array([False, False]), 0.01) is None
    assert recall_at_rate(np.array([0.5, 0.6]), np.array([True, True]), 0.01) is None


def test_triage_takes_any_sensitive_label_for_any_sensitive_clip() -> None:
    scores = np.full((4, len(LABELS)), 0.1)
    labels = np.array([SCREAM, CRY, SPEECH, OTHER])
    scores[0, CRY] = scores[1, SCREAM] = 0.9  # each heard as the other: still triaged
    scores[2, SPEECH] = 0.99
    figures = measure(scores, labels, np.full(4, 900.0))
    assert figures.triage_recall_at_1_percent == figures.triage_auroc == 1.0
    assert figures.labels["scream"].recall_at_1_percent == 0.0
    assert figures.negative_hours == pytest.approx(0.5)
    assert figures.labels["laughter"].average_precision is None
    assert figures.labels["speech"].calibration_error == pytest.approx((3 * 0.1 + 0.01) / 4)


def test_false_alarms_per_hour_follow_the_length_of_the_negatives() -> None:
    labels = np.array([SCREAM] * 10 + [SPEECH] * 10)
    scores = np.zeros((20, len(LABELS)))
    scores[:10, SCREAM] = np.linspace(0.1, 1.0, 10)
    scores[10:, SCREAM] = np.linspace(0.05, 0.95, 10)
    figures = measure(scores, labels, np.full(20, 720.0))  # two hours of negatives: two alarms allowed, then all ten
    assert figures.triage_recall_at_1_per_hour == pytest.approx(0.3)  # 0.8, 0.9 and 1.0 stand above the third negative, 0.75
    assert figures.triage_recall_at_5_per_hour == 1.0


def test_scores_that_are_not_finite_or_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        measure(np.full((2, len(LABELS)), np.nan), np.array([0, 1]), np.ones(2))
    with pytest.raises(ValueError, match="length"):
        measure(np.zeros((2, len(LABELS))), np.array([0]), np.ones(2))


def test_calibration_finds_the_scale_and_bias_that_the_logits_were_spoilt_by() -> None:
    true_logit = RNG.normal(-1, 2, 20_000)
    positive = RNG.random(20_000) < 1 / (1 + np.exp(-true_logit))
    logits = np.zeros((20_000, len(LABELS)))
    logits[:, SCREAM] = (true_logit - 0.7) / 3.0
    labels = np.where(positive, SCREAM, OTHER)
    found = calibrate(logits, labels)
    assert found.scale[SCREAM] == pytest.approx(3.0, rel=0.05)
    assert found.bias[SCREAM] == pytest.approx(0.7, abs=0.08)
    assert expected_calibration_error(found(logits)[:, SCREAM], positive) < 0.015
    assert expected_calibration_error(Calibration((1.0,) * 7, (0.0,) * 7, ())(logits)[:, SCREAM], positive) > 0.1


def test_a_label_with_too_few_positives_is_left_alone_and_not_claimed() -> None:
    found = calibrate(RNG.normal(size=(100, len(LABELS))), np.array([SPEECH] * 50 + [OTHER] * 45 + [CRY] * 5))
    assert "cry" not in found.fitted
    assert (found.scale[CRY], found.bias[CRY]) == (1.0, 0.0)


def test_expected_calibration_error_of_a_constant_is_its_distance_from_the_frequency() -> None:
    assert expected_calibration_error(np.full(100, 0.9), np.arange(100) < 60) == pytest.approx(0.3)


def test_working_thresholds_let_through_the_stated_share_of_harmless_clips() -> None:
    labels = np.array([SPEECH] * 1_000 + [SCREAM] * 10)
    scores = RNG.uniform(0, 0.9, (1_010, len(LABELS)))
    thresholds = working_thresholds(scores, labels, 0.01)
    assert np.sum(scores[:1_000, SCREAM] >= thresholds["scream"].value) == 10
    assert thresholds["speech"].value == 0.5
    assert all(threshold.guarantee is None for threshold in thresholds.values())
