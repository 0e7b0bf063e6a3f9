"""How long someone may look and listen: a daily budget and breaks, worked out from the times of their claims; no clock, no database.

Exposure is time with a case open, from its claim to the claim's end. The day is the UTC day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Limits:
    """`day_s` of exposure a day; after `run_s` of it without a rest of `break_s`, a rest is due."""

    day_s: float
    run_s: float
    break_s: float

    def lowered(self, day_s: float | None, run_s: float | None) -> Limits:
        """With a reviewer's own limits, which only ever narrow."""
        return Limits(min(self.day_s, day_s or self.day_s), min(self.run_s, run_s or self.run_s), self.break_s)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What someone has had today, and what is left."""

    today_s: float
    run_s: float
    """Exposure since the last rest that was long enough."""
    left_s: float
    """Exposure left before a break or the day's end; 0 when none is."""
    rest_until: datetime | None
    """When work may go on; None where it may now."""
    is_day_over: bool


def exposure(claims: Sequence[Interval], limits: Limits, now: datetime) -> Exposure:
    """The exposure that `claims` (begin and end of each, in any order, overlaps counted once) amount to."""
    merged = _merged([(begin, min(end, now)) for begin, end in claims if begin < now])
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today_s = sum(max(0.0, (end - max(begin, midnight)).total_seconds()) for begin, end in merged)
    run_s = _run(merged, limits.break_s, now)
    is_day_over = today_s >= limits.day_s
    rest_until = None
    if is_day_over:
        rest_until = midnight + timedelta(days=1)
    elif run_s >= limits.run_s:
        rest_until = merged[-1][1] + timedelta(seconds=limits.break_s)
    left_s = 0.0 if rest_until else min(limits.day_s - today_s, limits.run_s - run_s)
    return Exposure(today_s, run_s, left_s, rest_until, is_day_over)


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > begin:
            merged.append((begin, end))
    return merged


def _run(merged: Sequence[Interval], break_s: float, now: datetime) -> float:
    """Seconds of exposure, going back from `now`, up to the first rest of `break_s`."""
    run_s, later = 0.0, now
    for begin, end in reversed(merged):
        if (later - end).total_seconds() >= break_s:
            break
        run_s += (end - begin).total_seconds()
        later = begin
    return run_s
