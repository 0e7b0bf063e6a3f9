"""Sessions seen and ended from elsewhere: by their owner from another browser, or by the operator. What they hold goes back at once.

So does what the operator changes of an account: whoever is signed in goes on only by signing in anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, update

from earmark_review import audit
from earmark_review.accounts import Role, SignedIn, checked_role, queues_of
from earmark_review.cases import Queue
from earmark_review.errors import FormError, SettingsError
from earmark_review.names import name_key
from earmark_review.settings import ReviewSettings
from earmark_review.store import leases
from earmark_review.store.schema import sessions, users
from earmark_review.store.users import store_hash, withhold


@dataclass(frozen=True, slots=True)
class Session:
    """One browser in which an account is signed in."""

    session_id: int
    created_at: datetime
    last_seen_at: datetime


def sessions_of(conn: Connection, user_id: int, settings: ReviewSettings, now: datetime) -> Sequence[Session]:
    """The account's live sessions, the latest first."""
    columns = (sessions.c.session_id, sessions.c.created_at, sessions.c.last_seen_at)
    whole, idle = (now - timedelta(seconds=seconds) for seconds in (settings.session_s, settings.session_idle_s))
    live = (sessions.c.ended_at.is_(None), sessions.c.created_at > whole, sessions.c.last_seen_at > idle)
    query = (
        select(*columns).where(sessions.c.user_id == user_id, *live).order_by(sessions.c.created_at.desc(), sessions.c.session_id.desc())
    )
    return [Session(*row) for row in conn.execute(query)]


def end_own(conn: Connection, who: SignedIn, session_id: int | None, now: datetime) -> int:
    """End one of an account's own sessions, or with None all but the one that asks; return how many.

    Raises:
        FormError: the account has no such live session.
    """
    which = sessions.c.session_id == session_id if session_id is not None else sessions.c.session_id != who.session_id
    ended = _end(conn, who.user_id, which, who.actor, now)
    if session_id is not None and not ended:
        msg = "there is no such session of yours, or it ended already; reload the page"
        raise FormError(msg)
    return ended


def end_all(conn: Connection, name: str, now: datetime) -> int:
    """End every session of an account, as the operator; return how many.

    Raises:
        SettingsError: there is no such account.
    """
    return _end(conn, _account(conn, name).user_id, sessions.c.session_id.is_not(None), audit.OPERATOR, now)


def disable(conn: Connection, name: str, now: datetime) -> int:
    """Close an account for good measure: its sessions end and it cannot sign in; what it decided stays.

    Raises:
        SettingsError: there is no such account, or it is closed already.
    """
    account = _account(conn, name)
    if account.disabled_at is not None:
        msg = f"the account {account.name!r} is closed already"
        raise SettingsError(msg)
    conn.execute(update(users).where(users.c.user_id == account.user_id).values(disabled_at=now))
    audit.append(conn, now, audit.OPERATOR, audit.Action.USER_DISABLED, f"user:{account.name}")
    return _end_all(conn, account, now)


def enable(conn: Connection, name: str, now: datetime) -> None:
    """Let a closed account sign in again.

    Raises:
        SettingsError: there is no such account, or it is open.
    """
    account = _account(conn, name)
    if account.disabled_at is None:
        msg = f"the account {account.name!r} is open"
        raise SettingsError(msg)
    conn.execute(update(users).where(users.c.user_id == account.user_id).values(disabled_at=None))
    audit.append(conn, now, audit.OPERATOR, audit.Action.USER_ENABLED, f"user:{account.name}")


def set_password(conn: Connection, name: str, password_hash: str, now: datetime) -> int:
    """Give an account another password, by its hash, and end its sessions; return how many. Passkeys and a linked identity stay.

    Raises:
        SettingsError: there is no such account.
    """
    account = _account(conn, name)
    store_hash(conn, account.user_id, password_hash)
    audit.append(conn, now, audit.OPERATOR, audit.Action.USER_PASSWORD_SET, f"user:{account.name}")
    return _end_all(conn, account, now)


def change_role(conn: Connection, name: str, role: Role, now: datetime) -> int:
    """Give an account another role, with all of its queues, and end its sessions; return how many.

    Raises:
        SettingsError: there is no such account, it has the role already, or it is no person's.
    """
    account = _account(conn, name)
    if account.role is checked_role(role):
        msg = f"{account.name!r} is {role.words} already"
        raise SettingsError(msg)
    ended = _end_all(conn, account, now)
    conn.execute(update(users).where(users.c.user_id == account.user_id).values(role=str(role)))
    withhold(conn, account.user_id, ())
    detail = {"from": str(account.role), "to": str(role)}
    audit.append(conn, now, audit.OPERATOR, audit.Action.USER_ROLE_CHANGED, f"user:{account.name}", detail)
    return ended


def give_queues(conn: Connection, name: str, queues: Collection[Queue], now: datetime) -> int:
    """Let an account work on these queues of its role alone, and end its sessions; return how many.

    Raises:
        SettingsError: there is no such account, or these are no queues of its role.
    """
    account = _account(conn, name)
    reached = queues_of(account.role)
    if not queues or not set(queues) <= set(reached):
        msg = f"the role {account.role.words} works on {', '.join(reached) or 'no queue'}; got {', '.join(queues) or 'none'}"
        raise SettingsError(msg)
    ended = _end_all(conn, account, now)
    withhold(conn, account.user_id, set(reached) - set(queues))
    detail = {"queues": [str(queue) for queue in reached if queue in queues]}
    audit.append(conn, now, audit.OPERATOR, audit.Action.USER_QUEUES_CHANGED, f"user:{account.name}", detail)
    return ended


@dataclass(frozen=True, slots=True)
class _Account:
    user_id: int
    name: str
    role: Role
    disabled_at: datetime | None


def _account(conn: Connection, name: str) -> _Account:
    columns = (users.c.user_id, users.c.name, users.c.role, users.c.disabled_at)
    row = conn.execute(select(*columns).where(users.c.name_key == name_key(name))).first()
    if row is None:
        msg = f"there is no account {name!r}; `earmark review user add NAME` adds one"
        raise SettingsError(msg)
    return _Account(row.user_id, row.name, Role(row.role), row.disabled_at)


def _end_all(conn: Connection, account: _Account, now: datetime) -> int:
    """End every session of an account for the operator; return how many."""
    return _end(conn, account.user_id, sessions.c.session_id.is_not(None), audit.OPERATOR, now)


def _end(conn: Connection, user_id: int, which: object, actor: str, now: datetime) -> int:
    query = select(sessions.c.session_id, users.c.name, users.c.role).join(users, users.c.user_id == sessions.c.user_id)
    rows = conn.execute(query.where(sessions.c.user_id == user_id, sessions.c.ended_at.is_(None), which)).all()  # type: ignore[arg-type]
    for row in rows:
        leases.release(conn, SignedIn(user_id, row.session_id, row.name, Role(row.role)), now)
        conn.execute(update(sessions).where(sessions.c.session_id == row.session_id).values(ended_at=now))
        audit.append(conn, now, actor, audit.Action.SESSION_ENDED, f"user:{row.name}", {"from": "elsewhere"})
    return len(rows)
