"""The public halves of accounts' passkeys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from earmark_review import audit
from earmark_review.accounts import SignedIn
from earmark_review.errors import FormError
from earmark_review.store.schema import passkeys, users
from earmark_review.store.turns import Turn, take_turn

MOST_PASSKEYS = 20


@dataclass(frozen=True, slots=True)
class Passkey:
    """One passkey of an account that may sign in. `sign_count` is what its authenticator last said of its use."""

    passkey_id: int
    user_id: int
    user_name: str
    name: str
    credential_id: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    sign_count: int
    created_at: datetime
    last_used_at: datetime | None


_COLUMNS = (
    passkeys.c.passkey_id,
    passkeys.c.user_id,
    users.c.name.label("user_name"),
    *(passkeys.c[name] for name in ("name", "credential_id", "public_key", "sign_count", "created_at", "last_used_at")),
)
_PASSKEYS = select(*_COLUMNS).join(users, users.c.user_id == passkeys.c.user_id).where(users.c.disabled_at.is_(None))


def passkeys_of(conn: Connection, user_id: int) -> Sequence[Passkey]:
    """An account's passkeys, the oldest first."""
    return [Passkey(*row) for row in conn.execute(_PASSKEYS.where(passkeys.c.user_id == user_id).order_by(passkeys.c.passkey_id))]


def passkey_by(conn: Connection, credential_id: bytes) -> Passkey | None:
    """The passkey with this credential id, unless its account is closed."""
    row = conn.execute(_PASSKEYS.where(passkeys.c.credential_id == credential_id)).first()
    return Passkey(*row) if row else None


def add_passkey(
    conn: Connection, who: SignedIn, name: str, credential_id: bytes, public_key: bytes, sign_count: int, now: datetime
) -> None:
    """Keep a new one.

    Raises:
        FormError: it is known already, or there are too many.
    """
    take_turn(conn, Turn.NAMES)
    if passkey_by(conn, credential_id) is not None:
        msg = "this passkey is registered already"
        raise FormError(msg)
    if len(passkeys_of(conn, who.user_id)) >= MOST_PASSKEYS:
        msg = f"an account has at most {MOST_PASSKEYS} passkeys; remove one first"
        raise FormError(msg)
    values = {"credential_id": credential_id, "public_key": public_key, "sign_count": sign_count}
    conn.execute(insert(passkeys).values(user_id=who.user_id, name=name, created_at=now, **values))
    audit.append(conn, now, who.actor, audit.Action.PASSKEY_ADDED, who.actor)


def remove_passkey(conn: Connection, who: SignedIn, passkey_id: int, now: datetime) -> None:
    """Forget one of one's own.

    Raises:
        FormError: the account has none such.
    """
    mine = (passkeys.c.passkey_id == passkey_id, passkeys.c.user_id == who.user_id)
    if not conn.execute(delete(passkeys).where(*mine)).rowcount:
        msg = "there is no such passkey of yours; reload the page"
        raise FormError(msg)
    audit.append(conn, now, who.actor, audit.Action.PASSKEY_REMOVED, who.actor)


def note_use(conn: Connection, used: Passkey, sign_count: int, now: datetime) -> None:
    """Remember what its authenticator said of its use: a count that goes back tells of a copy."""
    mine = passkeys.c.passkey_id == used.passkey_id
    conn.execute(update(passkeys).where(mine).values(sign_count=sign_count, last_used_at=now))
