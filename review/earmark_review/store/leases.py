"""Claims on cases: one holder at a time, a fresh random token for each claim, and an end that comes by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import count

from sqlalchemy import ColumnElement, Connection, Exists, ScalarSelect, exists, func, insert, select, update

from earmark_review import audit
from earmark_review.accounts import SignedIn
from earmark_review.cases import CLAIMABLE, CLOSED_STATES, CaseState, Lease, LeaseTerms, Move, Queue
from earmark_review.errors import CaseNotReadyError, LeaseLimitError, StaleLeaseError, UnknownCaseError
from earmark_review.store.exposures import begin_exposure, end_exposure
from earmark_review.store.moves import move_case, place_of
from earmark_review.store.schema import cases, evidence_views, golden_cases, leases, users, verdicts
from earmark_review.tokens import new_token, token_sha256


class Ending(StrEnum):
    """Why a lease is over."""

    DECIDED = "decided"
    SKIPPED = "skipped"
    EXPIRED = "expired"
    RELEASED = "released"
    """The holder signed out, or went on in another window."""
    WITHDRAWN = "withdrawn"
    """The household took its consent back."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gives its holder, once."""

    case_id: str
    token: str
    expires_at: datetime


_LEASE = tuple(leases.c[name] for name in Lease.__slots__)


def claim(conn: Connection, case_id: str, holder: SignedIn, terms: LeaseTerms, limit: int, now: datetime) -> Claim:
    """Give a ready case to `holder`, who may hold `limit` at once.

    Raises:
        UnknownCaseError: there is no such case.
        CaseNotReadyError: someone holds it, the holder has judged it, or it is not at a point where it can be claimed.
        NotAllowedError: the case waits in a queue that the holder does not work on.
        LeaseLimitError: the holder has enough already.
    """
    end_expired(conn, now)
    state, queue = place_of(conn, case_id)
    if state not in CLAIMABLE:
        raise _not_ready(conn, case_id, state)
    holder.require_queue(queue)
    if has_judged(conn, case_id, holder.user_id):
        msg = "you have judged this case already; choose another from the queue"
        raise CaseNotReadyError(msg)
    conn.execute(select(users.c.user_id).where(users.c.user_id == holder.user_id).with_for_update(key_share=True))  # counted one at a time
    # Another worker may be ending one of these that ran out at this very moment; it no longer counts.
    live = (leases.c.user_id == holder.user_id, leases.c.ended_at.is_(None), leases.c.expires_at > now)
    held = conn.scalars(select(leases.c.case_id).where(*live)).all()
    if len(held) >= limit:
        msg = f"you hold {len(held)} of at most {limit} cases; decide or skip case {held[0][:8]} first"
        raise LeaseLimitError(msg, held[0])
    token, expires_at = new_token(), terms.expiry(now, now)
    values = {"user_id": holder.user_id, "session_id": holder.session_id, "claimed_at": now, "expires_at": expires_at}
    made = insert(leases).values(case_id=case_id, token_sha256=token_sha256(token), **values).returning(leases.c.lease_id)
    begin_exposure(conn, holder.user_id, int(conn.execute(made).scalar_one()), now)
    move_case(conn, case_id, Move.CLAIM, now)
    audit.append(conn, now, holder.actor, audit.Action.CASE_CLAIMED, f"case:{case_id}", {"until": expires_at.isoformat()})
    return Claim(case_id, token, expires_at)


def judged_by(user_id: int) -> Exists:
    """Whether the account has given a verdict on the case at hand; then the case is no longer its business while it is open."""
    return exists().where(verdicts.c.case_id == cases.c.case_id, verdicts.c.user_id == user_id)


def has_judged(conn: Connection, case_id: str, user_id: int) -> bool:
    """Whether the account has given a verdict on this case."""
    return (
        conn.execute(select(verdicts.c.verdict_id).where(verdicts.c.case_id == case_id, verdicts.c.user_id == user_id)).first() is not None
    )


