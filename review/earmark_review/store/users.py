"""Local accounts and their argon2id hashes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, delete, func, insert, select, update

from earmark_review import audit
from earmark_review.accounts import Role, checked_password, checked_role, queues_of
from earmark_review.cases import Queue
from earmark_review.errors import SettingsError
from earmark_review.names import checked_name, name_key
from earmark_review.store.schema import sessions, users, withheld_queues
from earmark_review.store.turns import Turn, take_turn


@dataclass(frozen=True, slots=True)
class Account:
    """An account as sign-in needs it."""

    user_id: int
    name: str
    password_hash: str = field(repr=False)
    role: Role


@dataclass(frozen=True, slots=True)
class ListedAccount:
    """An account as the operator sees it. `last_seen_at` is when any session of it last was at work."""

    name: str
    role: Role
    queues: Sequence[Queue]
    created_at: datetime
    last_seen_at: datetime | None
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account ready to be stored: the slow hash is made outside any transaction."""

    name: str
    password_hash: str = field(repr=False)
    role: Role


def new_account(hasher: PasswordHasher, name: str, password: str, role: Role) -> NewAccount:
    """Check and hash.

    Raises:
        SettingsError: the name or the password is unfit.
    """
    return NewAccount(checked_name("user", name), hasher.hash(checked_password(password)), checked_role(role))


def add_user(conn: Connection, account: NewAccount, now: datetime) -> None:
    """Store an account.

    Raises:
        SettingsError: the name is taken, in whatever spelling.
    """
    take_turn(conn, Turn.NAMES)
    key = name_key(account.name)
    if conn.execute(select(users.c.user_id).where(users.c.name_key == key)).first():
        msg = f"there is a user {account.name!r} already; give another name"
        raise SettingsError(msg)
    values = {"name": account.name, "name_key": key, "password_hash": account.password_hash, "role": str(account.role)}
    conn.execute(insert(users).values(created_at=now, **values))
    audit.append(conn, now, audit.OPERATOR, audit.Action.USER_ADDED, f"user:{account.name}", {"role": str(account.role)})


def list_users(conn: Connection) -> Sequence[ListedAccount]:
    """Every account, by name."""
    seen = select(func.max(sessions.c.last_seen_at)).where(sessions.c.user_id == users.c.user_id).scalar_subquery()
    columns = (users.c.user_id, users.c.name, users.c.role, users.c.created_at, seen, users.c.disabled_at)
    return [
        ListedAccount(name, Role(role), list(queues_of(Role(role), withheld_of(conn, user_id))), *times)
        for user_id, name, role, *times in conn.execute(select(*columns).order_by(users.c.name_key)).all()
    ]


def withheld_of(conn: Connection, user_id: int) -> frozenset[Queue]:
    """The queues that an account does not work on though its role would."""
    query = select(withheld_queues.c.queue).where(withheld_queues.c.user_id == user_id)
    return frozenset(Queue(queue) for queue in conn.scalars(query))


def withhold(conn: Connection, user_id: int, queues: Collection[Queue]) -> None:
    """Keep an account from these queues and no others."""
    conn.execute(delete(withheld_queues).where(withheld_queues.c.user_id == user_id))
    if queues:
        conn.execute(insert(withheld_queues), [{"user_id": user_id, "queue": str(queue)} for queue in queues])


def find_user(conn: Connection, key: str) -> Account | None:
    """The account of that `name_key`, unless it is disabled."""
    columns = (users.c.user_id, users.c.name, users.c.password_hash, users.c.role)
    row = conn.execute(select(*columns).where(users.c.name_key == key, users.c.disabled_at.is_(None))).first()
    return Account(*row[:3], Role(row.role)) if row else None


def store_hash(conn: Connection, user_id: int, password_hash: str) -> None:
    """Put another hash in the place of an account's."""
    conn.execute(update(users).where(users.c.user_id == user_id).values(password_hash=password_hash))


def count_users(conn: Connection) -> int:
    """How many accounts there are."""
    return conn.execute(select(func.count()).select_from(users)).scalar_one()


def password_fits(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
    """Whether the password is the one that was hashed; slow by intent."""
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
