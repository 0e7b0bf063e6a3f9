"""The wrapped data keys, in a database of their own that backups leave out: without its key, a clip in any copy is noise.

Beside them stands what was deleted, and what households changed in their consent, for the same reason: a restored backup knows neither.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from earmark_review.errors import DatabaseError, KeyGoneError, KeyStoreError
from earmark_review.store.engines import engine_for, switch_to_wal
from earmark_review.together import Together

logger = logging.getLogger(__name__)
_BUSY_TIMEOUT_S = 15.0
_COLUMNS = "device_id INTEGER NOT NULL, event_id TEXT NOT NULL, tier INTEGER NOT NULL"
_Key = tuple[int, str, int, bytes]
_PRIMARY = "PRIMARY KEY (device_id, event_id, tier)"
_ERASED = "CREATE TABLE IF NOT EXISTS erased_events (device_id INTEGER NOT NULL, event_id TEXT NOT NULL, PRIMARY KEY (device_id, event_id))"
_NOTED = "device_id INTEGER NOT NULL, consent_id TEXT NOT NULL"
_NOTED_PRIMARY = "PRIMARY KEY (device_id, consent_id)"
_KEEP = (  # PostgreSQL's
    "INSERT INTO wrapped_keys VALUES (:device_id, :event_id, :tier, :wrapped) "
    "ON CONFLICT (device_id, event_id, tier) DO UPDATE SET wrapped = excluded.wrapped"
)
_NOTE = (
    "INSERT INTO noted_consents VALUES (:device_id, :consent_id, :payload, :signature) "
    "ON CONFLICT (device_id, consent_id) DO UPDATE SET payload = excluded.payload, signature = excluded.signature"
)
_NOTED_ALL = "SELECT device_id, consent_id, payload, signature FROM noted_consents"
_TRIAL: _Key = (0, "trial", 0, b"")
"""No device has this number."""

ConsentName = tuple[int, str]
"""The device that sent a record of consent, and the record's id."""


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record of consent as it came, and the device's signature over it."""

    payload: bytes
    signature: bytes


class KeyStore(Protocol):
    """Keys by device, event and tier; any thread and any process may call.

    Raises:
        KeyStoreError: from any call, where the store does not do it.
    """

    def keep(self, device_id: int, event_id: str, tier: int, wrapped: bytes) -> None:
        """Store a key durably; the same object's key again replaces it."""

    def find(self, device_id: int, event_id: str, tier: int) -> bytes:
        """The wrapped key of an object.

        Raises:
            KeyGoneError: it was destroyed, or never came.
        """

    def destroy(self, device_id: int, event_id: str) -> int:
        """Remove the keys of an event and return how many there were; what they wrapped is lost from then on."""

    def note_erased(self, events: Collection[tuple[int, str]]) -> None:
        """Remember that events, by device and id, were deleted: no backup holds this store, so a restored one is told what to delete."""

    def erased(self) -> set[tuple[int, str]]:
        """Every event that was ever noted as deleted."""

    def note_consent(self, device_id: int, consent_id: str, record: SignedRecord) -> None:
        """Remember a record that took another's place, such as a withdrawal; of those of one name the last one noted counts."""

    def noted_consents(self) -> dict[ConsentName, SignedRecord]:
        """Every record that was noted."""

    def try_keeping(self) -> None:
        """Insist that the store takes keys, by one that is taken back at once."""

    def everything(self) -> list[tuple[int, str, int, bytes]]:
        """Every key, to move to another store."""

    def close(self) -> None:
        """Let go of it."""


def open_keystore(path: Path, url: str | None = None) -> KeyStore:
    """The store at an SQLAlchemy URL of PostgreSQL, or without one the SQLite file at `path`.

    Raises:
        DatabaseError: it cannot be opened as a key store.
    """
    return SqliteKeys(path) if url is None else PostgresKeys(url)


@contextmanager
def _told() -> Iterator[None]:
    """What the store does not do, in the service's own words; the store's go to the log alone, since they may hold an address.

    Raises:
        KeyStoreError: it did not.
    """
    try:
        yield
    except (sqlite3.Error, SQLAlchemyError) as error:
        logger.error("the store of keys: %s", str(error.__cause__ or error).strip())  # noqa: TRY400 - a fault of its, not a defect
        msg = "the store of keys does not do what it should, so nothing was done; try again shortly, or tell whoever runs the service"
        raise KeyStoreError(msg) from error


