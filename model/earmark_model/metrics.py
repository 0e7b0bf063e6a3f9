"""Figures that say how well scores tell sensitive sounds from the rest. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from earmark_model.contract import LABELS, SENSITIVE

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label against all other clips; `None` where there are no positives or no negatives to measure on."""

    positives: int
    average_precision: float | None
    auroc: float | None
    recall_at_1_percent: float | None
    calibration_error: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All labels, and triage: any sensitive label against everything else, scored by the largest sensitive score."""

    clips: int
    negative_hours: float
    labels: dict[str, LabelFigures]
    triage_auroc: float | None
    triage_recall_at_1_percent: float | None
    triage_recall_at_5_per_hour: float | None
    triage_recall_at_1_per_hour: float | None

    @property
    def selection(self) -> float:
        """What a checkpoint is chosen by: the mean of triage recall, triage AUROC and the sensitive labels' average precision."""
        precisions = [self.labels[label].average_precision for label in SENSITIVE]
        parts = [self.triage_recall_at_1_percent, self.triage_auroc, *precisions]
        held = [part for part in parts if part is not None]
        return float(np.mean(held)) if held else 0.0


def threshold_at_false_positives(negatives: Scores, allowed: int) -> float:
    """The lowest threshold (score >= threshold fires) that at most `allowed` negatives reach.

    A threshold just above the first negative that must not fire: ties never let more through.
    """
    if allowed >= negatives.size:
        return -np.inf
    ordered = np.sort(negatives)[::-1]
    return float(np.nextafter(ordered[allowed], np.inf))


def recall_at_false_positives(scores: Scores, positive: Flags, allowed: int) -> float | None:
    """Share of positives found while at most `allowed` negatives fire."""
    if not positive.any() or positive.all():
        return None
    return float(np.mean(scores[positive] >= threshold_at_false_positives(scores[~positive], allowed)))


def recall_at_rate(scores: Scores, positive: Flags, rate: float) -> float | None:
    """Share of positives found at a false-positive rate of at most `rate`."""
    return recall_at_false_positives(scores, positive, int(np.floor(rate * np.count_nonzero(~positive))))


def expected_calibration_error(scores: NDArray[np.floating], positive: NDArray[np.bool_], bins: int = 15) -> float:
    """Mean distance of confidence from frequency over equal-width bins, weighted by their clips (Naeini et al., 2015)."""
    placed = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs(scores[placed == each].mean() - positive[placed == each].mean()) * np.mean(placed == each) for each in np.unique(placed)]
    return float(np.sum(gaps))


def triage_score(scores: Scores) -> Scores:
    """The largest sensitive score of each clip, from `[clips, labels]`."""
    largest: Scores = scores[:, [LABELS.index(label) for label in SENSITIVE]].max(1)
    return largest


def label_figures(scores: Scores, positive: Flags) -> LabelFigures:
    """Figures of one label, from its scores `[clips]`."""
    if not positive.any() or positive.all():
        return LabelFigures(int(positive.sum()), None, None, None, None)
    return LabelFigures(
        int(positive.sum()),
        float(average_precision_score(positive, scores)),
        float(roc_auc_score(positive, scores)),
        recall_at_rate(scores, positive, 0.01),
        expected_calibration_error(scores, positive),
    )


def measure(scores: Scores, labels: NDArray[np.int64], durations_s: Scores) -> Figures:
    """Figures from clip scores `[clips, labels]`, each clip's label index `[clips]` and length `[clips]`.

    Raises:
        ValueError: the arrays' lengths differ, or a score is not in [0, 1].
    """
    if not scores.shape[0] == labels.size == durations_s.size or not ((scores >= 0) & (scores <= 1)).all():
        msg = (
            f"need finite scores in [0, 1] of one length with labels and durations, got {scores.shape}, {labels.shape}, {durations_s.shape}"
        )
        raise ValueError(msg)
    sensitive = np.isin(labels, [LABELS.index(label) for label in SENSITIVE])
    triage = triage_score(scores)
    hours = float(durations_s[~sensitive].sum() / 3600)
    measurable = sensitive.any() and not sensitive.all()
    return Figures(
        clips=labels.size,
        negative_hours=hours,
        labels={label: label_figures(scores[:, index], labels == index) for index, label in enumerate(LABELS)},
        triage_auroc=float(roc_auc_score(sensitive, triage)) if measurable else None,
        triage_recall_at_1_percent=recall_at_rate(triage, sensitive, 0.01),
        triage_recall_at_5_per_hour=recall_at_false_positives(triage, sensitive, int(5 * hours)),
        triage_recall_at_1_per_hour=recall_at_false_positives(triage, sensitive, int(hours)),
    )
