"""What supervisors look at: how much waits, what ran out, how right the models were, how far reviewers agree, how devices fare."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from earmark_model.contract import Reason
from earmark_review.agreement import Agreement, Look, QueueAgreement, Share, agreement_by_sound, agreement_in, week_of
from earmark_review.cases import CLAIMABLE, CaseState, Queue, Verdict
from earmark_review.misses import Misses
from earmark_review.store.drift import Histogram, drift, model_of
from earmark_review.store.fleet import Standing, fleet
from earmark_review.store.golden import golden_hits
from earmark_review.store.missed import missed
from earmark_review.store.schema import cases, events, golden_cases, verdicts

WEEKS = 8
AGES_H = (1, 6, 24, 48)
"""Bounds between the ages of waiting cases, in hours; what waits longer than the last is the last group."""
_TOLD = frozenset({Verdict.DISTRESS, Verdict.PLAY, Verdict.MEDIA, Verdict.OTHER_SOUND})


@dataclass(frozen=True, slots=True)
class Depth:
    """Cases that wait in a queue, and since when the oldest does; `ages` counts them by `AGES_H`, the youngest first."""

    queue: Queue
    count: int
    oldest: datetime | None
    ages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Precision:
    """How much of what a model flagged in a week was distress, of what could be told."""

    model: str
    week: str
    share: Share


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the page."""

    depths: Sequence[Depth]
    expired: Share
    """Cases of the last weeks that nobody decided in time, of all that closed."""
    expired_by_week: Mapping[str, Share]
    precision: Sequence[Precision]
    agreement: Sequence[QueueAgreement]
    by_sound: Mapping[str, Agreement]
    golden: Share
    drift: Sequence[Histogram]
    devices: Sequence[Standing]
    misses: Misses


def overview(conn: Connection, now: datetime) -> Overview:
    """The figures as of `now`, over the last `WEEKS` weeks."""
    since = now - timedelta(weeks=WEEKS)
    looks = _looks(conn, since)
    expired = _expired(conn, since)
    return Overview(
        depths=_depths(conn, now),
        expired=Share(sum(share.hits for share in expired.values()), sum(share.count for share in expired.values())),
        expired_by_week=expired,
        precision=_precision(conn, since),
        agreement=[agreement_in(queue, looks, since) for queue in Queue],
        by_sound=agreement_by_sound(looks, since),
        golden=Share(*golden_hits(conn)),
        drift=drift(conn, since),
        devices=fleet(conn, now),
        misses=missed(conn, since),
    )


def _depths(conn: Connection, now: datetime) -> Sequence[Depth]:
    waits = cases.c.state.in_([str(state) for state in CLAIMABLE]) & ~cases.c.case_id.in_(select(golden_cases.c.case_id))
    opened: defaultdict[str, list[datetime]] = defaultdict(list)
    for row in conn.execute(select(cases.c.queue, cases.c.opened_at).where(waits)):
        opened[row.queue].append(row.opened_at)
    return [Depth(queue, len(opened[queue]), min(opened[queue], default=None), _ages(opened[queue], now)) for queue in Queue]


def _ages(opened: Sequence[datetime], now: datetime) -> tuple[int, ...]:
    groups = [bisect_right(AGES_H, (now - at).total_seconds() / 3600) for at in opened]
    return tuple(groups.count(group) for group in range(len(AGES_H) + 1))


def _expired(conn: Connection, since: datetime) -> Mapping[str, Share]:
    """By the week in which a case closed: those without an outcome, of all but those that a household withdrew."""
    closed: defaultdict[str, list[bool]] = defaultdict(list)
    due = (cases.c.closed_at > since, cases.c.state != str(CaseState.WITHDRAWN))
    for row in conn.execute(select(cases.c.closed_at, cases.c.outcome).where(*due)):
        closed[week_of(row.closed_at)].append(row.outcome is None)
    return {week: Share(sum(missed), len(missed)) for week, missed in sorted(closed.items())}


def _precision(conn: Connection, since: datetime) -> Sequence[Precision]:
    told: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    query = select(events.c.payload, cases.c.outcome, cases.c.closed_at).join(events, events.c.event_row == cases.c.event_row)
    is_flagged = events.c.reason != str(Reason.BELOW_THRESHOLD)  # the rest was drawn to count misses
    for row in conn.execute(query.where(cases.c.closed_at > since, cases.c.outcome.in_([str(one) for one in _TOLD]), is_flagged)):
        told[model_of(row.payload), week_of(row.closed_at)].append(row.outcome == str(Verdict.DISTRESS))
    return [Precision(model, week, Share(sum(hits), len(hits))) for (model, week), hits in sorted(told.items())]


def _looks(conn: Connection, since: datetime) -> Sequence[Look]:
    """Every look at the cases that were looked at since then, the oldest first: golden ones come back after months."""
    recent = select(verdicts.c.case_id).where(verdicts.c.decided_at > since)
    query = (
        select(verdicts.c.case_id, events.c.label, verdicts.c.queue, verdicts.c.verdict, verdicts.c.decided_at)
        .join(cases, cases.c.case_id == verdicts.c.case_id)
        .join(events, events.c.event_row == cases.c.event_row)
        .where(verdicts.c.case_id.in_(recent))
        .order_by(verdicts.c.decided_at, verdicts.c.verdict_id)
    )
    return [Look(row.case_id, row.label, Queue(row.queue), Verdict(row.verdict), row.decided_at) for row in conn.execute(query)]
