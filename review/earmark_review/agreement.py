"""How far reviewers agree, and how often what a model flagged was distress; no clock, no database."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import krippendorff
import numpy as np

from earmark_review.cases import LABELS_OF_VERDICTS, Queue, Verdict


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


@dataclass(frozen=True, slots=True)
class Look:
    """A verdict that somebody gave."""

    case_id: str
    label: str
    """The sound that was flagged."""
    queue: Queue
    verdict: Verdict
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha over some cases; `count` of them have the two labels that it takes."""

    count: int
    alpha: float | None


@dataclass(frozen=True, slots=True)
class QueueAgreement:
    """How far reviewers agree in a queue: in all, and by the week of the latest look there."""

    queue: Queue
    whole: Agreement
    weeks: Mapping[str, Agreement]


def alpha(cases: Sequence[Sequence[Verdict]]) -> float | None:
    """Krippendorff's alpha (nominal) over what each case was called: 1 is full agreement, 0 what chance gives.

    Escalations carry no label and do not count, nor do cases with a single label. None where fewer than two labels occur, since alpha says
    nothing then.
    """
    counts = [[Counter(case)[verdict] for verdict in LABELS_OF_VERDICTS] for case in cases if _is_comparable(case)]
    table = np.array(counts, dtype=int).reshape(-1, len(LABELS_OF_VERDICTS))  # [cases, labels]
    if (table.sum(axis=0) > 0).sum() < 2:  # noqa: PLR2004 - disagreement takes two
        return None
    return float(krippendorff.alpha(value_counts=table, level_of_measurement="nominal"))


def agreement(cases: Sequence[Sequence[Verdict]]) -> Agreement:
    """Alpha, and over how many cases."""
    return Agreement(sum(map(_is_comparable, cases)), alpha(cases))


def _is_comparable(case: Sequence[Verdict]) -> bool:
    return sum(verdict in LABELS_OF_VERDICTS for verdict in case) > 1


def agreement_in(queue: Queue, looks: Iterable[Look], since: datetime) -> QueueAgreement:
    """How far the looks in `queue` after `since` agree with one another and with those of the queues before; `looks` come oldest first.

    Several people have a first look at golden cases alone. A second look is compared with the first, a senior's answer with the two that
    differ.
    """
    whole: dict[str, Sequence[Verdict]] = {}
    weeks: defaultdict[str, dict[str, Sequence[Verdict]]] = defaultdict(dict)
    for look, given in _given_by_then(queue, looks):
        if look.decided_at > since:
            whole[look.case_id] = weeks[week_of(look.decided_at)][look.case_id] = given
    by_week = {week: agreement(list(cases.values())) for week, cases in weeks.items()}
    return QueueAgreement(queue, agreement(list(whole.values())), {week: one for week, one in by_week.items() if one.count})


def agreement_by_sound(looks: Iterable[Look], since: datetime) -> Mapping[str, Agreement]:
    """How far second looks after `since` agree with the first, by the sound that was flagged; `looks` come oldest first."""
    sounds: defaultdict[str, list[Sequence[Verdict]]] = defaultdict(list)
    for look, given in _given_by_then(Queue.SECOND, looks):
        if look.decided_at > since:
            sounds[look.label].append(given)
    by_sound = {sound: agreement(cases) for sound, cases in sorted(sounds.items())}
    return {sound: one for sound, one in by_sound.items() if one.count}


_ORDER = tuple(Queue)


def _given_by_then(queue: Queue, looks: Iterable[Look]) -> Iterable[tuple[Look, Sequence[Verdict]]]:
    """Each look in `queue`, with all that its case had been called by then, there and in the queues before."""
    before = _ORDER[: _ORDER.index(queue) + 1]
    given: defaultdict[str, tuple[Verdict, ...]] = defaultdict(tuple)
    for look in looks:
        if look.queue in before:
            given[look.case_id] += (look.verdict,)
        if look.queue is queue:
            yield look, given[look.case_id]


def week_of(at: datetime) -> str:
    """The ISO 8601 week, as `2026-W09`, so that weeks sort as text."""
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02}"
