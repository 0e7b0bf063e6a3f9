"""What has to go, and when: undecided cases expire or are withdrawn, decided ones are shredded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select, update

from earmark_edge.event import Event
from earmark_review import audit
from earmark_review.cases import CLOSED_STATES, OPEN_STATES, CaseState, Move
from earmark_review.store import leases
from earmark_review.store.consents import withdrawn
from earmark_review.store.decisions import trains
from earmark_review.store.moves import move_case
from earmark_review.store.schema import cases, devices, events, golden_cases, objects

_STILL_HELD = tuple(state for state in CLOSED_STATES if state is not CaseState.SHREDDED)


def expire_undecided(conn: Connection, opened_before: datetime, now: datetime) -> None:
    """Close what nobody decided in time, escalated cases with it; a case that someone holds at this moment waits for the next run."""
    leases.end_expired(conn, now)
    open_states = [str(state) for state in OPEN_STATES if state is not CaseState.LEASED]
    is_golden = cases.c.case_id.in_(select(golden_cases.c.case_id))
    lapsed = select(cases.c.case_id).where(cases.c.state.in_(open_states), cases.c.opened_at <= opened_before, ~is_golden)
    # One that is locked is being claimed at this moment, or another worker is at it.
    for case_id in conn.scalars(lapsed.with_for_update(of=cases, key_share=True, skip_locked=True)).all():
        move_case(conn, case_id, Move.LAPSE, now)
        conn.execute(update(cases).where(cases.c.case_id == case_id).values(shred_at=now))
        audit.append(conn, now, audit.SERVICE, audit.Action.CASE_EXPIRED, f"case:{case_id}")
    waiting = (cases.c.state == str(CaseState.ESCALATED), cases.c.shred_at.is_(None), cases.c.opened_at <= opened_before)
    conn.execute(update(cases).where(*waiting).values(shred_at=now))


def end_withdrawn(conn: Connection, now: datetime) -> None:
    """Close what is undecided and came under a record of consent that was withdrawn since; whoever holds such a case loses it.

    One that someone is at in this very moment waits for the next run. What is decided or escalated goes as it would have.
    """
    gone = withdrawn(conn)
    theirs = {device_id for device_id, _ in gone}
    is_open = cases.c.closed_at.is_(None)
    query = select(cases.c.case_id, events.c.device_id).join(events, events.c.event_row == cases.c.event_row).where(is_open)
    for case_id in [row.case_id for row in conn.execute(query) if row.device_id in theirs] if gone else ():
        columns = (cases.c.state, events.c.device_id, events.c.payload)
        found = select(*columns).join(events, events.c.event_row == cases.c.event_row).where(cases.c.case_id == case_id, is_open)
        row = conn.execute(found.with_for_update(of=cases, key_share=True, skip_locked=True)).first()
        if row is not None and (row.device_id, Event.from_bytes(row.payload).consent_id) in gone:
            _withdraw(conn, case_id, CaseState(row.state), now)


def _withdraw(conn: Connection, case_id: str, state: CaseState, now: datetime) -> None:
    holder = leases.take_away(conn, case_id, now) if state is CaseState.LEASED else None
    if state is CaseState.LEASED and holder is None:
        return
    move_case(conn, case_id, Move.WITHDRAW, now)
    conn.execute(update(cases).where(cases.c.case_id == case_id).values(shred_at=now))
    audit.append(conn, now, audit.SERVICE, audit.Action.CASE_WITHDRAWN, f"case:{case_id}", {"holder": holder} if holder else None)


def end_training_keep(conn: Connection, now: datetime) -> None:
    """What was kept to train with is due once its household's consent no longer says so; golden cases end there, too."""
    is_golden = cases.c.case_id.in_(select(golden_cases.c.case_id))
    kept = or_(
        and_(cases.c.state == str(CaseState.FINAL), cases.c.shred_at.is_(None)), and_(cases.c.state == str(CaseState.READY), is_golden)
    )
    query = select(cases.c.case_id, cases.c.state, events.c.device_id, events.c.payload).join(
        events, events.c.event_row == cases.c.event_row
    )
    for row in conn.execute(query.where(kept).with_for_update(of=cases, key_share=True, skip_locked=True)).all():
        if trains(conn, row.device_id, Event.from_bytes(row.payload).consent_id, now):
            continue
        if row.state == str(CaseState.READY):
            move_case(conn, row.case_id, Move.LAPSE, now)
        conn.execute(update(cases).where(cases.c.case_id == row.case_id).values(shred_at=now))


def events_under(conn: Connection, consent_id: str) -> Sequence[tuple[str, str]]:
    """Device and event id of everything that a household sent under a consent."""
    query = select(devices.c.name, events.c.event_id, events.c.payload).join(devices, devices.c.device_id == events.c.device_id)
    return [(row.name, row.event_id) for row in conn.execute(query) if Event.from_bytes(row.payload).consent_id == consent_id]


def due_for_shredding(conn: Connection, now: datetime) -> Sequence[str]:
    """Closed cases whose time is over."""
    still_held = cases.c.state.in_([str(state) for state in _STILL_HELD])
    return conn.scalars(select(cases.c.case_id).where(still_held, cases.c.shred_at <= now).order_by(cases.c.shred_at)).all()


def blob_keys_of(conn: Connection, case_id: str) -> Sequence[str]:
    """What the store still holds of a case."""
    mine = select(objects.c.blob_key).join(cases, cases.c.event_row == objects.c.event_row).where(cases.c.case_id == case_id)
    return [key for key in conn.scalars(mine) if key is not None]


def sender_of(conn: Connection, case_id: str) -> tuple[int, str] | None:
    """The device and the event under which the key store keeps a case's keys; None once the event was deleted."""
    mine = select(events.c.device_id, events.c.event_id).join(cases, cases.c.event_row == events.c.event_row)
    row = conn.execute(mine.where(cases.c.case_id == case_id)).first()
    return (row.device_id, row.event_id) if row else None


def mark_shredded(conn: Connection, case_id: str, now: datetime) -> None:
    """Record that keys and bytes are gone. The verdicts stay, and so does what the receipts say: a device that sends again is told 200."""
    state = conn.execute(select(cases.c.state).where(cases.c.case_id == case_id).with_for_update(key_share=True)).scalar()
    if state is None or state == str(CaseState.SHREDDED):
        return  # the event was deleted meanwhile, or another worker was quicker
    if state == str(CaseState.WITHDRAWN):
        is_done = conn.execute(update(cases).where(cases.c.case_id == case_id, cases.c.shred_at.is_not(None)).values(shred_at=None))
        if not is_done.rowcount:
            return
    else:
        move_case(conn, case_id, Move.SHRED, now)
    audit.append(conn, now, audit.SERVICE, audit.Action.CASE_SHREDDED, f"case:{case_id}")
