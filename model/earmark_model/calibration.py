"""From logits to probabilities that mean what they say: Platt scaling per label (Platt, 1999), and `other` as what the rest leave.

The sensitive labels share one scale and one bias. Triage takes the largest of their scores, so what one gains over another decides what is
found at all; and the label whose recordings a corpus holds in plenty gains most from a fit of its own, on those recordings. On sources
left out that cost .07 of triage recall at 1 % and .10 at 5 false alarms per hour (docs/experiments.md).

Chosen on the validation split by leaving out groups and whole sources in rotation, judged by expected calibration error: weighting clips
by group or source, beta calibration and isotonic regression were no better than plain scaling, and isotonic regression worse. `other`
gained by the one thing that its own logit does not tell, how sure the other labels are: .029 became .015 (groups left out), .044
became .020 (sources), and its AUROC rose from .953 to .973. It is the label that shifts most with the make-up of a set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression

from earmark_model.contract import LABELS, SENSITIVE, Threshold
from earmark_model.metrics import threshold_at_false_positives

MIN_POSITIVES = 10
"""With fewer positives a label is not fitted, and the bundle says so."""
OTHER = LABELS.index("other")
assert LABELS[OTHER:] == ("other",), "the graph slices the other labels off as those before it"
_REST_STRENGTH = 0.03
"""Inverse ridge penalty of the fit of `other`; of 1, .1, .03, .01, .003 the best in both rotations."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probability = sigmoid(scale * logit + bias), per label in the order of `LABELS`; `fitted`: those with enough positives.

    To `other`, `rest` times the log of the summed exponentials of the other labels' logits is added before the sigmoid.
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    fitted: tuple[str, ...]
    rest: float = 0.0

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """`[..., labels]` to the same, in [0, 1]."""
        scaled = np.asarray(self.scale, dtype=np.float64) * logits + np.asarray(self.bias)
        scaled[..., OTHER] += self.rest * _rest(logits)
        scores: NDArray[np.float64] = expit(scaled)
        return scores


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Calibration:
    """Fit on validation clips: logits `[clips, labels]`, each clip's label index `[clips]`."""
    scale, bias, fitted = [1.0] * len(LABELS), [0.0] * len(LABELS), []
    rest = 0.0
    enough = [index for index in range(len(LABELS)) if MIN_POSITIVES <= (labels == index).sum() <= len(labels) - MIN_POSITIVES]
    sensitive = [LABELS.index(label) for label in SENSITIVE]
    together = [index for index in sensitive if index in enough]
    for group in filter(None, [together, *([index] for index in enough if index not in together)]):
        features = np.concatenate([logits[:, index] for index in group])[:, None]
        positive = np.concatenate([labels == index for index in group])
        if group == [OTHER]:
            regression = LogisticRegression(C=_REST_STRENGTH).fit(np.column_stack([features, _rest(logits)]), positive)
        else:
            regression = LogisticRegression(C=1e4).fit(features, positive)
        slope = float(regression.coef_[0, 0])
        if slope <= 0:  # a label that scores its own clips lower than others is left alone rather than turned over
            continue
        rest = float(regression.coef_[0, 1]) if group == [OTHER] else rest
        for index in sensitive if group == together else group:  # a sensitive one without clips of its own is put on the scale too
            scale[index], bias[index] = slope, float(regression.intercept_[0])
        fitted += [LABELS[index] for index in group]
    return Calibration(tuple(scale), tuple(bias), tuple(fitted), rest)


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