def next_case(conn: Connection, holder: SignedIn, now: datetime, *, golden: bool = False) -> str | None:
    """The waiting case that comes first for `holder`: by severity, then age; those that the holder skipped come last.

    With `golden` it is one whose answer is known, and None where there is none that the holder has not judged yet.
    """
    end_expired(conn, now)
    others = [str(queue) for queue in Queue if queue not in holder.queues]
    mine = (cases.c.state.in_([str(state) for state in CLAIMABLE]), cases.c.queue.not_in(others), ~judged_by(holder.user_id))
    skipped = select(leases.c.case_id).where(leases.c.user_id == holder.user_id, leases.c.ending == str(Ending.SKIPPED))
    is_golden, is_skipped = cases.c.case_id.in_(select(golden_cases.c.case_id)), cases.c.case_id.in_(skipped)
    skips = skipped.where(leases.c.case_id == cases.c.case_id).with_only_columns(func.count()).scalar_subquery()
    if golden:
        return _first(conn, (*mine, is_golden), skips)
    for begin in count(0, _FRONT):
        front = conn.scalars(select(cases.c.case_id).where(cases.c.closed_at.is_(None)).order_by(*_ORDER).limit(_FRONT).offset(begin)).all()
        found = _first(conn, (*mine, cases.c.case_id.in_(front), ~is_golden, ~is_skipped))
        if found is not None or not front:
            break
    return found or _first(conn, (*mine, is_skipped, ~is_golden), skips)


_ORDER = (cases.c.severity, cases.c.opened_at, cases.c.case_id)
_FRONT = 100
"""So many open cases are read off the index at once. Asked about all of them, an engine may well compare and sort the whole queue."""


def _first(conn: Connection, conditions: Iterable[ColumnElement[bool]], *before: ScalarSelect[int]) -> str | None:
    """The first case that the conditions pick, locked; one that another reviewer is being given is passed over.

    So two who ask at once get two cases on an engine that locks rows; on SQLite the second waits for the first.
    """
    query = select(cases.c.case_id).where(*conditions).order_by(*before, *_ORDER).limit(1)
    found: str | None = conn.execute(query.with_for_update(of=cases, key_share=True, skip_locked=True)).scalar()
    return found


def held_case(conn: Connection, user_id: int, now: datetime) -> str | None:
    """A case that the account holds, in whatever session."""
    mine = (leases.c.user_id == user_id, leases.c.ended_at.is_(None), leases.c.expires_at > now)
    return conn.execute(select(leases.c.case_id).where(*mine).order_by(leases.c.claimed_at)).scalar()


def live_lease(conn: Connection, case_id: str, token: str, holder: SignedIn, now: datetime) -> Lease:
    """The lease behind a token, if it still holds for this very session.

    Raises:
        StaleLeaseError: it does not, for whatever reason.
        UnknownCaseError: its case was deleted.
    """
    mine = (leases.c.token_sha256 == token_sha256(token), leases.c.case_id == case_id)
    row = conn.execute(select(*_LEASE).where(*mine).with_for_update(key_share=True)).first()
    lease = Lease(*row) if row else None
    if lease is None and conn.execute(select(cases.c.case_id).where(cases.c.case_id == case_id)).first() is None:
        msg = f"case {case_id[:8]} was deleted, as its household may ask for at any time; nothing is recorded of it"
        raise UnknownCaseError(msg)
    ending = _ending_of(conn, lease) if lease is not None and lease.session_id == holder.session_id else None
    if ending == Ending.DECIDED:
        msg = "you recorded a verdict under this claim already, so nothing was changed"
        raise StaleLeaseError(msg)
    if ending == Ending.WITHDRAWN:
        msg = f"the household of case {case_id[:8]} took its consent back, so the case is closed and nothing more is recorded of it"
        raise StaleLeaseError(msg)
    if lease is None or lease.session_id != holder.session_id or not lease.is_live(now):
        msg = "your claim on this case has ended, so nothing was recorded; claim it again to go on (a note you began stays in this browser)"
        raise StaleLeaseError(msg)
    return lease


def _ending_of(conn: Connection, lease: Lease) -> str | None:
    return conn.execute(select(leases.c.ending).where(leases.c.lease_id == lease.lease_id)).scalar()


def renew(conn: Connection, lease: Lease, terms: LeaseTerms, now: datetime) -> datetime:
    """Extend a live lease, as a heartbeat does, and return when it now ends."""
    expires_at = terms.expiry(lease.claimed_at, now)
    conn.execute(update(leases).where(leases.c.lease_id == lease.lease_id).values(expires_at=expires_at))
    end_exposure(conn, lease.lease_id, now)
    return expires_at


def end(conn: Connection, lease: Lease, ending: Ending, now: datetime) -> None:
    """Close a lease; what becomes of the case is the caller's to say."""
    values = {"ended_at": now, "ending": str(ending)}
    ended = conn.execute(update(leases).where(leases.c.lease_id == lease.lease_id, leases.c.ended_at.is_(None)).values(**values))
    assert ended.rowcount == 1, "the lease ended under a writing transaction"
    end_exposure(conn, lease.lease_id, min(now, lease.expires_at))


