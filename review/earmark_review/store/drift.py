"""Whether the scores of what devices flag stay as they were: a histogram by model and week, and how far it lies from the weeks before."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from sqlalchemy import Connection, select

from earmark_model.contract import Reason
from earmark_review.agreement import week_of
from earmark_review.store.schema import events

BINS = 10
LEAST = 5
"""Events that a week needs before it is compared with others."""
_DRAWS = 400
_CHANCE = 0.95

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Peak scores of the events that a model flagged in a week: `counts` in `BINS` equal bins from 0 to 1."""

    model: str
    week: str
    counts: tuple[int, ...]
    before: tuple[int, ...]
    """The same model's weeks before, together."""
    distance: float | None
    """Jensen-Shannon distance to the weeks before (base 2: 0 the same, 1 nothing in common); None where either has too few events."""
    chance: float | None
    """The distance that 95 of 100 such weeks stay below if nothing has changed."""

    @property
    def count(self) -> int:
        """Events of the week."""
        return sum(self.counts)

    @property
    def is_shifted(self) -> bool:
        """Whether the week differs by more than chance."""
        return self.distance is not None and self.chance is not None and self.distance > self.chance


def drift(conn: Connection, since: datetime) -> Sequence[Histogram]:
    """A histogram for each model and week in which it flagged anything since then; by model, then week."""
    query = select(events.c.payload, events.c.peak_score, events.c.received_at)
    is_flagged = events.c.reason != str(Reason.BELOW_THRESHOLD)  # the rest was drawn to count misses
    scores: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in conn.execute(query.where(events.c.received_at > since, is_flagged)):
        scores[model_of(row.payload)][week_of(row.received_at)].append(row.peak_score)
    return [histogram for model in sorted(scores) for histogram in compared(model, scores[model])]


def model_of(payload: bytes) -> str:
    """Which model an event came from. All of it was checked when it was taken; to do so again for thousands takes most of a page's time."""
    return str(json.loads(payload)["model_sha256"])


def compared(model: str, weeks: Mapping[str, Sequence[float]]) -> Sequence[Histogram]:
    """Each week of a model beside all the weeks before it."""
    found, before = [], np.zeros(BINS, dtype=np.int64)
    for week in sorted(weeks):
        counts = np.histogram(weeks[week], bins=BINS, range=(0, 1))[0].astype(np.int64)
        is_enough = min(counts.sum(), before.sum()) >= LEAST
        distance = js_distance(counts, before) if is_enough else None
        chance = _by_chance(counts, before) if is_enough else None
        found.append(Histogram(model, week, _whole(counts), _whole(before), distance, chance))
        before = before + counts
    return found


def js_distance(one: Counts, other: Counts) -> float:
    """Jensen-Shannon distance, the root of the divergence in bits (Endres and Schindelin, 2003), of two histograms, neither empty."""
    return float(np.nan_to_num(jensenshannon(one, other, base=2)))


def _by_chance(counts: Counts, before: Counts) -> float:
    """The distance's upper end where both are drawn from the same scores; few events lie apart by chance alone."""
    rng = np.random.default_rng(0)  # the same figures give the same page
    together = (counts + before) / (counts.sum() + before.sum())
    pairs: tuple[Any, Any] = (rng.multinomial(counts.sum(), together, _DRAWS), rng.multinomial(before.sum(), together, _DRAWS))
    return float(np.quantile(np.nan_to_num(jensenshannon(*pairs, base=2, axis=1)), _CHANCE))


def _whole(counts: Counts) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)
