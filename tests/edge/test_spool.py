import hashlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.edge.parcels import sealed

from earmark_edge.event import Receipt
from earmark_edge.ledger import LedgerEntry, lines_of
from earmark_edge.salvage import salvage
from earmark_edge.spool import MOST_WAIT_S, RESERVE_BYTES, RESERVE_FILE, Spool, SpoolError, SpoolFullError, open_spool

CAP = 1 << 20


class Clock:
    def __init__(self):
        self.at = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spool(tmp_path, clock):
    opened = Spool(tmp_path / "state" / "outbox.db", CAP, now=clock)
    yield opened
    opened.close()


def receipt(made, held=(0, 3), missing=(), dropped=()):
    return Receipt(made.event.event_id, hashlib.sha256(made.payload).hexdigest(), "2026-01-31T12:00:00+00:00", held, missing, dropped)


def acknowledge(spool, made, **tiers):
    told = receipt(made, **tiers)
    spool.record_receipt(told, told.to_bytes(), bytes(64))


def waiting(spool):
    """Everything that waits, by what would go first."""
    order = []
    while (event := spool.next_event()) is not None:
        order.append(event.event_id)
        spool._conn.execute("UPDATE events SET state = 'announced' WHERE event_id = ?", (event.event_id,))
    while (found := spool.next_object()) is not None:
        order.append((found.event_id, found.tier))
        spool._conn.execute("UPDATE objects SET state = 'held' WHERE event_id = ? AND tier = ?", (found.event_id, found.tier))
    return order


def states(spool):
    return {(row[0], row[1]): row[2] for row in spool._conn.execute("SELECT event_id, tier, state FROM objects")}


def test_metadata_goes_first_and_urgent_before_all_others(spool):
    for number, is_urgent in ((1, False), (2, True), (3, False)):
        assert spool.put(sealed(number), is_urgent=is_urgent)
    assert waiting(spool) == [
        *("event-2", "event-1", "event-3"),
        *(("event-2", 0), ("event-2", 3), ("event-1", 0), ("event-1", 3), ("event-3", 0), ("event-3", 3)),
    ]


def test_an_event_is_taken_once_whatever_became_of_it(spool):
    made = sealed(1)
    assert spool.put(made, is_urgent=False)
    assert not spool.put(made, is_urgent=False)
    acknowledge(spool, made)
    assert not spool.put(made, is_urgent=False)
    assert spool.counts().events == 0


def test_what_is_put_is_there_after_a_restart(spool, tmp_path, clock):
    made = sealed(1)
    spool.put(made, is_urgent=True)
    again = Spool(spool.path, CAP, now=clock)
    event = again.next_event()
    assert (event.payload, event.signature, event.is_urgent) == (made.payload, made.signature, True)
    again.close()


def test_only_what_the_receipt_names_is_wiped_and_leaves_no_byte_behind(spool):
    made = sealed(1)
    spool.put(made, is_urgent=False)
    acknowledge(spool, made, held=(0,), missing=(3,))
    assert states(spool) == {("event-1", 0): "held", ("event-1", 3): "waiting"}
    assert spool.next_object().ciphertext == made.objects[3].ciphertext
    acknowledge(spool, made)
    assert spool.next_object() is None
    spool._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for path in spool.path.parent.iterdir():
        assert made.objects[3].ciphertext[100:200] not in path.read_bytes()


def test_an_object_that_the_service_lost_again_is_given_up(spool):
    made = sealed(1)
    spool.put(made, is_urgent=False)
    acknowledge(spool, made)
    acknowledge(spool, made, held=(0,), missing=(3,))  # it was restored from an older copy
    assert spool.next_dropped()[1] == (3,)


def test_over_the_cap_the_oldest_audio_that_is_not_urgent_goes_first_and_no_event(tmp_path, clock):
    spool = Spool(tmp_path / "outbox.db", 35_000, now=clock)
    for number, is_urgent in ((1, True), (2, False), (3, False), (4, False), (5, True)):
        spool.put(sealed(number, audio_bytes=10_000), is_urgent=is_urgent)
    given_up = {key for key, state in states(spool).items() if state == "dropped"}
    assert given_up == {("event-2", 3), ("event-3", 3)}
    for number in (6, 7, 8):
        spool.put(sealed(number, audio_bytes=10_000), is_urgent=True)
    given_up = {key for key, state in states(spool).items() if state == "dropped"}
    assert {("event-2", 3), ("event-3", 3), ("event-4", 3), ("event-1", 3), ("event-5", 3)} == given_up, "urgent ones last, oldest first"
    assert spool.counts().waiting_bytes <= 35_000
    assert spool.counts().events == 8
    spool.close()


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=12), cap=st.integers(1, 60))
def test_the_cap_holds_and_every_event_stays(tmp_path_factory, sizes, cap):
    spool = Spool(tmp_path_factory.mktemp("spool") / "outbox.db", cap * 1_000)
    for number, (size, is_urgent) in enumerate(sizes):
        spool.put(sealed(number, audio_bytes=size * 1_000 + 1), is_urgent=is_urgent)
        assert spool.counts().waiting_bytes <= cap * 1_000
    assert spool.counts().events == len(sizes)
    spool.close()


