"""Reads cases for the screens: the queue, those that are closed, and one case with its event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, or_, select

from earmark_edge.event import Event
from earmark_model.contract import Reason
from earmark_review.accounts import SignedIn
from earmark_review.blobs import HeldBlob
from earmark_review.cases import CaseState, Queue, Severity, Verdict, state_at
from earmark_review.errors import UnknownCaseError
from earmark_review.store.intake import DeclaredObject
from earmark_review.store.leases import judged_by
from earmark_review.store.schema import cases, devices, events, golden_cases, leases, objects, users, verdicts


@dataclass(frozen=True, slots=True)
class CaseLine:
    """A case as one line of a list. `holder` is who holds it now; `outcome` and `decided_by` are set once it is closed.

    `state` hides which look is due: a case in its second review is as ready as any other.
    """

    case_id: str
    state: CaseState
    severity: Severity
    label: str
    peak_score: float
    reason: Reason
    length_s: float
    opened_at: datetime
    closed_at: datetime | None
    device: str
    holder: str | None
    queue: Queue = Queue.FIRST
    outcome: Verdict | None = None
    decided_by: str | None = None
    shift_s: float = 0.0
    """How far a golden case's times are moved."""

    @property
    def short_id(self) -> str:
        """How people name the case to one another."""
        return self.case_id[:8]


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Everything known about a case but the bytes of its clips."""

    line: CaseLine
    event: Event
    event_id: str
    received_at: datetime
    objects: Sequence[DeclaredObject]

    def object_at(self, tier: int) -> DeclaredObject | None:
        """What is held or expected at a tier."""
        return next((declared for declared in self.objects if declared.tier == tier), None)


@dataclass(frozen=True, slots=True)
class Page:
    """Some lines of a list, and how many the list has."""

    lines: Sequence[CaseLine]
    total: int


_HOLDER = users.alias("holder")
_DECIDER = (
    select(users.c.name)
    .join(verdicts, verdicts.c.user_id == users.c.user_id)
    .where(verdicts.c.case_id == cases.c.case_id)
    .order_by(verdicts.c.decided_at.desc(), verdicts.c.verdict_id.desc())
    .limit(1)
    .scalar_subquery()
)


def _lines() -> Select[Any]:
    held = and_(leases.c.case_id == cases.c.case_id, leases.c.ended_at.is_(None))
    columns = (
        *(cases.c[name] for name in ("case_id", "state", "queue", "outcome", "severity", "opened_at", "closed_at", "event_row")),
        *(events.c[name] for name in ("label", "peak_score", "reason", "length_s")),
        devices.c.name.label("device"),
        leases.c.expires_at,
        _HOLDER.c.name.label("holder"),
        golden_cases.c.shift_s,
        _DECIDER.label("decided_by"),
    )
    return (
        select(*columns)
        .join(events, events.c.event_row == cases.c.event_row)
        .join(devices, devices.c.device_id == events.c.device_id)
        .outerjoin(leases, held)
        .outerjoin(_HOLDER, _HOLDER.c.user_id == leases.c.user_id)
        .outerjoin(golden_cases, golden_cases.c.case_id == cases.c.case_id)
    )


def _line(row: Row[Any], now: datetime) -> CaseLine:
    queue = Queue(row.queue)
    stored = state_at(CaseState(row.state), queue, row.expires_at, now)
    state = CaseState.READY if stored is CaseState.SECOND_REVIEW else stored
    return CaseLine(
        case_id=row.case_id,
        state=state,
        severity=Severity(row.severity),
        label=row.label,
        peak_score=row.peak_score,
        reason=Reason(row.reason),
        length_s=row.length_s,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        device=row.device,
        holder=row.holder if state is CaseState.LEASED else None,
        queue=queue,
        outcome=Verdict(row.outcome) if row.outcome else None,
        decided_by=row.decided_by if row.closed_at else None,
        shift_s=row.shift_s or 0.0,
    )


def queue(conn: Connection, who: SignedIn, now: datetime, limit: int, offset: int = 0) -> Page:
    """Open cases that are `who`'s business: by severity, then age, oldest first.

    Whoever works the queues does not see what is not theirs to judge: disputes without the role for them, and what they judged already.
    A golden case that waits stands in no list: one that is passed over again and again there would give itself away.
    """
    is_golden = cases.c.case_id.in_(select(golden_cases.c.case_id))
    is_open: ColumnElement[bool] = and_(cases.c.closed_at.is_(None), or_(~is_golden, cases.c.state == str(CaseState.LEASED)))
    if who.queues:
        is_open = and_(is_open, cases.c.queue.in_([str(queue) for queue in who.queues]), ~judged_by(who.user_id))
    ordered = _lines().where(is_open).order_by(cases.c.severity, cases.c.opened_at, cases.c.case_id)
    total = conn.execute(select(func.count()).select_from(cases).where(is_open)).scalar_one()
    return Page([_line(row, now) for row in conn.execute(ordered.limit(limit).offset(offset))], total)


def closed(conn: Connection, now: datetime, limit: int, offset: int = 0) -> Page:
    """Cases with a verdict, the latest first."""
    is_closed = cases.c.closed_at.is_not(None)
    ordered = _lines().where(is_closed).order_by(cases.c.closed_at.desc(), cases.c.case_id)
    total = conn.execute(select(func.count()).select_from(cases).where(is_closed)).scalar_one()
    return Page([_line(row, now) for row in conn.execute(ordered.limit(limit).offset(offset))], total)


def case_file(conn: Connection, case_id: str, now: datetime) -> CaseFile:
    """One case.

    Raises:
        UnknownCaseError: there is no such case.
    """
    row = conn.execute(_lines().where(cases.c.case_id == case_id)).first()
    if row is None:
        msg = f"there is no case {case_id[:8]}; the queue lists those that there are"
        raise UnknownCaseError(msg)
    stored = conn.execute(select(events).where(events.c.event_row == row.event_row)).one()
    listed = conn.execute(select(objects).where(objects.c.event_row == row.event_row).order_by(objects.c.tier)).all()
    declared = [
        DeclaredObject(obj.object_id, obj.event_row, stored.event_id, obj.tier, obj.media_type, obj.length, obj.sha256, obj.blob_key)
        for obj in listed
    ]
    return CaseFile(_line(row, now), Event.from_bytes(stored.payload), stored.event_id, stored.received_at, declared)


def runs_unverified(conn: Connection) -> bool:
    """Whether decisions are made without a guarantee: an open case was, or what some live device sent last."""
    unverified = str(Reason.ROUTED_UNVERIFIED)
    of_device = select(events.c.reason).where(events.c.device_id == devices.c.device_id)
    latest = of_device.order_by(events.c.event_row.desc()).limit(1).scalar_subquery()
    some_device = exists().where(devices.c.revoked_at.is_(None), latest == unverified)
    some_case = exists().where(
        cases.c.closed_at.is_(None), exists().where(events.c.event_row == cases.c.event_row, events.c.reason == unverified)
    )
    return any(conn.execute(select(some)).scalar_one() for some in (some_device, some_case))  # the cheaper question first


def held_blobs(conn: Connection) -> list[HeldBlob]:
    """Every object that some event still names."""
    query = select(objects.c.blob_key, objects.c.length, objects.c.sha256).where(objects.c.blob_key.is_not(None))
    return [HeldBlob(*row) for row in conn.execute(query.order_by(objects.c.blob_key))]
