"""Records verdicts: the verdict, the case's moves and the audit entry stand or fall together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from earmark_review import audit
from earmark_review.accounts import SignedIn
from earmark_review.cases import Lease, Verdict, moves_for
from earmark_review.store import leases
from earmark_review.store.moves import move_case
from earmark_review.store.schema import users, verdicts


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """A verdict as it was given."""

    verdict: Verdict
    note: str
    reviewer: str
    decided_at: datetime


def decide(conn: Connection, lease: Lease, holder: SignedIn, verdict: Verdict, note: str, now: datetime) -> None:
    """Close a case under a live lease.

    Raises:
        AuditUnavailableError: the log did not take the verdict, so there is none.
    """
    values = {"user_id": holder.user_id, "lease_id": lease.lease_id, "verdict": str(verdict), "note": note, "decided_at": now}
    conn.execute(insert(verdicts).values(case_id=lease.case_id, **values))
    leases.end(conn, lease, leases.Ending.DECIDED, now)
    for move in moves_for(verdict):
        move_case(conn, lease.case_id, move, now)
    # The note may have to be deleted one day and the log never is, so the log holds the note's hash.
    detail = {"verdict": str(verdict), "note_sha256": hashlib.sha256(note.encode()).hexdigest() if note else None}
    audit.append(conn, now, holder.actor, audit.Action.CASE_DECIDED, f"case:{lease.case_id}", detail)


def verdicts_on(conn: Connection, case_id: str) -> list[RecordedVerdict]:
    """What was said about a case, oldest first."""
    columns = (verdicts.c.verdict, verdicts.c.note, users.c.name, verdicts.c.decided_at)
    query = select(*columns).join(users, users.c.user_id == verdicts.c.user_id).where(verdicts.c.case_id == case_id)
    return [RecordedVerdict(Verdict(row[0]), *row[1:]) for row in conn.execute(query.order_by(verdicts.c.decided_at))]
