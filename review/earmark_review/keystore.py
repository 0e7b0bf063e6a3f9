"""The wrapped data keys, in a database of their own that backups leave out: without its key, a clip in any copy is noise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from earmark_review.errors import DatabaseError, KeyGoneError

_BUSY_TIMEOUT_S = 15.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS wrapped_keys (
    device_id INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    tier INTEGER NOT NULL,
    wrapped BLOB NOT NULL,
    PRIMARY KEY (device_id, event_id, tier)
) WITHOUT ROWID
"""


class KeyStore:
    """One SQLite file; a connection for each call, since a call is short and comes from any thread or process.

    Raises:
        DatabaseError: the file cannot be opened as a key store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch(mode=0o600)
            with self._connection() as conn:
                conn.execute("PRAGMA journal_mode = WAL")
                conn.execute(_SCHEMA)
        except (OSError, sqlite3.DatabaseError) as error:
            msg = f"{path}: cannot be opened as the key store ({error})"
            raise DatabaseError(msg) from error

    def keep(self, device_id: int, event_id: str, tier: int, wrapped: bytes) -> None:
        """Store a key durably; the same object's key again replaces it."""
        with self._connection() as conn:
            conn.execute("INSERT OR REPLACE INTO wrapped_keys VALUES (?, ?, ?, ?)", (device_id, event_id, tier, wrapped))

    def find(self, device_id: int, event_id: str, tier: int) -> bytes:
        """The wrapped key of an object.

        Raises:
            KeyGoneError: it was destroyed, or never came.
        """
        with self._connection() as conn:
            where = (device_id, event_id, tier)
            query = "SELECT wrapped FROM wrapped_keys WHERE device_id = ? AND event_id = ? AND tier = ?"
            row = conn.execute(query, where).fetchone()
        if row is None:
            msg = "the clip's key was destroyed, so nobody can open it any more"
            raise KeyGoneError(msg)
        return bytes(row[0])

    def destroy(self, device_id: int, event_id: str) -> int:
        """Overwrite the keys of an event, in the log too, and return how many there were; what they wrapped is lost from then on."""
        with self._connection() as conn:
            count = conn.execute("DELETE FROM wrapped_keys WHERE device_id = ? AND event_id = ?", (device_id, event_id)).rowcount
        with self._connection() as conn:
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return count

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as conn:
            conn.execute("PRAGMA synchronous = FULL")
            conn.execute("PRAGMA secure_delete = ON")
            yield conn