class SqliteKeys:
    """One SQLite file, and one connection that the threads share: a call is short."""

    def __init__(self, path: Path) -> None:
        self._turn, self._together = threading.Lock(), Together(self._keep_all)
        try:
            path.touch(mode=0o600)
            self._conn = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            switch_to_wal(self._conn)
            for pragma in ("synchronous = FULL", "secure_delete = ON"):
                self._conn.execute(f"PRAGMA {pragma}")
            self._conn.execute(f"CREATE TABLE IF NOT EXISTS wrapped_keys ({_COLUMNS}, wrapped BLOB NOT NULL, {_PRIMARY}) WITHOUT ROWID")
            self._conn.execute(f"{_ERASED} WITHOUT ROWID")
            noted = f"{_NOTED}, payload BLOB NOT NULL, signature BLOB NOT NULL, {_NOTED_PRIMARY}"
            self._conn.execute(f"CREATE TABLE IF NOT EXISTS noted_consents ({noted}) WITHOUT ROWID")
        except (OSError, sqlite3.DatabaseError) as error:
            msg = f"{path}: cannot be opened as the key store ({error})"
            raise DatabaseError(msg) from error

    @_told()
    def keep(self, device_id: int, event_id: str, tier: int, wrapped: bytes) -> None:
        """As the protocol says; keys that come at once share a transaction."""
        self._together.run((device_id, event_id, tier, wrapped))

    def _keep_all(self, keys: Sequence[_Key]) -> list[None]:
        with self._turn, self._conn:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.executemany("INSERT OR REPLACE INTO wrapped_keys VALUES (?, ?, ?, ?)", keys)
        return [None] * len(keys)

    @_told()
    def find(self, device_id: int, event_id: str, tier: int) -> bytes:
        """As the protocol says."""
        query = "SELECT wrapped FROM wrapped_keys WHERE device_id = ? AND event_id = ? AND tier = ?"
        with self._turn:
            row = self._conn.execute(query, (device_id, event_id, tier)).fetchone()
        return _found(row)

    @_told()
    def destroy(self, device_id: int, event_id: str) -> int:
        """As the protocol says; the bytes are overwritten, in the log too."""
        with self._turn:
            count = self._conn.execute("DELETE FROM wrapped_keys WHERE device_id = ? AND event_id = ?", (device_id, event_id)).rowcount
            self._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return count

    @_told()
    def note_erased(self, events: Collection[tuple[int, str]]) -> None:
        """As the protocol says."""
        with self._turn, self._conn:
            self._conn.execute("BEGIN IMMEDIATE")
            self._conn.executemany("INSERT OR IGNORE INTO erased_events VALUES (?, ?)", sorted(events))

    @_told()
    def erased(self) -> set[tuple[int, str]]:
        """As the protocol says."""
        with self._turn:
            return set(self._conn.execute("SELECT device_id, event_id FROM erased_events").fetchall())

    @_told()
    def note_consent(self, device_id: int, consent_id: str, record: SignedRecord) -> None:
        """As the protocol says."""
        with self._turn:
            self._conn.execute(_NOTE, _words_of(device_id, consent_id, record))

    @_told()
    def noted_consents(self) -> dict[ConsentName, SignedRecord]:
        """As the protocol says."""
        with self._turn:
            return _noted(self._conn.execute(_NOTED_ALL).fetchall())

    @_told()
    def try_keeping(self) -> None:
        """As the protocol says."""
        with self._turn:
            try:
                self._conn.execute("BEGIN IMMEDIATE")
                self._conn.execute("INSERT OR REPLACE INTO wrapped_keys VALUES (?, ?, ?, ?)", _TRIAL)
            finally:
                self._conn.rollback()

    @_told()
    def everything(self) -> list[tuple[int, str, int, bytes]]:
        """As the protocol says."""
        with self._turn:
            return self._conn.execute("SELECT device_id, event_id, tier, wrapped FROM wrapped_keys").fetchall()

    def close(self) -> None:
        """As the protocol says; the write-ahead log is folded in."""
        with self._turn:
            self._conn.close()


