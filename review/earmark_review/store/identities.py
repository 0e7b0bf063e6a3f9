"""Which account an identity at a provider is linked to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from earmark_review import audit
from earmark_review.errors import FormError, SignInError
from earmark_review.store.schema import identities, users
from earmark_review.store.turns import Turn, take_turn


@dataclass(frozen=True, slots=True)
class Linked:
    """An account's identity at a provider."""

    issuer: str
    linked_at: datetime


def identities_of(conn: Connection, user_id: int) -> Sequence[Linked]:
    """Where an account is linked."""
    query = select(identities.c.issuer, identities.c.linked_at).where(identities.c.user_id == user_id)
    return [Linked(*row) for row in conn.execute(query.order_by(identities.c.issuer))]


def account_at(conn: Connection, issuer: str, subject: str) -> tuple[int, str]:
    """The number and the name of the account that is linked to an identity.

    Raises:
        SignInError: none is, or it is closed.
    """
    query = select(users.c.user_id, users.c.name).join(identities, identities.c.user_id == users.c.user_id)
    mine = (identities.c.issuer == issuer, identities.c.subject == subject, users.c.disabled_at.is_(None))
    row = conn.execute(query.where(*mine)).first()
    if row is None:
        msg = "no account here is linked to this identity; sign in with your password and link it under Account"
        raise SignInError(msg)
    return row.user_id, row.name


def link(conn: Connection, user_id: int, issuer: str, subject: str, now: datetime) -> None:
    """Link an account; the same link again changes nothing.

    Raises:
        FormError: the identity is another account's, or the account has another identity at that provider.
    """
    take_turn(conn, Turn.NAMES)
    held = conn.execute(select(identities.c.user_id).where(identities.c.issuer == issuer, identities.c.subject == subject)).scalar()
    if held == user_id:
        return
    if held is not None or any(one.issuer == issuer for one in identities_of(conn, user_id)):
        msg = "this identity is linked to another account, or this account to another identity there; unlink that first"
        raise FormError(msg)
    conn.execute(insert(identities).values(issuer=issuer, subject=subject, user_id=user_id, linked_at=now))
    actor = f"user:{_name(conn, user_id)}"
    audit.append(conn, now, actor, audit.Action.IDENTITY_LINKED, actor, {"issuer": issuer})


def unlink(conn: Connection, user_id: int, issuer: str, now: datetime) -> None:
    """Forget an account's identity at a provider.

    Raises:
        FormError: it has none there.
    """
    if not conn.execute(delete(identities).where(identities.c.user_id == user_id, identities.c.issuer == issuer)).rowcount:
        msg = "your account is not linked there; reload the page"
        raise FormError(msg)
    actor = f"user:{_name(conn, user_id)}"
    audit.append(conn, now, actor, audit.Action.IDENTITY_UNLINKED, actor, {"issuer": issuer})


def _name(conn: Connection, user_id: int) -> str:
    return str(conn.execute(select(users.c.name).where(users.c.user_id == user_id)).scalar_one())
