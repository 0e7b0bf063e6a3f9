"""Work of many callers in one round: nobody waits for company, nobody is left waiting, and nobody suffers for a neighbour."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError
from tests.review.house import full_disk
from tests.review.sendings import sending
from tests.waiting import until

from earmark_edge.event import Receipt
from earmark_edge.picture import PICTURE_MEDIA_TYPE
from earmark_review import audit
from earmark_review.store.schema import events, tombstones
from earmark_review.together import MOST, Together

COMPANY = 6
KINDS = {0: "application/json", 1: PICTURE_MEDIA_TYPE, 2: "audio/flac", 3: "audio/flac"}


class Rounds:
    """Notes the rounds; the first one lasts until it is let go."""

    def __init__(self):
        self.done, self.go_on = [], Event()
        self.together = Together(self.act)

    def act(self, works):
        if not self.done:
            self.done.append(list(works))
            assert self.go_on.wait(30)
        else:
            self.done.append(list(works))
        if "broken round" in works:
            raise BrokenPipeError
        return [ValueError(work) if work == "bad" else f"{work}!" for work in works]

    def gather(self, works):
        """One round for the first, and whatever follows once all the others wait; what became of each."""
        with ThreadPoolExecutor(len(works)) as pool:
            first = pool.submit(self.together.run, works[0])
            until(lambda: self.done)
            asked = [first, *(pool.submit(self.together.run, work) for work in works[1:])]
            until(lambda: len(self.together._waiting) == len(works) - 1)
            self.go_on.set()
            return [one.exception(30) or one.result() for one in asked]


def test_a_caller_without_company_is_served_at_once_alone():
    rounds = Rounds()
    rounds.go_on.set()
    assert [rounds.together.run(work) for work in "abc"] == ["a!", "b!", "c!"]
    assert rounds.done == [["a"], ["b"], ["c"]]


def test_whoever_comes_during_a_round_is_in_the_next_one_with_the_others():
    rounds = Rounds()
    assert rounds.gather(list("abcdef")) == [f"{work}!" for work in "abcdef"]
    assert [sorted(works) for works in rounds.done] == [["a"], list("bcdef")]


def test_a_round_has_an_end_and_the_rest_get_one_of_their_own():
    rounds = Rounds()
    works = [str(number) for number in range(MOST + 12)]
    assert rounds.gather(works) == [f"{work}!" for work in works]
    assert [len(done) for done in rounds.done] == [1, MOST, 11]


def test_an_error_of_ones_own_is_no_neighbours():
    assert [str(outcome) for outcome in Rounds().gather(["a", "b", "bad", "c"])] == ["a!", "b!", "bad", "c!"]


def test_a_round_that_breaks_is_told_to_all_of_it_and_the_next_one_goes_on():
    rounds = Rounds()
    first, *rest = rounds.gather(["a", "b", "broken round", "c"])
    assert first == "a!"
    assert [type(outcome) for outcome in rest] == [BrokenPipeError] * 3
    assert rounds.together.run("d") == "d!"


@contextmanager
def company(database, count):
    """While the block runs, writers gather; as it ends, one has a round alone and the others share the next."""
    with database._turn:
        yield
        until(lambda: len(database._together._waiting) == count - 1)


def all_at_once(database, acts):
    """What became of each act, all but one of which are in one transaction."""
    with ThreadPoolExecutor(len(acts)) as pool:
        with company(database, len(acts)):
            asked = [pool.submit(act) for act in acts]
        return [one.exception(30) or one.result() for one in asked]


def commits(database):
    """Counts them, while it is asked to."""
    counted = []
    event.listen(database._engine, "commit", lambda _conn: counted.append(1))
    return counted


def writer(house, number, *, fails=False):
    """Leaves a tombstone, which is as good as anything, and an entry in the log."""

    def write(conn):
        audit.append(conn, house.clock(), "test", audit.Action.EVENT_DELETED, f"event:{number}")
        conn.execute(tombstones.insert().values(device_id=1, event_id=f"event-{number}", deleted_at=house.clock()))
        if fails:
            conn.execute(tombstones.insert().values(device_id=1, event_id=f"event-{number}", deleted_at=house.clock()))
        return number

    return lambda: house.service.database.write_together(write)


def written(house):
    with house.service.database.reading() as conn:
        return set(conn.scalars(select(tombstones.c.event_id)).all())


def test_writers_share_a_transaction_and_its_place_in_the_log(house, sender):
    before, counted = len(house.log()), commits(house.service.database)
    assert all_at_once(house.service.database, [writer(house, number) for number in range(COMPANY)]) == list(range(COMPANY))
    assert len(counted) == 2
    assert written(house) == {f"event-{number}" for number in range(COMPANY)}
    assert len(house.log()) == before + COMPANY
    assert audit.first_break(house.log()) is None


def test_one_bad_write_fails_alone_and_leaves_nothing_behind(house, sender):
    before = len(house.log())
    outcomes = all_at_once(house.service.database, [writer(house, number, fails=number in {2, 4}) for number in range(COMPANY)])
    assert [type(outcome) is int for outcome in outcomes] == [True, True, False, True, False, True]
    assert written(house) == {"event-0", "event-1", "event-3", "event-5"}
    assert len(house.log()) == before + 4
    assert audit.first_break(house.log()) is None


def test_a_commit_that_fails_is_told_to_all_who_shared_it_and_nothing_is_there(house, sender):
    def breaks(_conn):
        if len(tried) == 1:
            tried.append(2)
            raise OperationalError(*("COMMIT", {}, OSError("the disk is gone")))
        tried.append(1)

    tried, engine = [], house.service.database._engine
    event.listen(engine, "commit", breaks)
    outcomes = all_at_once(house.service.database, [writer(house, number) for number in range(COMPANY)])
    event.remove(engine, "commit", breaks)
    assert sorted(map(str, map(type, outcomes))) == sorted(map(str, [int, *[OperationalError] * (COMPANY - 1)]))
    assert len(written(house)) == 1
    assert [writer(house, number)() for number, outcome in enumerate(outcomes) if outcome != number]
    assert len(written(house)) == COMPANY


def test_a_full_disk_answers_all_who_shared_a_transaction_with_an_error_and_takes_none_of_them(house, sender):
    """And whoever sends again once there is room finds that it was not taken."""
    first, *parcels = [of_more_than_half_a_page(number) for number in range(COMPANY + 1)]
    assert sender.post(first.payload).status_code == 201
    with full_disk(house):
        answers = all_at_once(house.service.database, [lambda one=one: sender.post(one.payload) for one in parcels])
    assert [answer.status_code for answer in answers] == [503] * COMPANY
    with house.service.database.reading() as conn:
        assert conn.scalars(select(events.c.event_id)).all() == [first.event.event_id]
    assert [sender.post(one.payload).status_code for one in parcels] == [201] * COMPANY
    assert house.actions().count("event.received") == COMPANY + 1
    assert audit.first_break(house.log()) is None


def of_more_than_half_a_page(number):
    """An event of which no two fit onto one page of 4 kB."""
    long = "\N{HOUSE BUILDING}" * 120
    one = sending(f"{number}{long}", seq=number, boot_id=long, plain={tier: (kind, b"{}") for tier, kind in KINDS.items()})
    assert 2100 < len(one.payload) < 4000
    return one


def test_events_of_many_devices_that_come_at_once_each_get_their_own_receipt(house):
    senders = [house.device(f"device-{number}") for number in range(COMPANY)]
    parcels = [sending(f"event-{number}", device=one.name, seq=number) for number, one in enumerate(senders)]
    counted = commits(house.service.database)
    acts = [lambda one=one, parcel=parcel: one.post(parcel.payload) for one, parcel in zip(senders, parcels, strict=True)]
    answers = all_at_once(house.service.database, acts)
    assert len(counted) == 2 + COMPANY  # each device is looked up in a transaction of its own, which changes nothing
    assert [answer.status_code for answer in answers] == [201] * COMPANY
    assert [Receipt.from_bytes(answer.content).event_id for answer in answers] == [parcel.event.event_id for parcel in parcels]


def test_the_same_event_twice_in_one_transaction_is_taken_once(house, sender):
    one = sending()
    answers = all_at_once(house.service.database, [lambda: sender.post(one.payload)] * COMPANY)
    assert sorted(answer.status_code for answer in answers) == [200] * (COMPANY - 1) + [201]
    assert len({answer.content for answer in answers}) == 1
    assert house.actions().count("event.received") == 1


@pytest.mark.parametrize("late", [1, COMPANY])
def test_an_event_deleted_while_its_clip_is_under_way_takes_nothing_from_the_clips_beside_it(house, sender, late):
    """The transaction that they shared is undone; each then has one of its own."""
    parcels = [sending(f"event-{number}", seq=number, plain={3: ("audio/flac", b"sound")}) for number in range(COMPANY)]
    for one in parcels:
        assert sender.post(one.payload).status_code == 201
    doomed = {f"event-{number}" for number in range(COMPANY - late, COMPANY)}

    def put(one):
        return sender.put(one.event.event_id, 3, one.objects[3])

    database = house.service.database
    with ThreadPoolExecutor(COMPANY) as pool:
        with company(database, COMPANY):
            asked = [pool.submit(put, one) for one in parcels]
            until(lambda: len(database._together._waiting) == COMPANY - 1)
            with house.service.database._engine.begin() as conn:  # as another process would, in between
                rows = [{"device_id": 1, "event_id": name, "deleted_at": house.clock()} for name in doomed]
                conn.execute(tombstones.insert(), rows)
        answers = [one.result(30) for one in asked]
    assert [answer.status_code for answer in answers] == [410 if one.event.event_id in doomed else 201 for one in parcels]
    assert len(house.service.blobs.list_keys()) == COMPANY - late
    assert len(house.service.keys.everything()) == COMPANY - late
    assert house.actions().count("object.held") == COMPANY - late
