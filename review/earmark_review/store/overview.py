"""What supervisors look at: how much waits, what ran out, how right the models were, how far reviewers agree, how devices fare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from earmark_edge.event import Event
from earmark_edge.messages import Heartbeat
from earmark_model.contract import Reason
from earmark_review.agreement import Share, alpha
from earmark_review.cases import CLAIMABLE, Queue, Verdict
from earmark_review.misses import Misses
from earmark_review.store.golden import golden_hits
from earmark_review.store.missed import missed
from earmark_review.store.schema import cases, devices, events, golden_cases, heartbeats, verdicts

WEEKS = 8
_TOLD = frozenset({Verdict.DISTRESS, Verdict.PLAY, Verdict.MEDIA, Verdict.OTHER_SOUND})


@dataclass(frozen=True, slots=True)
class Depth:
    """Cases that wait in a queue, and since when the oldest does."""

    queue: Queue
    count: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Precision:
    """How much of what a model flagged in a week was distress, of what could be told."""

    model: str
    week: str
    share: Share


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha over the cases of a kind of sound, or of a week, that two people looked at."""

    name: str
    cases: int
    alpha: float | None


@dataclass(frozen=True, slots=True)
class Health:
    """How a device fares."""

    name: str
    last_seen_at: datetime | None
    canary: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the page."""

    depths: Sequence[Depth]
    expired: Share
    """Cases of the last weeks that nobody decided in time, of all that closed."""
    precision: Sequence[Precision]
    by_sound: Sequence[Agreement]
    by_week: Sequence[Agreement]
    golden: Share
    devices: Sequence[Health]
    misses: Misses


def overview(conn: Connection, now: datetime) -> Overview:
    """The figures as of `now`, over the last `WEEKS` weeks."""
    since = now - timedelta(weeks=WEEKS)
    by_sound, by_week = _agreement(conn, since)
    return Overview(
        _depths(conn),
        _expired(conn, since),
        _precision(conn, since),
        by_sound,
        by_week,
        Share(*golden_hits(conn)),
        _health(conn),
        missed(conn, since),
    )


def _depths(conn: Connection) -> Sequence[Depth]:
    waits = cases.c.state.in_([str(state) for state in CLAIMABLE]) & ~cases.c.case_id.in_(select(golden_cases.c.case_id))
    query = select(cases.c.queue, func.count(), func.min(cases.c.opened_at)).where(waits).group_by(cases.c.queue)
    found = {row[0]: Depth(Queue(row[0]), row[1], row[2]) for row in conn.execute(query)}
    return [found.get(str(queue), Depth(queue, 0, None)) for queue in Queue]


def _expired(conn: Connection, since: datetime) -> Share:
    closed = conn.execute(select(func.count(), func.count(cases.c.outcome)).where(cases.c.closed_at > since)).one()
    return Share(closed[0] - closed[1], closed[0])


def _precision(conn: Connection, since: datetime) -> Sequence[Precision]:
    told: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    query = select(events.c.payload, cases.c.outcome, cases.c.closed_at).join(events, events.c.event_row == cases.c.event_row)
    is_flagged = events.c.reason != str(Reason.BELOW_THRESHOLD)  # the rest was drawn to count misses
    for row in conn.execute(query.where(cases.c.closed_at > since, cases.c.outcome.in_([str(one) for one in _TOLD]), is_flagged)):
        told[Event.from_bytes(row.payload).model_sha256, _week(row.closed_at)].append(row.outcome == str(Verdict.DISTRESS))
    return [Precision(model, week, Share(sum(hits), len(hits))) for (model, week), hits in sorted(told.items())]


def _agreement(conn: Connection, since: datetime) -> tuple[Sequence[Agreement], Sequence[Agreement]]:
    is_golden = cases.c.case_id.in_(select(golden_cases.c.case_id))
    query = (
        select(verdicts.c.case_id, verdicts.c.verdict, verdicts.c.decided_at, events.c.label)
        .join(cases, cases.c.case_id == verdicts.c.case_id)
        .join(events, events.c.event_row == cases.c.event_row)
        .where(verdicts.c.queue.in_([str(Queue.FIRST), str(Queue.SECOND)]), verdicts.c.decided_at > since, ~is_golden)
        .order_by(verdicts.c.decided_at)
    )
    looks: defaultdict[str, list[Verdict]] = defaultdict(list)
    sound, week = {}, {}
    for row in conn.execute(query):
        looks[row.case_id].append(Verdict(row.verdict))
        sound[row.case_id], week[row.case_id] = row.label, _week(row.decided_at)
    twice = {case_id: given for case_id, given in looks.items() if len(given) > 1}
    return _grouped(twice, sound), _grouped(twice, week)


def _grouped(twice: dict[str, list[Verdict]], names: dict[str, str]) -> Sequence[Agreement]:
    groups: defaultdict[str, list[list[Verdict]]] = defaultdict(list)
    for case_id, given in twice.items():
        groups[names[case_id]].append(given)
    return [Agreement(name, len(given), alpha(given)) for name, given in sorted(groups.items())]


def _health(conn: Connection) -> Sequence[Health]:
    query = select(devices.c.name, devices.c.last_seen_at, heartbeats.c.payload).outerjoin(
        heartbeats, heartbeats.c.device_id == devices.c.device_id
    )
    live = query.where(devices.c.revoked_at.is_(None)).order_by(devices.c.name)
    return [
        Health(row.name, row.last_seen_at, Heartbeat.from_bytes(row.payload).canary if row.payload else "unknown")
        for row in conn.execute(live)
    ]


def _week(at: datetime) -> str:
    year, week, _ = at.isocalendar()
    return f"{year}-W{week:02}"


def shares(seen: Overview) -> str:
    """What the page shows beyond counts, for Prometheus: shares and agreement, without the name of any household, device or person."""
    lines = []
    for name, value in {"expired_share": seen.expired.value, "golden_hits_share": seen.golden.value}.items():
        lines += [f"# TYPE earmark_review_{name} gauge", f"earmark_review_{name} {value:g}"]
    if seen.misses.rate is not None and seen.misses.rate_interval is not None:
        lines.append("# TYPE earmark_review_miss_rate gauge")
        bounds = (("estimate", seen.misses.rate), *zip(("low", "high"), seen.misses.rate_interval, strict=True))
        lines += [f'earmark_review_miss_rate{{bound="{bound}"}} {value:.4f}' for bound, value in bounds]
    lines.append("# TYPE earmark_review_agreement_alpha gauge")
    lines += [f'earmark_review_agreement_alpha{{sound="{one.name}"}} {one.alpha:.4f}' for one in seen.by_sound if one.alpha is not None]
    return "\n".join(lines) + "\n"
