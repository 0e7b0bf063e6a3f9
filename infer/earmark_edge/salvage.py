"""Damaged databases: how they are known, moved aside, and what can still be read of an outbox, row by row, in a fresh one."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from earmark_edge.event import Event
from earmark_edge.wire import WireError

_MOST_PLACES = 10_000
"""Looked through where a damaged file does not say how many events it holds."""


def lenient(raw: bytes) -> str:
    """A text of a database: damaged letters stand for themselves alone, where sqlite3 would give up the whole row."""
    return raw.decode(errors="replace")


def is_broken(error: BaseException) -> bool:
    """Whether a file that cannot be opened is damaged; otherwise its disk, its folder or another process stands in the way.

    Our own statements are right, so what SQLite cannot make sense of (SQLITE_ERROR, or words that are no text) is the file's fault.
    """
    if isinstance(error, UnicodeDecodeError) or not isinstance(error, sqlite3.OperationalError):
        return True
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says of a file in use that it is broken, which neither waiting nor room on the disk would mend."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF  # the rest says where it is broken
    return code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def moved_aside(path: Path, now: datetime) -> Path:
    """Move a damaged database with its log out of the way, and return where it lies."""
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S%f}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


class Outbox(Protocol):
    """A `Spool`, as far as this needs one."""

    def change(self, name: str) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction."""
        ...


def salvage(damaged: Path, fresh: Outbox) -> tuple[int, int]:
    """Copy, row by row, what can be read of the file `damaged`; how many events and how many objects that was."""
    events = objects = 0
    with closing(sqlite3.connect(damaged)) as old:
        old.text_factory = lenient
        for place in range(1, 1 + _highest(old)):
            for row in _readable(old, "SELECT * FROM events WHERE place = ?", place):
                if event_in(row[2], row[1]) is None:
                    continue
                with fresh.change("salvage") as conn:
                    if _salvage_event(conn, row):
                        events += 1
                        objects += _salvage_objects(old, conn, row[1], row[2])
    return events, objects


def _salvage_event(conn: sqlite3.Connection, row: tuple[Any, ...]) -> bool:
    """Whether the event is new and went in: as it was, or, where what was noted beside it is damaged, as one that waits and goes first."""
    _, event_id, payload, signature, *_ = row
    if conn.execute("SELECT 1 FROM events WHERE event_id = ?", (event_id,)).fetchone() or not isinstance(signature, bytes):
        return False
    if conn.execute(f"INSERT OR IGNORE INTO events VALUES ({', '.join('?' * len(row))})", row).rowcount:  # noqa: S608 - our own words
        return True
    words = (event_id, payload, signature, True, datetime.now(UTC).isoformat())
    conn.execute("INSERT INTO events (event_id, payload, signature, is_urgent, spooled_at) VALUES (?, ?, ?, ?, ?)", words)
    return True


def _salvage_objects(old: sqlite3.Connection, conn: sqlite3.Connection, event_id: str, payload: bytes) -> int:
    count = 0
    for clip in Event.from_bytes(payload).clips:
        found = _readable(old, "SELECT * FROM objects WHERE event_id = ? AND tier = ?", event_id, clip.tier)
        row = next(
            (row for row in found if row[:2] == (event_id, clip.tier) and (row[5] != "waiting" or _is_object(row, clip.sha256))), None
        )
        # An object that cannot be read is one that was dropped, and so is one whose state is damaged, which the table does not take.
        for words in (row, (event_id, clip.tier, clip.length, None, None, "dropped")):
            if words is not None:
                conn.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?, ?, ?)", words)
        count += row is not None and row[5] == "waiting"
    return count


def _readable(conn: sqlite3.Connection, query: str, *words: object) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeDecodeError):
        rows.extend(conn.execute(query, words))
    return rows


def _highest(conn: sqlite3.Connection) -> int:
    found = _readable(conn, "SELECT max(place) FROM events")
    return int(str(found[0][0] or 0)) if found else _MOST_PLACES


def event_in(payload: Any, event_id: Any) -> Event | None:
    """The event in a row that is filed under `event_id`; None where the disk lost some of it."""
    try:
        event = Event.from_bytes(payload) if isinstance(payload, bytes) else None
    except WireError:
        return None
    return event if event and event.event_id == event_id else None


def _is_object(row: tuple[Any, ...], sha256: str) -> bool:
    return isinstance(row[4], bytes) and hashlib.sha256(row[4]).hexdigest() == sha256
