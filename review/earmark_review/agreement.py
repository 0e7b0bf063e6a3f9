"""How far reviewers agree, and how often what a model flagged was distress; no clock, no database."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import krippendorff
import numpy as np

from earmark_review.cases import LABELS_OF_VERDICTS, Verdict


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `count`, with Wilson's interval (Wilson, 1927) at 95 %."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        """The share itself; of nothing it is 0."""
        return self.hits / self.count if self.count else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Its bounds in [0, 1]; of nothing, all of it."""
        if not self.count:
            return 0.0, 1.0
        z, n, p = 1.959964, self.count, self.value
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


def alpha(looks: Sequence[Sequence[Verdict]]) -> float | None:
    """Krippendorff's alpha (nominal) over cases that two or more people labelled: 1 is full agreement, 0 what chance gives.

    Escalations carry no label and do not count. None where fewer than two labels occur, since alpha says nothing then.
    """
    counts = [[Counter(case)[verdict] for verdict in LABELS_OF_VERDICTS] for case in looks]
    table = np.array([row for row in counts if sum(row) > 1], dtype=int).reshape(-1, len(LABELS_OF_VERDICTS))  # [cases, labels]
    if (table.sum(axis=0) > 0).sum() < 2:  # noqa: PLR2004 - disagreement takes two
        return None
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))


def week_of(at: datetime) -> str:
    """The ISO 8601 week, as `2026-W09`, so that weeks sort as text."""
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02}"