def test_a_dropped_object_is_told_once_the_service_has_the_event(tmp_path, clock):
    spool = Spool(tmp_path / "outbox.db", 500, now=clock)
    made = sealed(1)
    spool.put(made, is_urgent=False)
    assert spool.next_dropped() is None
    acknowledge(spool, made, held=(), missing=(0, 3))
    assert spool.next_dropped() is None, "what can still be sent goes first"
    acknowledge(spool, made, held=(0,), missing=(3,))
    event, tiers = spool.next_dropped()
    assert (event.event_id, tiers) == ("event-1", (3,))
    acknowledge(spool, made, held=(0,), dropped=(3,))
    assert spool.next_dropped() is None
    assert spool.counts().events == 0
    spool.close()


def test_a_refused_event_waits_longer_each_time_up_to_a_day_and_holds_up_no_other(spool, clock):
    spool.put(sealed(1), is_urgent=True)
    spool.put(sealed(2), is_urgent=False)
    waits = []
    for _ in range(16):
        spool.set_aside("event-1", "refused")
        assert spool.next_event().event_id == "event-2"
        before = clock.at
        while spool.next_event().event_id != "event-1":
            clock.at += timedelta(minutes=1)
        waits.append((clock.at - before).total_seconds())
    assert waits == sorted(waits)
    assert waits[:3] == [60, 120, 240]
    assert waits[-1] == MOST_WAIT_S
    assert spool.counts().set_aside == 1
    spool.set_aside("event-1", "refused")
    spool.retry_all()
    assert spool.next_event().event_id == "event-1"


@pytest.mark.parametrize("hours", [-1, 1, -24 * 365, 24 * 365])
def test_a_clock_that_jumps_delays_nothing_for_longer_than_a_wait(spool, clock, hours):
    spool.put(sealed(1), is_urgent=False)
    spool.put(sealed(2), is_urgent=False)
    spool.set_aside("event-1", "refused")
    clock.at += timedelta(hours=hours)
    assert spool.next_event() is not None, "what is due stays due"
    clock.at += timedelta(hours=1, minutes=1)
    assert spool.next_event().event_id == "event-1"


def test_withdrawn_consent_wipes_what_was_not_delivered_under_it(spool):
    one, two = sealed(1), sealed(2)
    for made in (one, two):
        spool.put(made, is_urgent=False)
    acknowledge(spool, one)
    assert spool.withdraw("another") == 0
    assert spool.withdraw(one.event.consent_id) == 1
    assert spool.next_event() is None
    assert spool.counts().waiting_bytes == 0
    assert [row["state"] for row in spool.rows()] == ["delivered", "withdrawn"]


def test_a_spool_of_a_newer_version_is_refused(spool, clock):
    spool._conn.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolError, match="newer version"):
        open_spool(spool.path, CAP, pytest.fail, now=clock)


def test_the_files_are_their_owners_alone(spool):
    spool.put(sealed(1), is_urgent=False)
    assert len(list(spool.path.parent.iterdir())) >= 2
    for path in spool.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert spool.path.parent.stat().st_mode & 0o077 == 0


# A full disk


def pages(spool):
    return spool._conn.execute("PRAGMA page_count").fetchone()[0]


@pytest.mark.parametrize("room_pages", [0, 1, 2, 3, 5, 8, 12, 13, 20, 40])
def test_on_a_full_disk_older_audio_makes_room_and_no_event_is_lost(spool, room_pages):
    for number in range(6):
        spool.put(sealed(number, audio_bytes=20_000), is_urgent=False)
    spool._conn.execute(f"PRAGMA max_page_count = {pages(spool) + room_pages}")
    for number in range(6, 12):
        assert spool.put(sealed(number, audio_bytes=20_000), is_urgent=number == 7)
    assert spool.counts().events == 12
    assert (spool.counts().dropped == 0) == (room_pages >= 40)
    assert states(spool)["event-7", 3] == "waiting", "the urgent one keeps its audio"
    assert spool._conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


