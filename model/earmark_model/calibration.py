"""From logits to probabilities that mean what they say: Platt scaling per label (Platt, 1999), and `other` as what the rest leave.

The sensitive labels share one scale and one bias. Triage takes the largest of their scores, so what one gains over another decides what is
found at all; and the label whose recordings a corpus holds in plenty gains most from a fit of its own, on those recordings. On sources
left out that cost .07 of triage recall at 1 % and .10 at 5 false alarms per hour (docs/experiments.md). What each still has of its own is
how much it yields to the surest of them: a baby's cry sounds like crying, and is no adult's. The surest yields nothing, so triage is as
before.

Chosen on the validation split by leaving out groups and whole sources in rotation, judged by expected calibration error: weighting clips
by group or source, beta calibration and isotonic regression were no better than plain scaling, and isotonic regression worse. `other`
gained by the one thing that its own logit does not tell, how sure the other labels are: .029 became .015 (groups left out), .044
became .020 (sources), and its AUROC rose from .953 to .973. It is the label that shifts most with the make-up of a set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression

from earmark_model.contract import LABELS, SENSITIVE, Threshold
from earmark_model.metrics import threshold_at_false_positives

Logits = NDArray[np.float64]
MIN_POSITIVES = 10
"""With fewer positives a label is not fitted, and the bundle says so."""
OTHER = LABELS.index("other")
assert LABELS[OTHER:] == ("other",), "the graph slices the other labels off as those before it"
YIELDING = len(SENSITIVE)
assert LABELS[:YIELDING] == SENSITIVE, "the graph slices them off as the first"
_ROUNDS = 10
"""Of fitting the scale for what is yielded, and what is yielded on that scale, in turn."""
_MOST = 4.0
"""Nobody yields more times the distance."""
_REST_STRENGTH = 0.03
"""Inverse ridge penalty of the fit of `other`; of 1, .1, .03, .01, .003 the best in both rotations."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability = sigmoid(scale * logit + bias), per label in the order of `LABELS`; `fitted`: those with enough positives.

    To `other`, `rest` times the log of the summed exponentials of the other labels' logits is added before the sigmoid. From a sensitive
    label, `yields` times what it lies below the largest of the sensitive labels is taken off, in the order of `SENSITIVE`.
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    fitted: tuple[str, ...]
    rest: float = 0.0
    yields: tuple[float, ...] = (0.0,) * YIELDING

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """`[..., labels]` to the same, in [0, 1]."""
        scaled = np.asarray(self.scale, dtype=np.float64) * logits + np.asarray(self.bias)
        scaled[..., OTHER] += self.rest * _rest(logits)
        scaled[..., :YIELDING] -= np.asarray(self.yields) * _below(scaled)
        scores: NDArray[np.float64] = expit(scaled)
        return scores


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Calibration:
    """Fit on validation clips: logits `[clips, labels]`, each clip's label index `[clips]`."""
    scale, bias, yields = [1.0] * len(LABELS), [0.0] * len(LABELS), [0.0] * YIELDING
    enough = [index for index in range(len(LABELS)) if MIN_POSITIVES <= (labels == index).sum() <= len(labels) - MIN_POSITIVES]
    fitted, rest = [], 0.0
    if together := [index for index in enough if index < YIELDING]:
        slope, intercept, yields = _together(logits, labels, together)
        if slope > 0:  # otherwise they score their own clips lower than others and are left alone rather than turned over
            # one without clips of its own is put on the scale too
            scale[:YIELDING], bias[:YIELDING] = [slope] * YIELDING, [intercept] * YIELDING
            fitted += [LABELS[index] for index in together]
    for index in enough[len(together) :]:
        features = logits[:, index, None]
        if index == OTHER:
            regression = LogisticRegression(C=_REST_STRENGTH).fit(np.column_stack([features, _rest(logits)]), labels == index)
        else:
            regression = LogisticRegression(C=1e4).fit(features, labels == index)
        if regression.coef_[0, 0] > 0:
            scale[index], bias[index] = float(regression.coef_[0, 0]), float(regression.intercept_[0])
            rest = float(regression.coef_[0, 1]) if index == OTHER else rest
            fitted.append(LABELS[index])
    return Calibration(tuple(scale), tuple(bias), tuple(fitted), rest, tuple(yields))


def _together(logits: NDArray[np.floating], labels: NDArray[np.int64], together: list[int]) -> tuple[float, float, list[float]]:
    """The scale and bias that the labels `together` share, and what each sensitive label yields; one that has no clips yields nothing."""
    own = np.asarray(logits, np.float64)[:, :YIELDING]
    below, yields = _below(own), np.zeros(YIELDING)
    positive = labels[:, None] == np.arange(YIELDING)
    for _ in range(_ROUNDS):
        features = own - yields * below
        regression = LogisticRegression(C=1e4).fit(features[:, together].T.reshape(-1, 1), positive[:, together].T.ravel())
        slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
        if slope <= 0:
            return slope, intercept, [0.0] * YIELDING
        for index in together:
            scaled, lost = slope * own[:, index] + intercept, slope * below[:, index]
            sign = np.where(positive[:, index], -1.0, 1.0)

            def loss(share: float, scaled: Logits = scaled, lost: Logits = lost, sign: Logits = sign) -> float:
                return float(np.logaddexp(0, sign * (scaled - share * lost)).mean())

            yields[index] = minimize_scalar(loss, bounds=(0, _MOST), method="bounded").x
    return slope, intercept, yields.tolist()


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


def _rest(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """How sure the labels other than `other` are together, `[...]` from logits `[..., labels]`."""
    sure: NDArray[np.float64] = logsumexp(np.asarray(logits, dtype=np.float64)[..., :OTHER], axis=-1)
    return sure


def _below(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each sensitive label lies below the largest of them, `[..., sensitive]` from `[..., labels]`."""
    sensitive = scaled[..., :YIELDING]
    distances: NDArray[np.float64] = sensitive.max(-1, keepdims=True) - sensitive
    return distances
