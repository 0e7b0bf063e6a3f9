"""Records verdicts: the verdict, the case's moves, what must be shredded and the audit entry stand or fall together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, insert, select, update

from earmark_edge.consent import Consent
from earmark_edge.event import Event
from earmark_review import audit
from earmark_review.accounts import SignedIn
from earmark_review.cases import Lease, Move, Queue, Settlement, Verdict, settlement
from earmark_review.store import leases
from earmark_review.store.moves import move_case
from earmark_review.store.schema import cases, consents, events, golden_cases, users, verdicts

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reviewer says: the verdict, a note, and the span in seconds on the stream's clock where it was corrected."""

    verdict: Verdict
    note: str = ""
    span_s: Span | None = None


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """A verdict as it was given."""

    verdict: Verdict
    note: str
    reviewer: str
    decided_at: datetime
    queue: Queue
    span_s: Span | None


def decide(conn: Connection, lease: Lease, holder: SignedIn, answer: Answer, now: datetime, *, second_is_drawn: bool = False) -> None:
    """Record an answer under a live lease, and whatever follows from it.

    Raises:
        AuditUnavailableError: the log did not take the verdict, so there is none.
    """
    case = _case(conn, lease.case_id)
    onset_s, offset_s = answer.span_s or (None, None)
    values = {"user_id": holder.user_id, "lease_id": lease.lease_id, "verdict": str(answer.verdict), "note": answer.note, "decided_at": now}
    row = {"case_id": lease.case_id, "queue": str(case.queue), "onset_s": onset_s, "offset_s": offset_s}
    conn.execute(insert(verdicts).values(**row, **values))
    leases.end(conn, lease, leases.Ending.DECIDED, now)
    move_case(conn, lease.case_id, Move.DECIDE, now)
    # The note may have to be deleted one day and the log never is, so the log holds the note's hash.
    note_sha256 = hashlib.sha256(answer.note.encode()).hexdigest() if answer.note else None
    detail = {"verdict": str(answer.verdict), "note_sha256": note_sha256, "span_s": list(answer.span_s) if answer.span_s else None}
    audit.append(conn, now, holder.actor, audit.Action.CASE_DECIDED, f"case:{lease.case_id}", detail)
    if case.is_golden:
        _repeat(conn, lease.case_id, now)
        return
    given = [recorded.verdict for recorded in verdicts_on(conn, lease.case_id)]
    settled = settlement(case.label, case.queue, given, second_is_due=second_is_drawn)
    _follow(conn, lease.case_id, settled, now, is_kept=trains(conn, case.device_id, case.consent_id, now))


@dataclass(frozen=True, slots=True)
class _Case:
    label: str
    queue: Queue
    device_id: int
    consent_id: str
    is_golden: bool


def _case(conn: Connection, case_id: str) -> _Case:
    is_golden = exists().where(golden_cases.c.case_id == cases.c.case_id)
    query = select(events.c.label, cases.c.queue, events.c.device_id, events.c.payload, is_golden).join(
        events, events.c.event_row == cases.c.event_row
    )
    row = conn.execute(query.where(cases.c.case_id == case_id)).one()
    return _Case(row[0], Queue(row[1]), row[2], Event.from_bytes(row[3]).consent_id, bool(row[4]))


def _repeat(conn: Connection, case_id: str, now: datetime) -> None:
    """A golden case waits for whoever has not judged it yet, as fresh as any other."""
    move_case(conn, case_id, Move.REPEAT, now)
    make_fresh(conn, case_id, now)


def make_fresh(conn: Connection, case_id: str, now: datetime) -> None:
    """Let a golden case look as if it had come at `now`."""
    received = select(events.c.received_at).join(cases, cases.c.event_row == events.c.event_row).where(cases.c.case_id == case_id)
    shift_s = (now - conn.execute(received).scalar_one()).total_seconds()
    conn.execute(update(golden_cases).where(golden_cases.c.case_id == case_id).values(shift_s=shift_s))
    conn.execute(update(cases).where(cases.c.case_id == case_id).values(opened_at=now, outcome=None, shred_at=None))


def _follow(conn: Connection, case_id: str, settled: Settlement, now: datetime, *, is_kept: bool) -> None:
    move_case(conn, case_id, settled.move, now)
    if settled.outcome is None:
        return
    if settled.move is Move.ESCALATE:
        audit.append(conn, now, audit.SERVICE, audit.Action.CASE_ESCALATED, f"case:{case_id}")
        conn.execute(update(cases).where(cases.c.case_id == case_id).values(outcome=str(settled.outcome)))
        return  # whoever acts on it may need it: it goes with the undecided ones
    shred_at = None if is_kept else now
    conn.execute(update(cases).where(cases.c.case_id == case_id).values(outcome=str(settled.outcome), shred_at=shred_at))


def trains(conn: Connection, device_id: int, consent_id: str, now: datetime) -> bool:
    """Whether the household lets its clips be kept to train with, by the record of consent that its device sent last."""
    payload = consent_record(conn, device_id, consent_id)
    if payload is None:
        return False
    consent = Consent.from_bytes(payload)
    return consent.may_train and not consent.withdrawn_at and now < datetime.fromisoformat(consent.expires_at)


def consent_record(conn: Connection, device_id: int, consent_id: str) -> bytes | None:
    """A record of consent as its device sent it last; None where it sent none."""
    mine = (consents.c.device_id == device_id, consents.c.consent_id == consent_id)
    return conn.execute(select(consents.c.payload).where(*mine)).scalar()


def verdicts_on(conn: Connection, case_id: str) -> Sequence[RecordedVerdict]:
    """What was said about a case, oldest first."""
    columns = (*(verdicts.c[name] for name in ("verdict", "note", "decided_at", "queue", "onset_s", "offset_s")), users.c.name)
    query = select(*columns).join(users, users.c.user_id == verdicts.c.user_id).where(verdicts.c.case_id == case_id)
    return [
        RecordedVerdict(
            Verdict(row.verdict),
            row.note,
            row.name,
            row.decided_at,
            Queue(row.queue),
            None if row.onset_s is None else (row.onset_s, row.offset_s),
        )
        for row in conn.execute(query.order_by(verdicts.c.decided_at, verdicts.c.verdict_id))
    ]