class FullDisk:
    """A connection whose next writes fail as on a full disk, one after the other."""

    def __init__(self, conn, fails):
        self._conn, self._fails, self.writes = conn, fails, 0

    def __getattr__(self, name):
        return getattr(self._conn, name)

    def _write(self, words):
        if words.lstrip().split()[0] in {"BEGIN", "INSERT", "UPDATE", "COMMIT"}:
            self.writes += 1
            if self.writes in self._fails:
                msg = "database or disk is full"
                raise sqlite3.OperationalError(msg)

    def execute(self, words, *rest):
        self._write(words)
        return self._conn.execute(words, *rest)

    def executemany(self, words, *rest):
        self._write(words)
        return self._conn.executemany(words, *rest)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_disk_that_is_full_at_any_one_write_loses_nothing(spool, at):
    spool.put(sealed(1), is_urgent=False)
    whole, spool._conn = spool._conn, FullDisk(spool._conn, {at})
    assert spool.put(sealed(2), is_urgent=False)
    spool._conn = whole
    assert [row["event_id"] for row in spool.rows()] == ["event-1", "event-2"]
    assert (spool.path.parent / RESERVE_FILE).stat().st_size == RESERVE_BYTES


@pytest.mark.parametrize("at", range(1, 6))
def test_a_receipt_that_finds_no_room_wipes_nothing_and_is_asked_for_again(spool, at):
    made = sealed(1)
    spool.put(made, is_urgent=False)
    whole, spool._conn = spool._conn, FullDisk(spool._conn, {at})
    with pytest.raises(sqlite3.OperationalError):
        acknowledge(spool, made)
    spool._conn = whole
    assert spool.next_event().event_id == "event-1"
    assert set(states(spool).values()) == {"waiting"}
    acknowledge(spool, made)
    assert spool.counts().events == 0


def test_where_not_even_an_event_finds_room_it_is_said(spool):
    whole, spool._conn = spool._conn, FullDisk(spool._conn, set(range(1_000)))
    with pytest.raises(SpoolFullError, match="event-1"):
        spool.put(sealed(1), is_urgent=False)
    spool._conn = whole
    assert spool.counts().events == 0
    assert spool.put(sealed(1), is_urgent=False)


# A damaged file


@cache
def full(count):
    """The bytes of an outbox with so many events."""
    with TemporaryDirectory() as folder:
        return filled(Path(folder) / "outbox.db", Clock(), count).read_bytes()


def filled(path, clock, count=12):
    spool = Spool(path, CAP, now=clock)
    for number in range(count):
        spool.put(sealed(number, audio_bytes=9_000), is_urgent=False)
    spool.close()
    return path


def reopened(path, clock):
    told = []
    spool = open_spool(path, CAP, told.append, now=clock)
    return spool, told


@pytest.mark.parametrize("content", [b"", b"\x00" * 8_192, b"not a database at all, but long enough to look at" * 300])
def test_a_file_that_is_no_database_is_moved_aside_and_a_fresh_one_goes_on(tmp_path, clock, content):
    path = filled(tmp_path / "outbox.db", clock)
    path.write_bytes(content)
    spool, told = reopened(path, clock)
    assert spool.put(sealed(99), is_urgent=False)
    if content:
        (line,) = told
        assert "moved to outbox.db.damaged-" in line
        assert [found.read_bytes() for found in tmp_path.glob("outbox.db.damaged-*") if not found.name.endswith(("-wal", "-shm"))] == [
            content
        ]
    spool.close()


def test_an_event_and_a_clip_of_which_only_the_state_is_damaged_are_not_lost(tmp_path, clock):
    path = filled(tmp_path / "outbox.db", clock, count=3)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        raw.execute("UPDATE events SET state = 'nonsense' WHERE event_id = 'event-1'")
        raw.execute("UPDATE objects SET state = 'nonsense' WHERE event_id = 'event-2' AND tier = 3")
    raw.close()
    spool, (line,) = reopened(path, clock)
    assert "3 events" in line
    waiting = spool._conn.execute("SELECT event_id FROM events WHERE state = 'waiting' ORDER BY place").fetchall()
    assert waiting == [("event-0",), ("event-1",), ("event-2",)]
    assert [key for key, state in states(spool).items() if state == "dropped"] == [("event-2", 3)]
    spool.close()


