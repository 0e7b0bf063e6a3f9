"""Golden cases: their answer is known, they are mixed in unmarked, and they show how sure the reviewers' eyes and ears are."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, insert, select

from earmark_review import audit
from earmark_review.accounts import SignedIn
from earmark_review.cases import Move, Verdict
from earmark_review.errors import BlobMissingError
from earmark_review.store.decisions import make_fresh
from earmark_review.store.leases import next_case
from earmark_review.store.moves import move_case
from earmark_review.store.retention import blob_keys_of
from earmark_review.store.schema import cases, golden_cases, verdicts


def add_golden(conn: Connection, case_id: str, expected: Verdict, now: datetime) -> None:
    """Make a settled case golden. It goes once to everyone who has not judged it.

    Raises:
        UnknownCaseError: there is no such case.
        IllegalMoveError: it is not settled, or shredded.
        BlobMissingError: its clip was not kept, since its household did not consent to that.
    """
    if not blob_keys_of(conn, case_id):
        msg = f"nothing of case {case_id[:8]} is kept; only a case whose household consents to training can be golden"
        raise BlobMissingError(msg)
    move_case(conn, case_id, Move.ARM, now)
    conn.execute(insert(golden_cases).values(case_id=case_id, expected=str(expected), shift_s=0.0, armed_at=now))
    make_fresh(conn, case_id, now)
    audit.append(conn, now, audit.OPERATOR, audit.Action.GOLDEN_ADDED, f"case:{case_id}", {"expected": str(expected)})


def golden_before(conn: Connection, first: str, holder: SignedIn, now: datetime) -> str | None:
    """A golden case that can come before `first`, whose turn it is for `holder`; None where none would look as if it belonged there.

    It is as severe at least, and looks as if it had come just before `first`, or, where it is more severe, just now.
    """
    found = next_case(conn, holder, now, golden=True)
    columns = select(cases.c.severity, cases.c.opened_at)
    severity, opened_at = conn.execute(columns.where(cases.c.case_id == first)).one()
    if found is None or (own := conn.execute(columns.where(cases.c.case_id == found)).one().severity) > severity:
        return None
    make_fresh(conn, found, opened_at - _JUST_BEFORE if own == severity else now)
    return found


_JUST_BEFORE = timedelta(seconds=1)


def golden_hits(conn: Connection) -> tuple[int, int]:
    """How many verdicts on golden cases were the expected one, and how many there were."""
    mine = verdicts.c.decided_at > golden_cases.c.armed_at
    query = select(func.count()).select_from(verdicts).join(golden_cases, golden_cases.c.case_id == verdicts.c.case_id).where(mine)
    hits = conn.execute(query.where(verdicts.c.verdict == golden_cases.c.expected)).scalar_one()
    return hits, conn.execute(query).scalar_one()
