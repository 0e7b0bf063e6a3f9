"""What a sign-in of two steps remembers between them: kept here under the hash of a token that the browser holds, and taken once."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, delete, insert

from earmark_review.errors import SignInError
from earmark_review.store.schema import sign_in_flows
from earmark_review.tokens import new_token, token_sha256

LIFE = timedelta(minutes=10)


class FlowKind(StrEnum):
    """Which two steps belong together."""

    PASSKEY_NEW = "passkey.new"
    PASSKEY_USED = "passkey.used"
    PROVIDER = "provider"
    PROVIDER_LINK = "provider.link"


def begin_flow(conn: Connection, kind: FlowKind, secret: str, now: datetime) -> str:
    """Remember `secret`; return the token that gives it back once, within ten minutes."""
    token = new_token()
    conn.execute(delete(sign_in_flows).where(sign_in_flows.c.expires_at <= now))
    conn.execute(insert(sign_in_flows).values(token_sha256=token_sha256(token), kind=str(kind), secret=secret, expires_at=now + LIFE))
    return token


def take_flow(conn: Connection, kind: FlowKind, token: str, now: datetime) -> str:
    """What was remembered, which is forgotten with this.

    Raises:
        SignInError: nothing of this kind was, or it was taken, or too long ago.
    """
    mine = sign_in_flows.c.token_sha256 == token_sha256(token)
    kept = (sign_in_flows.c.kind, sign_in_flows.c.secret, sign_in_flows.c.expires_at)
    row = conn.execute(delete(sign_in_flows).where(mine).returning(*kept)).first()  # in one statement: of two who ask at once, one gets it
    if row is None or row.kind != str(kind) or row.expires_at <= now:
        msg = "this sign-in was begun too long ago, in another browser, or is done already; begin again"
        raise SignInError(msg)
    return str(row.secret)
