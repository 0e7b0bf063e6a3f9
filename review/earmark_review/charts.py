"""Points of the supervisors' charts, in per cent of their plots; templates draw them. No clock, no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from earmark_review.agreement import Agreement, Share, week_of


@dataclass(frozen=True, slots=True)
class Point:
    """A week's place in the plot, from the left in per cent, and its value in [0, 1] of the plot's height with its interval.

    `number` stands beside it.
    """

    left: float
    week: str
    value: float
    low: float
    high: float
    words: str
    number: str = ""


@dataclass(frozen=True, slots=True)
class ShareByDay:
    """A share's way over days: `known` are full bars for the days that anything is known of, `hits` the share of each in front of them."""

    days: Sequence[str]
    known: Sequence[Bar]
    hits: Sequence[Bar]
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar; places from the left and heights in per cent."""

    left: float
    width: float
    height: float


def weeks_until(now: datetime, count: int) -> Sequence[str]:
    """The last `count` ISO weeks, the current one last."""
    return [week_of(now - timedelta(weeks=back)) for back in reversed(range(count))]


def share_trend(shares: Mapping[str, Share], weeks: Sequence[str]) -> Sequence[Point]:
    """A share's way over weeks; weeks without cases have no point."""
    return [
        Point(
            _middle(i, weeks),
            week,
            share.value,
            *share.interval,
            f"{week}: {100 * share.value:.0f} % ({share.hits} of {share.count})",
        )
        for i, week in enumerate(weeks)
        if (share := shares.get(week)) is not None and share.count
    ]


def alpha_trend(agreed: Mapping[str, Agreement], weeks: Sequence[str]) -> Sequence[Point]:
    """Alpha's way over weeks, from -1 at the bottom to 1 at the top; weeks of which it says nothing have no point."""
    drawn = []
    for i, week in enumerate(weeks):
        one = agreed.get(week)
        if one is not None and one.alpha is not None:
            at, number = (1 + one.alpha) / 2, signed(one.alpha)
            drawn.append(
                Point(_middle(i, weeks), week, at, at, at, f"{week}: {number} ({one.count} case{'' if one.count == 1 else 's'})", number)
            )
    return drawn


def signed(number: float) -> str:
    """Two decimals; below nought with a minus sign, which is as wide as a figure."""
    return f"{number:.2f}".replace("-", "\N{MINUS SIGN}").replace("\N{MINUS SIGN}0.00", "0.00")


def share_by_day(shares: Mapping[str, Share], days: Sequence[str]) -> ShareByDay:
    """Bars for a share that is 0 on most days; one that is not is always high enough to be seen, and stands in words."""
    known = [shares.get(day, Share(0, 0)) for day in days]
    hits = [max(share.value, _SEEN) if share.hits else 0.0 for share in known]
    told = [f"{day}: {share.hits} of {share.count}" for day, share in zip(days, known, strict=True) if share.hits]
    words = f"{'; '.join(told) or 'none'}; nothing is known of {sum(not share.count for share in known)} days"
    return ShareByDay(days, bars([bool(share.count) for share in known], 1), bars(hits, 1), words)


_SEEN = 0.05


def bars(counts: Sequence[float], whole: float) -> Sequence[Bar]:
    """Side by side across the plot, `whole` reaching its top."""
    width = 100 / len(counts)
    return [Bar(i * width, width, 100 * count / whole if whole else 0.0) for i, count in enumerate(counts)]


def _middle(i: int, weeks: Sequence[str]) -> float:
    return 100 * (i + 0.5) / len(weeks)
