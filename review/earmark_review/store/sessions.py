"""Signing in and out: server-side sessions, and the pause that follows too many failures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from argon2 import PasswordHasher
from sqlalchemy import Connection, delete, func, insert, select, update

from earmark_review import audit
from earmark_review.accounts import Role, SignedIn
from earmark_review.errors import NotSignedInError, SignInError, TooManyAttemptsError
from earmark_review.names import name_key
from earmark_review.settings import ReviewSettings
from earmark_review.store import leases
from earmark_review.store.database import Database
from earmark_review.store.schema import sessions, sign_in_failures, users
from earmark_review.store.turns import Turn, take_turn
from earmark_review.store.users import Account, find_user, password_fits, store_hash, withheld_of
from earmark_review.tokens import new_token, token_sha256

WIDER_LIMIT = 6
"""How many times `sign_in_failures` a name may fail over all addresses, or an address over all names."""
_SEEN_EVERY = timedelta(minutes=1)
_MAX_ADDRESS_CHARS = 64


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """Who wants to sign in, with what, from where."""

    name: str
    password: str
    address: str


class SignIn:
    """Checks passwords against accounts and starts sessions."""

    def __init__(self, database: Database, hasher: PasswordHasher, settings: ReviewSettings) -> None:
        self._database, self._hasher, self._settings = database, hasher, settings

    @cached_property
    def _nobody(self) -> str:
        """A hash to verify against when the name is unknown, so that an unknown name takes as long as a wrong password."""
        return self._hasher.hash(new_token())

    def start(self, request: SignInRequest, now: datetime) -> str:
        """The token of a new session.

        Raises:
            TooManyAttemptsError: the name or the address failed too often of late.
            SignInError: name and password do not belong together.
        """
        account = self.confirm(request, now)
        with self._database.writing() as conn:
            if self._hasher.check_needs_rehash(account.password_hash):
                store_hash(conn, account.user_id, self._hasher.hash(request.password))
            return start_session(conn, account.user_id, account.name, now)

    def confirm(self, request: SignInRequest, now: datetime) -> Account:
        """The account whose name and password these are.

        Raises:
            TooManyAttemptsError: the name or the address failed too often of late.
            SignInError: name and password do not belong together.
        """
        key, address = name_key(request.name), request.address[:_MAX_ADDRESS_CHARS]
        # The failure is booked before the slow check and struck out after success: guesses in parallel all count.
        failure_id = self.book_failure(key, address, now)
        with self._database.reading() as conn:
            account = find_user(conn, key)
        nobody = self._nobody  # made on the first sign-in, whoever it is
        fits = password_fits(self._hasher, account.password_hash if account else nobody, request.password)
        if account is None or not fits:
            with self._database.writing() as conn:
                subject = f"user:{account.name}" if account else "user:?"  # what was typed as a name may be a password
                audit.append(conn, now, audit.SERVICE, audit.Action.SIGN_IN_REFUSED, subject, {"address": address})
            msg = "the name and the password do not belong together"
            raise SignInError(msg)
        self.strike_out(failure_id)
        return account

    def strike_out(self, failure_id: int) -> None:
        """It was no failure after all."""
        with self._database.writing() as conn:
            conn.execute(delete(sign_in_failures).where(sign_in_failures.c.failure_id == failure_id))

    def book_failure(self, key: str, address: str, now: datetime) -> int:
        """Count an attempt as failed until it is struck out; return its number.

        Raises:
            TooManyAttemptsError: the name or the address failed too often of late.
        """
        since = now - timedelta(seconds=self._settings.sign_in_window_s)
        limit = self._settings.sign_in_failures
        by_name, by_address = sign_in_failures.c.name_key == key, sign_in_failures.c.address == address
        with self._database.writing() as conn:
            take_turn(conn, Turn.SIGN_IN)
            conn.execute(delete(sign_in_failures).where(sign_in_failures.c.at <= since))
            for whose, where, most in (
                (f"{key} from {address}", (by_name, by_address), limit),
                (key, (by_name,), WIDER_LIMIT * limit),
                (address, (by_address,), WIDER_LIMIT * limit),
            ):
                count, first = conn.execute(select(func.count(), func.min(sign_in_failures.c.at)).where(*where)).one()
                if count >= most:
                    _tell_of_pause(conn, whose, key, address, now)
                    break
            else:
                booked = insert(sign_in_failures).values(name_key=key, address=address, at=now)
                return int(conn.execute(booked.returning(sign_in_failures.c.failure_id)).scalar_one())
        wait_s = max(1, round((first - since).total_seconds()))
        msg = f"too many failures; sign-in is paused, try again in {-(-wait_s // 60)} min"
        raise TooManyAttemptsError(msg, wait_s)


def _tell_of_pause(conn: Connection, whose: str, key: str, address: str, now: datetime) -> None:
    """Enter in the log that sign-in is paused, once for each pause: whoever goes on guessing fills no log."""
    told = f"told {hashlib.sha256(whose.encode(errors='replace')).hexdigest()}"
    if conn.execute(select(sign_in_failures.c.failure_id).where(sign_in_failures.c.name_key == told)).first() is not None:
        return
    conn.execute(insert(sign_in_failures).values(name_key=told, address="", at=now))
    account = find_user(conn, key)
    subject = f"user:{account.name}" if account else "user:?"  # what was typed as a name may be a password
    audit.append(conn, now, audit.SERVICE, audit.Action.SIGN_IN_PAUSED, subject, {"address": address})


def start_session(conn: Connection, user_id: int, name: str, now: datetime, by: str = "password") -> str:
    """Begin a session and return its token; the log has it, with how the account showed who it is."""
    token = new_token()
    conn.execute(insert(sessions).values(user_id=user_id, token_sha256=token_sha256(token), created_at=now, last_seen_at=now))
    audit.append(conn, now, f"user:{name}", audit.Action.SESSION_STARTED, f"user:{name}", {"by": by})
    return token


def signed_in(database: Database, token: str | None, settings: ReviewSettings, now: datetime, *, is_work: bool = True) -> SignedIn:
    """Whose session a cookie's token opens. Without `is_work`, as when a page refreshes itself, it goes on counting as idle.

    Raises:
        NotSignedInError: nobody's, or it ended, or it lay idle too long.
    """
    with database.reading() as conn:
        query = select(sessions, users.c.name, users.c.role).join(users, users.c.user_id == sessions.c.user_id)
        live = (sessions.c.ended_at.is_(None), users.c.disabled_at.is_(None))
        row = conn.execute(query.where(sessions.c.token_sha256 == token_sha256(token), *live)).first() if token else None
        withheld = withheld_of(conn, row.user_id) if row is not None else frozenset()
    if row is None or not _is_current(row.created_at, row.last_seen_at, settings, now):
        msg = "you are not signed in, or were signed out after a while; sign in and try again"
        raise NotSignedInError(msg)
    if is_work and now - row.last_seen_at >= _SEEN_EVERY:
        with database.writing() as conn:
            conn.execute(update(sessions).where(sessions.c.session_id == row.session_id).values(last_seen_at=now))
    return SignedIn(row.user_id, row.session_id, row.name, Role(row.role), withheld)


def _is_current(created_at: datetime, last_seen_at: datetime, settings: ReviewSettings, now: datetime) -> bool:
    whole, idle = timedelta(seconds=settings.session_s), timedelta(seconds=settings.session_idle_s)
    return now < created_at + whole and now < last_seen_at + idle


def sign_out(conn: Connection, who: SignedIn, now: datetime) -> None:
    """End a session, and hand back what it holds."""
    leases.release(conn, who, now)
    conn.execute(update(sessions).where(sessions.c.session_id == who.session_id).values(ended_at=now))
    audit.append(conn, now, who.actor, audit.Action.SESSION_ENDED, who.actor)
