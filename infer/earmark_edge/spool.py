"""The outbox: sealed parcels on disk until the service's signed receipt lies beside them. Every change is one durable transaction."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from earmark_edge.event import Event, Receipt
from earmark_edge.keys import unwritten
from earmark_edge.oneline import one_line
from earmark_edge.salvage import event_in, is_broken, lenient, moved_aside, salvage
from earmark_edge.seal import SealedParcel

SPOOL_FILE = "outbox.db"
RESERVE_FILE = "outbox.reserve"
RESERVE_BYTES = 1 << 20
"""Kept on the disk so that a full one still has room to note what has to be dropped."""
MOST_WAIT_S = 24 * 3600.0
_FIRST_WAIT_S = 60.0
_VERSION = 1
_BUSY_TIMEOUT_S = 30.0


class SpoolError(RuntimeError):
    """The outbox cannot be used; the message says why."""


class SpoolFullError(SpoolError):
    """The disk has no room, not even for an event without its clips."""


@dataclass(frozen=True, slots=True)
class SpooledEvent:
    """An event that waits: what to send, and in which state it is."""

    event_id: str
    payload: bytes
    signature: bytes
    is_urgent: bool
    state: str

    @property
    def event(self) -> Event:
        """The event itself."""
        return Event.from_bytes(self.payload)


@dataclass(frozen=True, slots=True)
class SpooledObject:
    """A sealed object that waits."""

    event_id: str
    tier: int
    ciphertext: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """What the outbox holds: what waits, its ciphertext in bytes, and how many were dropped, set aside, or damaged."""

    events: int
    objects: int
    waiting_bytes: int
    dropped: int
    set_aside: int
    damaged: int


def refusals(path: Path) -> list[str]:
    """Why the service refused each event that waits to be tried again, in order; nothing is written, whoever else has the file open.

    Raises:
        SpoolError: it cannot be read.
    """
    query = "SELECT trouble FROM events WHERE trouble != '' AND state IN ('waiting', 'announced') ORDER BY place"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)) as conn:
            return [trouble for (trouble,) in conn.execute(query)]
    except sqlite3.Error as error:
        msg = f"{path}: the outbox cannot be read ({error})"
        raise SpoolError(msg) from error


class Spool:
    """An SQLite file (WAL, synchronous=FULL). `cap_bytes` bounds the ciphertext in it; events themselves are never dropped.

    `step` is called at every durable step, by name, before and after it; a test kills the process there.

    Raises:
        SpoolError: the file cannot be opened, or is of a later version.
        sqlite3.DatabaseError, UnicodeDecodeError: it is damaged; `open_spool` moves it aside.
    """

    def __init__(
        self,
        path: Path,
        cap_bytes: int,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.path, self._cap_bytes, self._now, self._step = path, cap_bytes, now, step
        self._inode: int | None = None
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            msg = f"{path}: the outbox cannot be made ({error.strerror}); {unwritten(error)}"
            raise SpoolError(msg) from error
        self._conn = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._conn.text_factory = lenient
        try:
            self._prepare()
        except BaseException:
            self._conn.close()
            raise
        self._inode = path.stat().st_ino

    def _prepare(self) -> None:
        conn = self._conn
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            conn.execute(f"PRAGMA {pragma}")
        problem = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]  # quick_check passes over a damaged index
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        version = conn.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            msg = f"{self.path}: written by a newer version of earmark; update this one"
            raise SpoolError(msg)
        conn.executescript(files("earmark_edge").joinpath("spool.sql").read_text(encoding="utf-8"))
        conn.execute(f"PRAGMA user_version = {_VERSION}")
        self._keep_reserve()

    def close(self) -> None:
        """Let go of the file."""
        self._inode = None
        self._conn.close()

    @property
    def is_moved(self) -> bool:
        """Whether this is no longer the outbox: it was closed, or found damaged and moved aside by whoever noticed first."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    def reopened(self, tell: Callable[[str], None]) -> Spool:
        """The outbox in its place, this one closed; see `open_spool`."""
        self.close()
        return open_spool(self.path, self._cap_bytes, tell, now=self._now, step=self._step)

    def put(self, sealed: SealedParcel, *, is_urgent: bool) -> bool:
        """Store a parcel durably; False where its event is here already, whatever became of it.

        Over `cap_bytes` the oldest object of an event that is not urgent goes first, originals before masked ones and pictures, and the
        urgent ones last; every event stays. On a full disk the same makes room, and in the end the parcel is kept without its objects.

        Raises:
            SpoolFullError: not even the event finds room; nothing was stored.
        """
        with contextlib.suppress(sqlite3.OperationalError):
            return self._put(sealed, is_urgent, with_objects=True)
        (self.path.parent / RESERVE_FILE).unlink(missing_ok=True)
        try:
            return self._put_on_full_disk(sealed, is_urgent=is_urgent)
        except sqlite3.OperationalError as error:
            msg = f"{self.path}: no room for event {sealed.event.event_id} ({error}); free some disk space"
            raise SpoolFullError(msg) from error
        finally:
            self._keep_reserve()

    def _put_on_full_disk(self, sealed: SealedParcel, *, is_urgent: bool) -> bool:
        needed = sum(len(made.ciphertext) for made in sealed.objects.values())
        for room_bytes in (needed, 0):  # where there is none to make, the reserve's own may do
            with contextlib.suppress(sqlite3.OperationalError):
                self._make_room(room_bytes)
                return self._put(sealed, is_urgent, with_objects=True)
        return self._put(sealed, is_urgent, with_objects=False)

    def _put(self, sealed: SealedParcel, is_urgent: bool, *, with_objects: bool) -> bool:  # noqa: FBT001 - `put` names it
        event_id = sealed.event.event_id
        with self.change("put") as conn:
            if conn.execute("SELECT 1 FROM events WHERE event_id = ?", (event_id,)).fetchone():
                return False
            words = (event_id, sealed.payload, sealed.signature, is_urgent, self._now().isoformat())
            conn.execute("INSERT INTO events (event_id, payload, signature, is_urgent, spooled_at) VALUES (?, ?, ?, ?, ?)", words)
            for tier, made in sealed.objects.items():
                kept = (made.wrapped, made.ciphertext, "waiting") if with_objects else (None, None, "dropped")
                row = (event_id, tier, len(made.ciphertext), *kept)
                conn.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?)", row)
            self._drop_down_to(conn, self._cap_bytes)
        return True

    def _make_room(self, needed_bytes: int) -> None:
        with self.change("make room") as conn:
            self._drop_down_to(conn, max(0, self._waiting_bytes(conn) - needed_bytes))

    def _drop_down_to(self, conn: sqlite3.Connection, most_bytes: int) -> None:
        excess = self._waiting_bytes(conn) - most_bytes
        if excess <= 0:
            return
        order = "tier = 0, is_urgent, place, tier DESC"  # a score track is small, and what a reviewer needs most
        query = f"SELECT event_id, tier, length FROM objects JOIN events USING (event_id) WHERE objects.state = 'waiting' ORDER BY {order}"  # noqa: S608 - our own words
        victims = []
        for event_id, tier, length in conn.execute(query):
            victims.append((event_id, tier))
            excess -= length
            if excess <= 0:
                break
        conn.executemany("UPDATE objects SET state = 'dropped', ciphertext = NULL, wrapped = NULL WHERE event_id = ? AND tier = ?", victims)

    def next_event(self) -> SpooledEvent | None:
        """The event whose metadata goes next: urgent ones first, then in the order in which they came."""
        return self._next("events.state = 'waiting'")

    def next_dropped(self) -> tuple[SpooledEvent, tuple[int, ...]] | None:
        """An event that the service has, and those of its tiers that it must be told will never come."""
        told = "SELECT 1 FROM objects WHERE objects.event_id = events.event_id AND objects.state = 'dropped'"
        left = told.replace("'dropped'", "'waiting'")  # what can still be sent goes first, so that this is said once, at the end
        found = self._next(f"events.state = 'announced' AND EXISTS ({told}) AND NOT EXISTS ({left})")
        if found is None:
            return None
        query = "SELECT tier FROM objects WHERE event_id = ? AND state = 'dropped' ORDER BY tier"
        return found, tuple(tier for (tier,) in self._conn.execute(query, (found.event_id,)))

    def next_object(self) -> SpooledObject | None:
        """The object that goes next: of urgent events first, then in the order in which they came, small tiers before large ones."""
        here = "EXISTS (SELECT 1 FROM objects WHERE objects.event_id = events.event_id AND objects.state = 'waiting')"
        query = "SELECT event_id, tier, ciphertext, wrapped FROM objects WHERE event_id = ? AND state = 'waiting' ORDER BY tier LIMIT 1"
        while (found := self._next(f"events.state = 'announced' AND {here}")) is not None:
            sealed = SpooledObject(*self._conn.execute(query, (found.event_id,)).fetchone())
            declared = next(clip for clip in found.event.clips if clip.tier == sealed.tier)
            if hashlib.sha256(sealed.ciphertext).hexdigest() == declared.sha256:
                return sealed
            with self.change("damaged object") as conn:  # the disk lost some of it, so it will never come
                lost = "UPDATE objects SET state = 'dropped', ciphertext = NULL, wrapped = NULL WHERE event_id = ? AND tier = ?"
                conn.execute(lost, (sealed.event_id, sealed.tier))
        return None

    def _next(self, condition: str) -> SpooledEvent | None:
        """A time to wait for that lies further ahead than any wait is long was set before the clock jumped, and is over."""
        now = self._now().timestamp()
        query = (
            "SELECT event_id, payload, signature, is_urgent, state FROM events "  # noqa: S608 - our own words
            f"WHERE {condition} AND (not_before <= ? OR not_before > ?) ORDER BY is_urgent DESC, place LIMIT 1"
        )
        while (row := self._conn.execute(query, (now, now + MOST_WAIT_S)).fetchone()) is not None:
            if event_in(row[1], row[0]):
                return SpooledEvent(row[0], row[1], row[2], bool(row[3]), row[4])
            self._end("damaged", "event_id = ?", (row[0],))  # the disk lost some of it, so nobody can take it
        return None

    def event(self, event_id: str) -> SpooledEvent | None:
        """An event that was ever put here."""
        query = "SELECT event_id, payload, signature, is_urgent, state FROM events WHERE event_id = ?"
        row = self._conn.execute(query, (event_id,)).fetchone()
        return SpooledEvent(row[0], row[1], row[2], bool(row[3]), row[4]) if row else None

    def record_receipt(self, receipt: Receipt, raw: bytes, signature: bytes) -> None:
        """Keep a receipt whose signature was checked, and wipe what it says the service holds."""
        with self.change("receipt") as conn:
            is_done = not receipt.tiers_missing
            words = (raw, signature, receipt.received_at, "delivered" if is_done else "announced", receipt.event_id)
            conn.execute(
                "UPDATE events SET receipt = ?, receipt_signature = ?, received_at = ?, state = ?, failures = 0, not_before = 0, "
                "trouble = '' WHERE event_id = ?",
                words,
            )
            wipe = "UPDATE objects SET state = ?, ciphertext = NULL, wrapped = NULL WHERE event_id = ? AND tier = ? AND state != 'dropped'"
            conn.executemany(wipe, [("held", receipt.event_id, tier) for tier in receipt.tiers_held])
            lost = "UPDATE objects SET state = 'dropped' WHERE event_id = ? AND tier = ? AND state IN ('held', 'wiped')"
            conn.executemany(lost, [(receipt.event_id, tier) for tier in receipt.tiers_missing])  # it was restored from an older copy
            if is_done:  # whatever is left, the service does not wait for
                left = "UPDATE objects SET state = 'dropped', ciphertext = NULL, wrapped = NULL WHERE event_id = ? AND state = 'waiting'"
                conn.execute(left, (receipt.event_id,))
        self._give_back_pages()

    def record_gone(self, event_id: str) -> None:
        """The service proved that it deleted the event: wipe it here too."""
        self._end("gone", "event_id = ?", (event_id,))

    def waiting_consents(self) -> set[str]:
        """The names of the records of consent under which something waits."""
        return {event.consent_id for event in self._open_events()}

    def withdraw(self, consent_id: str) -> int:
        """Consent ended: wipe what was not delivered under it, and return how many events that were."""
        mine = [event.event_id for event in self._open_events() if event.consent_id == consent_id]
        for event_id in mine:
            self._end("withdrawn", "event_id = ?", (event_id,))
        return len(mine)

    def _open_events(self) -> list[Event]:
        """The events that wait. One of which the disk lost some is given up and wiped: nobody can take it, and it must hold up no other."""
        query = "SELECT event_id, payload FROM events WHERE state IN ('waiting', 'announced') ORDER BY place"
        found = {event_id: event_in(payload, event_id) for event_id, payload in self._conn.execute(query)}
        for event_id in (event_id for event_id, event in found.items() if event is None):
            self._end("damaged", "event_id = ?", (event_id,))
        return [event for event in found.values() if event]

    def _end(self, state: str, condition: str, words: tuple[str, ...]) -> None:
        with self.change(state) as conn:
            conn.execute(f"UPDATE events SET state = ?, trouble = '' WHERE {condition}", (state, *words))  # noqa: S608 - our own words
            wipe = f"UPDATE objects SET state = 'wiped', ciphertext = NULL, wrapped = NULL WHERE {condition} AND state = 'waiting'"  # noqa: S608 - our own words
            conn.execute(wipe, words)
        self._give_back_pages()

    def set_aside(self, event_id: str, trouble: str) -> None:
        """The service refused this event: try it again later and later, at most once a day, and go on with the others."""
        with self.change("set aside") as conn:
            (failures,) = conn.execute("SELECT failures FROM events WHERE event_id = ?", (event_id,)).fetchone()
            not_before = self._now().timestamp() + min(MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures, 20))
            words = (failures + 1, not_before, trouble[:400], event_id)
            conn.execute("UPDATE events SET failures = ?, not_before = ?, trouble = ? WHERE event_id = ?", words)

    def retry_all(self) -> None:
        """What was set aside is due at once."""
        with self.change("retry") as conn:
            conn.execute("UPDATE events SET not_before = 0 WHERE not_before > 0")

    def keep_status(self, event_id: str, status: bytes) -> None:
        """Keep what the service said became of an event."""
        with self.change("status") as conn:
            conn.execute("UPDATE events SET status = ? WHERE event_id = ?", (status, event_id))

    def rows(self) -> Iterator[sqlite3.Row]:
        """Every event ever put here that can be read, in order, for the ledger: with the tiers in each state, without ciphertext."""
        conn = self._conn
        cursor = conn.execute(
            "SELECT event_id, payload, is_urgent, spooled_at, state, received_at, trouble, status, "
            "(SELECT group_concat(tier) FROM objects o WHERE o.event_id = e.event_id AND o.state = 'held') AS held, "
            "(SELECT group_concat(tier) FROM objects o WHERE o.event_id = e.event_id AND o.state = 'dropped') AS dropped, "
            "(SELECT group_concat(tier) FROM objects o WHERE o.event_id = e.event_id AND o.state = 'waiting') AS waiting "
            "FROM events e WHERE state != 'damaged' ORDER BY place"
        )
        cursor.row_factory = sqlite3.Row
        yield from (row for row in cursor if event_in(row["payload"], row["event_id"]))

    def known(self) -> int:
        """How many events were ever put here, those of which the disk lost some among them."""
        return int(self._conn.execute("SELECT count(*) FROM events").fetchone()[0])

    def counts(self) -> Counts:
        """What waits and what was given up."""
        conn = self._conn
        (events,) = conn.execute("SELECT count(*) FROM events WHERE state IN ('waiting', 'announced')").fetchone()
        (objects,) = conn.execute("SELECT count(*) FROM objects WHERE state = 'waiting'").fetchone()
        (dropped,) = conn.execute("SELECT count(*) FROM objects WHERE state = 'dropped'").fetchone()
        (damaged,) = conn.execute("SELECT count(*) FROM events WHERE state = 'damaged'").fetchone()
        (aside,) = conn.execute("SELECT count(*) FROM events WHERE trouble != '' AND state IN ('waiting', 'announced')").fetchone()
        return Counts(events, objects, self._waiting_bytes(conn), dropped, aside, damaged)

    @staticmethod
    def _waiting_bytes(conn: sqlite3.Connection) -> int:
        return int(conn.execute("SELECT coalesce(sum(length), 0) FROM objects WHERE state = 'waiting'").fetchone()[0])

    @contextmanager
    def change(self, name: str) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block is over, or undone."""
        self._step(f"before {name}")
        self._conn.execute("BEGIN IMMEDIATE")
        try:
            yield self._conn
            self._step(f"inside {name}")
            self._conn.execute("COMMIT")
        except BaseException:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            raise
        self._step(f"after {name}")

    def _give_back_pages(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk cannot hold the log of it; the pages are used again instead
            self._conn.execute("PRAGMA incremental_vacuum(256)").fetchall()

    def _keep_reserve(self) -> None:
        reserve = self.path.parent / RESERVE_FILE
        try:
            if not reserve.exists() or reserve.stat().st_size < RESERVE_BYTES:
                reserve.write_bytes(bytes(RESERVE_BYTES))
                reserve.chmod(0o600)
        except OSError:
            reserve.unlink(missing_ok=True)


def open_spool(
    path: Path,
    cap_bytes: int,
    tell: Callable[[str], None],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    step: Callable[[str], None] = lambda _name: None,
) -> Spool:
    """The outbox at `path`; a damaged file is moved aside, told of, and what can still be read of it goes into a fresh one.

    Raises:
        SpoolError: it cannot be opened for another reason than damage.
    """
    try:
        return Spool(path, cap_bytes, now=now, step=step)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_broken(error):
            is_full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            advice = "make room on that disk" if is_full else "is its folder this user's to write?"
            msg = f"{path}: the outbox cannot be opened ({error}); {advice}"
            raise SpoolError(msg) from error
        aside = moved_aside(path, now())
        fresh = Spool(path, cap_bytes, now=now, step=step)
        events, objects = salvage(aside, fresh)
        tell(
            f"{path}: damaged ({one_line(error)}); moved to {aside.name}; {events} events and {objects} clips of it could be read and go on"
        )
        return fresh