def skip(conn: Connection, lease: Lease, holder: SignedIn, now: datetime) -> None:
    """Hand the case back, without a reason."""
    end(conn, lease, Ending.SKIPPED, now)
    move_case(conn, lease.case_id, Move.SKIP, now)
    audit.append(conn, now, holder.actor, audit.Action.CASE_SKIPPED, f"case:{lease.case_id}")


def end_expired(conn: Connection, now: datetime) -> None:
    """Return the cases of leases that ran out to the queue."""
    over = (leases.c.ended_at.is_(None), leases.c.expires_at <= now)
    query = (
        select(*_LEASE, users.c.name)
        .join(users, users.c.user_id == leases.c.user_id)
        .where(*over)
        .order_by(leases.c.expires_at, leases.c.lease_id)
    )
    # One that is locked is being ended, renewed or used by someone else at this moment.
    for row in conn.execute(query.with_for_update(of=leases, key_share=True, skip_locked=True)).all():
        lease = Lease(*row[:-1])
        end(conn, lease, Ending.EXPIRED, now)
        move_case(conn, lease.case_id, Move.EXPIRE, now)
        detail = {"holder": row.name, "at": lease.expires_at.isoformat()}
        audit.append(conn, now, audit.SERVICE, audit.Action.LEASE_EXPIRED, f"case:{lease.case_id}", detail)


def release(conn: Connection, holder: SignedIn, now: datetime, case_id: str | None = None) -> None:
    """Hand back what the account holds: in this session, or one case in whatever session."""
    end_expired(conn, now)
    mine = leases.c.session_id == holder.session_id if case_id is None else leases.c.case_id == case_id
    query = select(*_LEASE).where(mine, leases.c.user_id == holder.user_id, leases.c.ended_at.is_(None))
    for row in conn.execute(query.order_by(leases.c.lease_id).with_for_update(key_share=True)).all():
        lease = Lease(*row)
        end(conn, lease, Ending.RELEASED, now)
        move_case(conn, lease.case_id, Move.EXPIRE, now)
        audit.append(conn, now, holder.actor, audit.Action.LEASE_RELEASED, f"case:{lease.case_id}")


def take_away(conn: Connection, case_id: str, now: datetime) -> str | None:
    """End the claim on a case whose household took its consent back, and return who held it.

    None, and nothing is done, where someone is at work under it at this very moment.
    """
    query = select(*_LEASE, users.c.name).join(users, users.c.user_id == leases.c.user_id)
    mine = (leases.c.case_id == case_id, leases.c.ended_at.is_(None))
    row = conn.execute(query.where(*mine).with_for_update(of=leases, key_share=True, skip_locked=True)).first()
    if row is None:
        return None
    end(conn, Lease(*row[:-1]), Ending.WITHDRAWN, now)
    move_case(conn, case_id, Move.EXPIRE, now)
    return str(row.name)


def record_evidence(conn: Connection, lease: Lease, holder: SignedIn, evidence: str, now: datetime) -> None:
    """Enter in the log that evidence is about to be shown, the first time under this lease; later ones need a log that works, too.

    Raises:
        AuditUnavailableError: the log did not take it, so nothing may be shown.
    """
    seen = (evidence_views.c.lease_id == lease.lease_id, evidence_views.c.evidence == evidence)
    if conn.execute(select(evidence_views.c.evidence).where(*seen)).first():
        audit.require_working(conn, now)
        return  # a player asks for the same bytes in several ranges
    conn.execute(insert(evidence_views).values(lease_id=lease.lease_id, evidence=evidence, first_at=now))
    detail = {"evidence": evidence}
    audit.append(conn, now, holder.actor, audit.Action.EVIDENCE_SERVED, f"case:{lease.case_id}", detail)


def _not_ready(conn: Connection, case_id: str, state: CaseState) -> CaseNotReadyError:
    if state is CaseState.AWAITING_CLIP:
        return CaseNotReadyError("the clip of this case has not arrived whole yet; it can be claimed once it has")
    if state in CLOSED_STATES:
        return CaseNotReadyError(f"this case is {state} already; choose another from the queue")
    held = (leases.c.case_id == case_id, leases.c.ended_at.is_(None))
    name = conn.execute(select(users.c.name).join(leases, leases.c.user_id == users.c.user_id).where(*held)).scalar()
    return CaseNotReadyError(f"{name} holds this case; choose another from the queue")
