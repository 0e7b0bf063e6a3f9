"""From logits to probabilities that mean what they say: Platt scaling per label (Platt, 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from earmark_model.contract import LABELS, SENSITIVE, Threshold
from earmark_model.metrics import threshold_at_false_positives

MIN_POSITIVES = 10
"""With fewer positives a label's logits are left as they are, and the bundle says so."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability = sigmoid(scale * logit + bias), per label in the order of `LABELS`; `fitted`: those with enough positives."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    fitted: tuple[str, ...]

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """`[..., labels]` to the same, in [0, 1]."""
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-(np.asarray(self.scale) * logits + np.asarray(self.bias))))
        return scores


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Calibration:
    """Fit scale and bias on validation clips: logits `[clips, labels]`, each clip's label index `[clips]`."""
    scale, bias, fitted = [1.0] * len(LABELS), [0.0] * len(LABELS), []
    for index, label in enumerate(LABELS):
        positive = labels == index
        if min(positive.sum(), (~positive).sum()) < MIN_POSITIVES:
            continue
        regression = LogisticRegression(C=1e4).fit(logits[:, [index]], positive)
        slope = float(regression.coef_[0, 0])
        if slope <= 0:  # a label that scores its own clips lower than others is left alone rather than turned over
            continue
        scale[index], bias[index] = slope, float(regression.intercept_[0])
        fitted.append(label)
    return Calibration(tuple(scale), tuple(bias), tuple(fitted))


def working_thresholds(scores: NDArray[np.floating], labels: NDArray[np.int64], false_positive_rate: float = 0.005) -> dict[str, Threshold]:
    """A threshold per label, without a guarantee, from validation scores `[clips, labels]`.

    A sensitive label's lets through at most `false_positive_rate` of the clips that hold no sensitive sound; the others' is 0.5.
    """
    harmless = ~np.isin(labels, [LABELS.index(label) for label in SENSITIVE])
    allowed = int(false_positive_rate * harmless.sum())
    thresholds = dict.fromkeys(LABELS, Threshold(0.5))
    for label in SENSITIVE:
        value = threshold_at_false_positives(scores[harmless, LABELS.index(label)], allowed)
        thresholds[label] = Threshold(float(np.clip(value, 0.02, 0.98)))
    return thresholds
