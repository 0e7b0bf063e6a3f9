"""Local accounts and their argon2id hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, func, insert, select, update

from earmark_review import audit
from earmark_review.accounts import Role, checked_password, checked_role
from earmark_review.errors import SettingsError
from earmark_review.names import checked_name, name_key
from earmark_review.store.schema import sessions, users
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
    query = select(users.c.name, users.c.role, users.c.created_at, seen, users.c.disabled_at).order_by(users.c.name_key)
    return [ListedAccount(row[0], Role(row[1]), *row[2:]) for row in conn.execute(query)]


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
