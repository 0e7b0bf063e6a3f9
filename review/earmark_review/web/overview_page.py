"""The supervisors' page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from earmark_review.agreement import Share
from earmark_review.charts import Bar, Point, alpha_trend, bars, share_trend, signed, weeks_until
from earmark_review.store.drift import Histogram
from earmark_review.store.overview import AGES_H, WEEKS, Precision, overview
from earmark_review.web.guards import ServiceOf, Who
from earmark_review.web.rendering import render

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class DrawnHistogram:
    """A week's scores as shares, on the scale that all weeks of its model have."""

    told: Histogram
    bars: Sequence[Bar]
    before: Sequence[Bar]


@router.get("/figures")
def figures_page(request: Request, service: ServiceOf, _who: Who) -> Response:
    """How the queue, the models, the reviewers together and the devices fare. No reviewer is told apart."""
    now = service.now()
    with service.database.reading() as conn:
        seen = overview(conn, now)
    weeks = weeks_until(now, WEEKS)
    return render(
        request,
        "overview.html",
        seen=seen,
        weeks=weeks,
        ages_h=AGES_H,
        expired=share_trend(seen.expired_by_week, weeks),
        precision=_by_model(seen.precision, weeks),
        agreement={one.queue: alpha_trend(one.weeks, weeks) for one in seen.agreement},
        signed=signed,
        drift=_drawn(seen.drift),
        in_trouble=[one for one in seen.devices if one.troubles],
    )


def _by_model(precision: Sequence[Precision], weeks: Sequence[str]) -> Mapping[str, Sequence[Point]]:
    shares: defaultdict[str, dict[str, Share]] = defaultdict(dict)
    for one in precision:
        shares[one.model][one.week] = one.share
    return {model: share_trend(of_model, weeks) for model, of_model in shares.items()}


def _drawn(histograms: Sequence[Histogram]) -> Mapping[str, Sequence[DrawnHistogram]]:
    by_model: defaultdict[str, list[Histogram]] = defaultdict(list)
    for one in histograms:
        by_model[one.model].append(one)
    drawn = {}
    for model, weeks in by_model.items():
        tops = [max(counts) / sum(counts) for one in weeks for counts in (one.counts, one.before) if sum(counts)]
        drawn[model] = [DrawnHistogram(one, bars(one.counts, max(tops) * one.count), _bars_before(one, max(tops))) for one in weeks]
    return drawn


def _bars_before(one: Histogram, top: float) -> Sequence[Bar]:
    return bars(one.before, top * sum(one.before)) if any(one.before) else ()