class PostgresKeys:
    """A table in a PostgreSQL database of its own, for a service on several machines.

    What is removed leaves the table and, with VACUUM, its pages for reuse; the server's write-ahead log keeps the old bytes until it
    reuses its segments, so that archive must not be kept (docs/review.md).
    """

    def __init__(self, url: str) -> None:
        self._engine = engine_for(url)
        if self._engine.dialect.name != "postgresql":
            msg = "the key store's address must be postgresql://USER:PASSWORD@HOST/NAME; without one it is a file in the data folder"
            raise DatabaseError(msg)
        try:
            with self._engine.begin() as conn:
                conn.execute(text("SELECT pg_advisory_xact_lock(1)"))  # of two that start at once, one makes the table
                conn.execute(text(f"CREATE TABLE IF NOT EXISTS wrapped_keys ({_COLUMNS}, wrapped BYTEA NOT NULL, {_PRIMARY})"))
                conn.execute(text(_ERASED))
                noted = f"{_NOTED}, payload BYTEA NOT NULL, signature BYTEA NOT NULL, {_NOTED_PRIMARY}"
                conn.execute(text(f"CREATE TABLE IF NOT EXISTS noted_consents ({noted})"))
        except SQLAlchemyError as error:
            where, cause = self._engine.url.render_as_string(), str(error.__cause__ or error).strip()
            msg = f"{where}: cannot be opened as the key store ({cause})"
            raise DatabaseError(msg) from error

    @_told()
    def keep(self, device_id: int, event_id: str, tier: int, wrapped: bytes) -> None:
        """As the protocol says."""
        words = {"device_id": device_id, "event_id": event_id, "tier": tier, "wrapped": wrapped}
        with self._engine.begin() as conn:
            conn.execute(text(_KEEP), words)

    @_told()
    def find(self, device_id: int, event_id: str, tier: int) -> bytes:
        """As the protocol says."""
        query = "SELECT wrapped FROM wrapped_keys WHERE device_id = :device_id AND event_id = :event_id AND tier = :tier"
        with self._engine.connect() as conn:
            row = conn.execute(text(query), {"device_id": device_id, "event_id": event_id, "tier": tier}).first()
        return _found(row)

    @_told()
    def destroy(self, device_id: int, event_id: str) -> int:
        """As the protocol says."""
        statement = "DELETE FROM wrapped_keys WHERE device_id = :device_id AND event_id = :event_id"
        with self._engine.begin() as conn:
            count = conn.execute(text(statement), {"device_id": device_id, "event_id": event_id}).rowcount
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("VACUUM wrapped_keys"))
        return count

    @_told()
    def note_erased(self, events: Collection[tuple[int, str]]) -> None:
        """As the protocol says."""
        rows = [{"device_id": device_id, "event_id": event_id} for device_id, event_id in sorted(events)]
        if rows:
            with self._engine.begin() as conn:
                conn.execute(text("INSERT INTO erased_events VALUES (:device_id, :event_id) ON CONFLICT DO NOTHING"), rows)

    @_told()
    def erased(self) -> set[tuple[int, str]]:
        """As the protocol says."""
        with self._engine.connect() as conn:
            return {(row[0], row[1]) for row in conn.execute(text("SELECT device_id, event_id FROM erased_events"))}

    @_told()
    def note_consent(self, device_id: int, consent_id: str, record: SignedRecord) -> None:
        """As the protocol says."""
        with self._engine.begin() as conn:
            conn.execute(text(_NOTE), _words_of(device_id, consent_id, record))

    @_told()
    def noted_consents(self) -> dict[ConsentName, SignedRecord]:
        """As the protocol says."""
        with self._engine.connect() as conn:
            return _noted(conn.execute(text(_NOTED_ALL)).all())

    @_told()
    def try_keeping(self) -> None:
        """As the protocol says."""
        words = dict(zip(("device_id", "event_id", "tier", "wrapped"), _TRIAL, strict=True))
        with self._engine.connect() as conn, conn.begin() as tried:
            conn.execute(text(_KEEP), words)
            tried.rollback()

    @_told()
    def everything(self) -> list[tuple[int, str, int, bytes]]:
        """As the protocol says."""
        with self._engine.connect() as conn:
            rows = conn.execute(text("SELECT device_id, event_id, tier, wrapped FROM wrapped_keys"))
            return [(row[0], row[1], row[2], bytes(row[3])) for row in rows]

    def close(self) -> None:
        """As the protocol says."""
        self._engine.dispose()


def move_keys(source: KeyStore, url: str) -> int:
    """Copy every key, and what was noted beside them, into the empty store at `url` and return how many keys there are.

    Raises:
        DatabaseError: it cannot be opened, or holds keys already.
    """
    target = PostgresKeys(url)
    try:
        if target.everything():
            msg = "the other key store holds keys already; give an empty one"
            raise DatabaseError(msg)
        keys = source.everything()
        for device_id, event_id, tier, wrapped in keys:
            target.keep(device_id, event_id, tier, wrapped)
        target.note_erased(source.erased())
        for (device_id, consent_id), record in source.noted_consents().items():
            target.note_consent(device_id, consent_id, record)
        return len(keys)
    finally:
        target.close()


def _found(row: Sequence[Any] | None) -> bytes:
    if row is None:
        msg = "the clip's key was destroyed, so nobody can open it any more"
        raise KeyGoneError(msg)
    return bytes(row[0])


def _words_of(device_id: int, consent_id: str, record: SignedRecord) -> dict[str, Any]:
    return {"device_id": device_id, "consent_id": consent_id, "payload": record.payload, "signature": record.signature}


def _noted(rows: Sequence[Sequence[Any]]) -> dict[ConsentName, SignedRecord]:
    return {(row[0], row[1]): SignedRecord(bytes(row[2]), bytes(row[3])) for row in rows}
