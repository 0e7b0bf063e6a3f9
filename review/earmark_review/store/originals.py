"""Break-glass: the original of a clip opens for one claim, for a while, once a second person has agreed to the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from earmark_review import audit
from earmark_review.accounts import Permission, SignedIn
from earmark_review.cases import Lease
from earmark_review.errors import FormError, NotAllowedError, OriginalClosedError, UnknownRequestError
from earmark_review.store.schema import cases, events, leases, original_requests, users

LEAST_REASON_CHARS = 10


@dataclass(frozen=True, slots=True)
class OriginalRequest:
    """Someone's wish to hear an original. `expires_at` is set where a second person agreed."""

    request_id: int
    case_id: str
    label: str
    asked_by: str
    reason: str
    asked_at: datetime
    answered_by: str | None
    answered_at: datetime | None
    expires_at: datetime | None

    def is_open(self, now: datetime) -> bool:
        """Whether the original may be heard now."""
        return self.expires_at is not None and now < self.expires_at


_ASKER, _ANSWERER = users.alias("asker"), users.alias("answerer")
_COLUMNS = (
    original_requests.c.request_id,
    leases.c.case_id,
    events.c.label,
    _ASKER.c.name,
    *(original_requests.c[name] for name in ("reason", "asked_at")),
    _ANSWERER.c.name.label("answered_by"),
    *(original_requests.c[name] for name in ("answered_at", "expires_at")),
)
_REQUESTS = (
    select(*_COLUMNS)
    .select_from(original_requests)
    .join(leases, leases.c.lease_id == original_requests.c.lease_id)
    .join(cases, cases.c.case_id == leases.c.case_id)
    .join(events, events.c.event_row == cases.c.event_row)
    .join(_ASKER, _ASKER.c.user_id == leases.c.user_id)
    .outerjoin(_ANSWERER, _ANSWERER.c.user_id == original_requests.c.answered_by)
)


def ask(conn: Connection, lease: Lease, holder: SignedIn, reason: str, now: datetime) -> None:
    """Ask for the original under a live lease; asking again under the same one changes nothing.

    Raises:
        FormError: the reason says too little.
    """
    if len(reason) < LEAST_REASON_CHARS:
        msg = f"the reason has {len(reason)} characters; say in {LEAST_REASON_CHARS} or more why the masked sound is not enough"
        raise FormError(msg)
    if request_under(conn, lease) is not None:
        return
    conn.execute(insert(original_requests).values(lease_id=lease.lease_id, reason=reason, asked_at=now))
    detail = {"reason_sha256": hashlib.sha256(reason.encode()).hexdigest()}
    audit.append(conn, now, holder.actor, audit.Action.ORIGINAL_ASKED, f"case:{lease.case_id}", detail)


def request_under(conn: Connection, lease: Lease) -> OriginalRequest | None:
    """What was asked under a lease."""
    row = conn.execute(_REQUESTS.where(original_requests.c.lease_id == lease.lease_id)).first()
    return OriginalRequest(*row) if row else None


def waiting(conn: Connection, now: datetime) -> Sequence[OriginalRequest]:
    """Requests without an answer whose claim still runs, oldest first."""
    live = (leases.c.ended_at.is_(None), leases.c.expires_at > now)
    rows = conn.execute(_REQUESTS.where(original_requests.c.answered_at.is_(None), *live).order_by(original_requests.c.asked_at))
    return [OriginalRequest(*row) for row in rows]


def answer(conn: Connection, request_id: int, who: SignedIn, now: datetime, open_s: float | None) -> None:
    """Agree, for `open_s` seconds, or with None refuse.

    Raises:
        UnknownRequestError: it is not there, its claim is over, or someone answered it.
        NotAllowedError: it is one's own, or the role does not reach this far.
    """
    who.require(Permission.APPROVE_ORIGINAL)
    found = next((request for request in waiting(conn, now) if request.request_id == request_id), None)
    if found is None:
        msg = "this request was answered, or its claim is over; the list shows those that wait"
        raise UnknownRequestError(msg)
    if found.asked_by == who.name:
        msg = "nobody approves their own request; someone else has to"
        raise NotAllowedError(msg)
    expires_at = now + timedelta(seconds=open_s) if open_s is not None else None
    values = {"answered_by": who.user_id, "answered_at": now, "expires_at": expires_at}
    mine = (original_requests.c.request_id == request_id, original_requests.c.answered_at.is_(None))
    if not conn.execute(update(original_requests).where(*mine).values(**values)).rowcount:
        msg = "someone else answered this request a moment ago"
        raise UnknownRequestError(msg)
    action = audit.Action.ORIGINAL_APPROVED if expires_at else audit.Action.ORIGINAL_REFUSED
    detail = {"asked_by": found.asked_by, "until": expires_at.isoformat() if expires_at else None}
    audit.append(conn, now, who.actor, action, f"case:{found.case_id}", detail)


def require_open(conn: Connection, lease: Lease, now: datetime) -> None:
    """Insist that the original may be heard under this lease.

    Raises:
        OriginalClosedError: it may not.
    """
    request = request_under(conn, lease)
    if request is None or not request.is_open(now):
        msg = "the original opens once you gave a reason and a second person agreed, and closes after a while"
        raise OriginalClosedError(msg)