@settings(max_examples=30, deadline=None)
@given(where=st.floats(0, 1), length=st.integers(1, 5_000), value=st.sampled_from([0x00, 0xFF, 0x41]))
@example(where=0.8245507869832509, length=69, value=0)  # only what was noted beside an event
@example(where=0.48033745736031463, length=1, value=0)  # one byte of an index
def test_damage_anywhere_never_stops_the_outbox_and_what_can_be_read_goes_on(tmp_path_factory, where, length, value):
    clock = Clock()
    path = tmp_path_factory.mktemp("spool") / "outbox.db"
    content = bytearray(full(12))
    start = int(where * (len(content) - 1))
    length = min(length, len(content) - start)
    content[start : start + length] = bytes([value]) * length
    path.write_bytes(content)
    spool, told = reopened(path, clock)
    assert spool.put(sealed(99), is_urgent=False)
    kept = spool.counts()
    assert kept.events >= (1 if told else 13), "without a word, nothing is missing"
    for event in iter(spool.next_event, None):  # nothing that is given out is half a thing
        assert event.event.event_id == event.event_id
        spool._conn.execute("UPDATE events SET state = 'announced' WHERE event_id = ?", (event.event_id,))
    for found in iter(spool.next_object, None):
        [clip] = [clip for clip in spool.event(found.event_id).event.clips if clip.tier == found.tier]
        assert hashlib.sha256(found.ciphertext).hexdigest() == clip.sha256
        spool._conn.execute("UPDATE objects SET state = 'held' WHERE event_id = ? AND tier = ?", (found.event_id, found.tier))
    assert spool.counts().events + spool.counts().damaged >= kept.events
    spool.close()


@pytest.mark.parametrize("damaged", [b"NU\xff\xff", b"\xff" * 30, b"XXXX"])
def test_a_damaged_schema_is_moved_aside_whatever_sqlite_says_of_it(tmp_path, clock, damaged):
    path = filled(tmp_path / "outbox.db", clock, count=3)
    content = bytearray(path.read_bytes())
    for word in (b"NULL UNIQUE", b"received_at TEXT"):
        at = content.index(word)
        content[at : at + len(damaged)] = damaged
    path.write_bytes(content)
    spool, (line,) = reopened(path, clock)
    assert "moved to outbox.db.damaged-" in line
    assert line.isprintable()
    assert spool.put(sealed(99), is_urgent=False)
    spool.close()


def test_a_remark_of_which_letters_are_damaged_costs_no_event(spool):
    spool.put(sealed(1), is_urgent=False)
    spool._conn.execute("UPDATE events SET trouble = CAST(x'6eff6f' AS TEXT), received_at = CAST(x'ff' AS TEXT)")
    (row,) = spool.rows()
    assert row["trouble"] == "n\ufffdo"
    assert any("a time that this device's disk lost" in line for line in lines_of(LedgerEntry.of(row, None)))
    fresh = Spool(spool.path.parent / "fresh.db", CAP)
    assert salvage(spool.path, fresh) == (1, 2)
    fresh.close()


def test_one_damaged_clip_costs_its_audio_and_no_other_event(tmp_path, clock):
    path = filled(tmp_path / "outbox.db", clock)
    content = bytearray(path.read_bytes())
    middle = sealed(5, audio_bytes=9_000).objects[3].ciphertext
    at = content.find(middle[1_000:1_100])
    assert at > 0
    page = at // 4096 * 4096
    content[page : page + 4] = b"\xff\xff\xff\xff"  # the link from one overflow page to the next
    path.write_bytes(content)
    spool, (line,) = reopened(path, clock)
    assert "12 events and 23 clips" in line
    assert [key for key, state in states(spool).items() if state == "dropped"] == [("event-5", 3)]
    spool.close()


def test_a_salvaged_object_whose_bytes_changed_is_not_given_out(tmp_path, clock):
    path = filled(tmp_path / "outbox.db", clock, count=1)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE objects SET ciphertext = x'00' WHERE tier = 3")
        raw.execute("UPDATE events SET payload = payload")
    raw.close()
    fresh = Spool(tmp_path / "fresh.db", CAP, now=clock)
    assert salvage(path, fresh) == (1, 1)
    assert states(fresh) == {("event-0", 0): "waiting", ("event-0", 3): "dropped"}
    fresh.close()


def test_a_thousand_events_in_a_minute_are_all_kept(spool):
    one = sealed(0)
    for number in range(1_000):
        event = replace(one.event, event_id=f"event-{number}", seq=number)
        assert spool.put(replace(one, event=event, payload=event.to_bytes()), is_urgent=False)
    assert spool.counts().events == 1_000
