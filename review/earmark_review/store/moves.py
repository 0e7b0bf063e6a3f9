"""Applies the state machine's moves to a stored case."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from earmark_review.cases import CLOSED_STATES, QUEUE_AFTER, CaseState, Move, Queue, after
from earmark_review.errors import UnknownCaseError
from earmark_review.store.schema import cases

_PLACE = select(cases.c.state, cases.c.queue).where(cases.c.case_id == bindparam("case_id")).with_for_update(key_share=True)
_MOVE = update(cases).where(cases.c.case_id == bindparam("moved_id"), cases.c.state == bindparam("before"))


def place_of(conn: Connection, case_id: str) -> tuple[CaseState, Queue]:
    """The stored state and queue; the row is locked on engines that lock rows.

    Raises:
        UnknownCaseError: there is no such case.
    """
    found = conn.execute(_PLACE, {"case_id": case_id}).first()
    if found is None:
        msg = f"there is no case {case_id!r}; the queue lists those that there are"
        raise UnknownCaseError(msg)
    return CaseState(found.state), Queue(found.queue)


def move_case(conn: Connection, case_id: str, move: Move, now: datetime) -> CaseState:
    """Make a move and return the state that it led to.

    Raises:
        UnknownCaseError: there is no such case.
        IllegalMoveError: the case's state has no such move.
    """
    return move_from(conn, case_id, place_of(conn, case_id), move, now)


def move_from(conn: Connection, case_id: str, place: tuple[CaseState, Queue], move: Move, now: datetime) -> CaseState:
    """Make a move of a case whose place this transaction has looked up, and return the state that it led to.

    Raises:
        IllegalMoveError: the case's state has no such move.
    """
    before, queue = place
    state = after(before, move, queue)
    values: dict[str, object] = {"state": str(state), "queue": str(QUEUE_AFTER.get(move, queue))}
    if before not in CLOSED_STATES or state not in CLOSED_STATES:
        values["closed_at"] = now if state in CLOSED_STATES else None
    moved = conn.execute(_MOVE, {"moved_id": case_id, "before": str(before), **values})
    assert moved.rowcount == 1, "the case changed under a writing transaction"
    return state
