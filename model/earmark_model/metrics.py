"""Figures that say how well scores tell sensitive sounds from the rest. Arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from earmark_model.contract import LABELS, SENSITIVE

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]

OTHER = LABELS.index("other")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many false alarms a threshold may cost: a share of the negative clips, or a number per hour of them."""

    name: str
    share: float = 0.0
    per_hour: float = 0.0

    def allowed(self, negatives: float, hours: float) -> int:
        """Negative clips that may fire, out of so many that last so long; a fraction of one counts as none."""
        return int(np.floor(self.share * negatives + self.per_hour * hours + 1e-9))


BUDGETS = (Budget("1 %", share=0.01), Budget("5 per hour", per_hour=5.0), Budget("1 per hour", per_hour=1.0))
"""Where triage is measured."""


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
    """All labels, and triage: any sensitive label against everything else but shouts, scored by the largest sensitive score."""

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


def over_windows(scores: Scores) -> Scores:
    """A clip's `[labels]` from its windows' `[windows, labels]`: the largest of each, but `other` only so far as all of it is other."""
    clip: Scores = scores.max(0)
    clip[OTHER] = scores[:, OTHER].min()
    return clip


def of_clips(windows: Iterable[Scores]) -> Scores:
    """`[clips, labels]` from each clip's `[windows, labels]`, by `over_windows`."""
    return np.stack([over_windows(each) for each in windows])


def triage_score(scores: Scores) -> Scores:
    """The largest sensitive score of each clip, from `[clips, labels]`."""
    largest: Scores = scores[:, [LABELS.index(label) for label in SENSITIVE]].max(1)
    return largest


def is_sensitive(labels: NDArray[np.int64]) -> Flags:
    """Clips of a sensitive label, from label indices `[clips]`."""
    sensitive: Flags = np.isin(labels, [LABELS.index(label) for label in SENSITIVE])
    return sensitive


def is_harmless(labels: NDArray[np.int64]) -> Flags:
    """Clips that triage must not flag. A shout is neither: it is reported, and the policy says whether it is routed."""
    harmless: Flags = ~is_sensitive(labels) & (labels != LABELS.index("shout"))
    return harmless


def scream_margin(scores: Scores, floor: float = 1e-6) -> Scores:
    """How much more a clip sounds like a scream than like crying, in logits `[clips]`, from scores `[clips, labels]`.

    The larger of adult and baby crying counts; scores are held between `floor` and 1 - `floor`, so that a score that was
    rounded to 0 is no infinite evidence.
    """
    held = np.clip(scores, floor, 1 - floor)
    logits = np.log(held) - np.log1p(-held)
    scream, cry, baby_cry = (logits[:, LABELS.index(label)] for label in ("scream", "cry", "baby_cry"))
    margin: Scores = scream - np.maximum(cry, baby_cry)
    return margin


def auroc(scores: Scores, positive: Flags) -> float | None:
    """Area under the ROC curve; None without positives or without negatives."""
    return float(roc_auc_score(positive, scores)) if positive.any() and not positive.all() else None


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
    counted = is_sensitive(labels) | is_harmless(labels)
    sensitive, triage = is_sensitive(labels)[counted], triage_score(scores)[counted]
    hours = float(durations_s[is_harmless(labels)].sum() / 3600)
    return Figures(
        clips=labels.size,
        negative_hours=hours,
        labels={label: label_figures(scores[:, index], labels == index) for index, label in enumerate(LABELS)},
        triage_auroc=auroc(triage, sensitive),
        triage_recall_at_1_percent=recall_at_rate(triage, sensitive, 0.01),
        triage_recall_at_5_per_hour=recall_at_false_positives(triage, sensitive, int(5 * hours)),
        triage_recall_at_1_per_hour=recall_at_false_positives(triage, sensitive, int(hours)),
    )
