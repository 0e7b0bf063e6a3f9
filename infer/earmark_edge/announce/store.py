"""What was told to the household's own systems, and what still waits to be: one SQLite file, every change durable."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from earmark_edge.announce.announcement import Announcement
from earmark_edge.oneline import one_line
from earmark_edge.salvage import is_broken, lenient, moved_aside
from earmark_edge.wire import WireError

STORE_FILE = "announced.db"
KEPT_FOR = timedelta(hours=24)
"""News of a scream that is a day old is no use to a doorbell: it is not told any more, and the ledger says so."""
_BUSY_TIMEOUT_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS announcements (
    place INTEGER PRIMARY KEY,
    announcement_id TEXT NOT NULL,
    destination TEXT NOT NULL,
    address TEXT NOT NULL,
    payload BLOB NOT NULL,
    consent_id TEXT NOT NULL,
    made_at TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'refused', 'expired', 'withdrawn')),
    settled_at TEXT,
    trouble TEXT NOT NULL DEFAULT '',
    UNIQUE (announcement_id, destination)
);
CREATE INDEX IF NOT EXISTS announcements_waiting ON announcements (destination, place) WHERE state = 'waiting';
"""


class AnnounceStoreError(RuntimeError):
    """The file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Announced:
    """An announcement to one destination, and what became of it."""

    place: int
    destination: str
    address: str
    announcement: Announcement
    consent_id: str
    made_at: str
    state: str
    settled_at: str | None
    trouble: str


class AnnounceStore:
    """A connection to the file. Threads and processes each open their own.

    Raises:
        AnnounceStoreError: it cannot be opened. A damaged file is moved aside, told of, and a fresh one begun.
    """

    def __init__(
        self, path: Path, *, tell: Callable[[str], None] = lambda _: None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path, self._now = path, now
        try:
            self._conn = self._open()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_broken(error):
                msg = f"{path}: cannot be opened ({error})"
                raise AnnounceStoreError(msg) from error
            aside = moved_aside(path, now())
            tell(f"{path}: damaged ({one_line(error)}); moved to {aside.name}; what waited there to be told is not told any more")
            self._conn = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
        except OSError as error:
            msg = f"{self._path}: cannot be made ({error.strerror})"
            raise AnnounceStoreError(msg) from error
        conn = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        conn.text_factory = lenient
        try:
            _prepare(conn)
        except BaseException:
            conn.close()
            raise
        return conn

    def close(self) -> None:
        """Let go of the file."""
        self._conn.close()

    def put(self, announcement: Announcement, destinations: Sequence[tuple[str, str]], consent_id: str) -> None:
        """Keep it for each destination, a name and an address, until it is told there.

        Raises:
            sqlite3.Error: the disk does not take it; nothing was kept.
        """
        words = (announcement.to_bytes(), consent_id, self._now().isoformat())
        rows = [(announcement.announcement_id, name, address, *words) for name, address in destinations]
        self._conn.execute("BEGIN IMMEDIATE")
        try:
            self._conn.executemany(
                "INSERT OR IGNORE INTO announcements (announcement_id, destination, address, payload, consent_id, made_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._conn.execute("COMMIT")
        except BaseException:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            raise

    def next(self, destination: str) -> Announced | None:
        """The oldest that waits for a destination; what waited too long is given up on the way."""
        now = self._now()
        old, future = (
            (now - KEPT_FOR).isoformat(),
            (now + KEPT_FOR).isoformat(),
        )  # a time that lies ahead was written before the clock jumped
        self._conn.execute(
            "UPDATE announcements SET state = 'expired', settled_at = ? "
            "WHERE destination = ? AND state = 'waiting' AND (made_at < ? OR made_at > ?)",
            (now.isoformat(), destination, old, future),
        )
        found = self._rows("WHERE destination = ? AND state = 'waiting' ORDER BY place LIMIT 1", (destination,))
        return next(found, None)

    def settle(self, place: int, state: str, trouble: str = "") -> None:
        """It was sent, refused for good, or consent for it ended."""
        words = (state, self._now().isoformat(), trouble[:400], place)
        self._conn.execute("UPDATE announcements SET state = ?, settled_at = ?, trouble = ? WHERE place = ?", words)

    def rows(self) -> Iterator[Announced]:
        """All of them, in order, for the ledger."""
        return self._rows("ORDER BY place", ())

    def counts(self) -> dict[str, int]:
        """How many are in each state."""
        return dict(self._conn.execute("SELECT state, count(*) FROM announcements GROUP BY state").fetchall())

    def _rows(self, rest: str, words: tuple[str, ...]) -> Iterator[Announced]:
        columns = "place, destination, address, payload, consent_id, made_at, state, settled_at, trouble"
        for row in self._conn.execute(f"SELECT {columns} FROM announcements {rest}", words).fetchall():  # noqa: S608 - our own words
            with contextlib.suppress(WireError):  # the disk lost some of it, so nobody can be told
                yield Announced(row[0], row[1], row[2], Announcement.from_bytes(row[3]), *row[4:])


def _prepare(conn: sqlite3.Connection) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        conn.execute(f"PRAGMA {pragma}")
    problem = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]  # quick_check passes over a damaged index
    if problem != "ok":
        raise sqlite3.DatabaseError(problem)
    conn.executescript(_SCHEMA)
