"""What breaks around the service: a server that restarts, a disk that is full, a worker that dies, a blob that cannot be read, a clock."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.review.callers import Sender
from tests.review.house import full_disk
from tests.review.postgres import postgres_with_little_room
from tests.review.sendings import sending

from earmark_edge.event import Receipt
from earmark_review import audit
from earmark_review.accounts import Role, SignedIn
from earmark_review.cases import LeaseTerms
from earmark_review.errors import AuditUnavailableError, BlobStoreError, KeyGoneError, KeyStoreError
from earmark_review.store import leases
from earmark_review.store.database import Database
from earmark_review.web.app import keep_house_once

ON_POSTGRES = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
ON_BOTH = pytest.mark.parametrize("engine", ["sqlite", "postgresql"], indirect=True)
TERMS = LeaseTerms(300, 3600)


@ON_POSTGRES
def test_a_database_server_that_crashes_and_comes_back_keeps_what_was_acknowledged(house, sender, postgres):
    first = sender.post(sending().payload)
    assert first.status_code == 201
    postgres.stop("immediate")
    try:
        refused = sender.post(sending("event-2").payload)
    finally:
        postgres.start()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    again = sender.post(sending().payload)
    assert (again.status_code, again.content) == (200, first.content)
    assert sender.post(sending("event-2").payload).status_code == 201
    assert audit.first_break(house.log()) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system of one's own takes root")
def test_a_server_whose_disk_is_full_takes_nothing_and_loses_nothing(open_house):
    with postgres_with_little_room(megabytes=120) as (server, data):
        house = open_house(database=server.create())
        sender = house.device()
        first = sender.post(sending("event-0").payload)
        ballast = data / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(2**16))
        answers = [sender.post(sending(f"event-{number}").payload) for number in range(1, 40)]
        ballast.unlink()
        server.restart()
        assert first.status_code == 201
        taken = [number for number, answer in enumerate([first, *answers]) if answer.status_code == 201]
        assert {answer.status_code for answer in answers} <= {201, 503}
        assert 503 in {answer.status_code for answer in answers}
        for number, answer in enumerate([first, *answers]):
            again = sender.post(sending(f"event-{number}").payload)
            assert again.status_code == (200 if number in taken else 201)
            assert number not in taken or again.content == answer.content
        assert house.actions().count("event.received") == 40
        assert audit.first_break(house.log()) is None


def test_a_full_disk_takes_nothing_and_loses_nothing(house, sender):
    with full_disk(house, spare_pages=3):
        answers = [sender.post(sending(f"event-{number}").payload) for number in range(40)]
    taken = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    assert {answer.status_code for answer in answers} == {201, 503}
    for number, answer in enumerate(answers):
        again = sender.post(sending(f"event-{number}").payload)
        assert again.status_code == (200 if number in taken else 201)
        assert number not in taken or again.content == answer.content
    assert house.actions().count("event.received") == 40
    assert audit.first_break(house.log()) is None


@ON_POSTGRES
def test_a_worker_that_dies_in_the_middle_holds_nothing_and_keeps_nobody_waiting(house, sender, ada, bea):
    for number in range(2):
        sender.send(sending(f"event-{number}"))
    people = [SignedIn(number, number, name, Role.REVIEWER) for number, name in ((1, "ada"), (2, "bea"))]
    dying, living = Database(house.knobs["database"]), house.service.database

    def claim_and_die():
        with dying.writing() as conn:
            pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
            first = leases.next_case(conn, people[0], house.clock())
            leases.claim(conn, first, people[0], TERMS, 1, house.clock())
            with living.writing() as other:  # the row that the first one holds is passed over, without waiting for it
                passed_over.extend([first, leases.next_case(other, people[1], house.clock())])
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    passed_over = []
    with pytest.raises((OperationalError, AuditUnavailableError)):  # whichever statement was the first to hear of it
        claim_and_die()
    first, second = passed_over
    assert second not in {None, first}
    dying._engine.dispose()
    with living.writing() as conn:
        assert leases.next_case(conn, people[1], house.clock()) == first
        assert leases.claim(conn, first, people[1], TERMS, 1, house.clock()).case_id == first
    assert house.actions().count("case.claimed") == 1


@ON_BOTH
@pytest.mark.parametrize("jump_s", [-86_400, -1, 3 * 3600, 366 * 86_400])
def test_a_clock_that_jumps_breaks_no_chain_and_gives_nobody_a_second_holder(house, sender, ada, bea, one_case, clock, jump_s):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    clock.advance(jump_s)
    late = house.browser("ada")
    late.client.cookies.set("earmark_session", ada.client.cookies["earmark_session"], domain="review.test", path="/")
    answer = late.act(one_case, "verdict", token, verdict="play")
    assert answer.status_code == 303 if jump_s < 0 else answer.status_code in {401, 403, 409}
    assert sender.post(sending("event-2").payload).status_code == 201
    assert house.actions().count("case.decided") == (jump_s < 0)
    assert audit.first_break(house.log()) is None


@pytest.fixture
def take_blobs_away(house, engine, monkeypatch):
    """Lets the store of clips refuse everything until `monkeypatch.undo`: an S3 store that nobody answers for, or a disk that fails."""

    def take_away():
        if engine == "postgresql":
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            house.reopen()
        else:
            for name in ("rename", "unlink", "read_bytes"):
                monkeypatch.setattr(Path, name, lambda *_words, **_more: (_ for _ in ()).throw(OSError(5, "Input/output error")))

    return take_away


@ON_BOTH
def test_a_store_of_clips_that_is_away_acknowledges_nothing_and_takes_it_once_it_is_back(house, sender, monkeypatch, take_blobs_away):
    one = sending()
    sender.post(one.payload)
    take_blobs_away()
    refused = Sender(house.app, sender.token).put("event-1", 3, one.objects[3])
    assert (refused.status_code, refused.headers["retry-after"], refused.json()["type"]) == (503, "5", "urn:earmark:problem:blob-store")
    assert "127.0.0.1" not in refused.text
    monkeypatch.undo()
    house.reopen()
    sender = Sender(house.app, sender.token)
    assert Receipt.from_bytes(sender.post(one.payload).content).tiers_held == ()
    assert "object.held" not in house.actions()
    assert sender.put("event-1", 3, one.objects[3]).status_code == 201


@ON_BOTH
def test_what_is_deleted_while_the_store_of_clips_is_away_is_deleted_and_its_bytes_follow(house, sender, monkeypatch, take_blobs_away):
    for number in range(2):
        sender.send(sending(f"event-{number}"))
    take_blobs_away()
    with pytest.raises(BlobStoreError, match="its keys are destroyed"):
        house.service.erase_household("consent-1")
    assert house.actions().count("event.deleted") == 2
    assert house.actions()[-1] == "household.erased"
    with pytest.raises(KeyGoneError):
        house.service.keys.find(1, "event-0", 3)
    monkeypatch.undo()
    house.reopen()
    assert len(house.service.blobs.list_keys()) == 4
    assert house.service.blobs.sweep(set(), datetime.now(UTC) + timedelta(seconds=5)) >= 4
    assert house.service.blobs.list_keys() == []


@ON_BOTH
def test_a_clip_that_the_store_does_not_give_is_told_and_the_page_is_shown(house, ada, one_case, monkeypatch, take_blobs_away):
    ada.claim(one_case)
    take_blobs_away()
    ada = signed_in_again(house, ada)
    answer = ada.client.get(f"/cases/{one_case}/clip")
    page = ada.client.get(f"/cases/{one_case}")
    monkeypatch.undo()
    house.reopen()
    assert answer.status_code == 503
    assert (page.status_code, "cannot be read" in page.text) == (200, True)
    assert signed_in_again(house, ada).client.get(f"/cases/{one_case}/clip").status_code == 200


def signed_in_again(house, browser):
    again = type(browser)(house.app)
    again.client.cookies = browser.client.cookies
    return again


@pytest.fixture
def keys_away(house):
    """While the block runs, another process holds the store of keys and does not let go."""

    @contextmanager
    def taken():
        house.service.keys._conn.execute("PRAGMA busy_timeout = 50")
        with closing(sqlite3.connect(house.data / "keys" / "wrapped.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")

    return taken


def test_a_store_of_keys_that_is_away_acknowledges_nothing_and_takes_it_once_it_is_back(house, sender, keys_away):
    one = sending()
    sender.post(one.payload)
    with keys_away():
        refused = sender.put("event-1", 0, one.objects[0])
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["type"] == "urn:earmark:problem:key-store"
    assert house.service.blobs.list_keys() == []
    assert sender.put("event-1", 0, one.objects[0]).status_code == 201


def test_a_verdict_stands_while_keys_cannot_be_destroyed_and_they_go_once_they_can(house, ada, one_case, keys_away):
    with keys_away():
        assert ada.decide(one_case, "play").headers["location"].startswith("/queue")
        assert house.service.shred_due() == 0
    assert house.actions().count("case.decided") == 1
    assert len(house.service.keys.everything()) == 3
    assert house.service.shred_due() == 1
    assert (house.service.keys.everything(), house.service.blobs.list_keys()) == ([], [])


def test_one_clip_that_cannot_be_removed_keeps_no_other_case_from_going(house, sender, ada, monkeypatch, clock):
    for number in range(3):
        sender.send(sending(f"event-{number}"))
    kept, remove = house.service.blobs.list_keys()[0], type(house.service.blobs).remove

    def refusing(store, key):
        if key == kept:
            raise BlobStoreError(key)
        remove(store, key)

    monkeypatch.setattr(type(house.service.blobs), "remove", refusing)
    clock.advance(73 * 3600)
    assert house.service.shred_due() == 2
    assert house.service.keys.everything() == []  # that case's, too: keys go first
    monkeypatch.undo()
    assert house.service.shred_due() == 1
    assert house.service.blobs.list_keys() == []


def test_a_deletion_without_the_store_of_keys_is_refused_and_can_be_given_again(house, one_case, keys_away, monkeypatch):
    with keys_away(), pytest.raises(KeyStoreError, match="nothing was done"):
        house.service.delete_event("kitchen", "event-1")
    house.service.delete_event("kitchen", "event-1")
    assert house.actions()[-1] == "event.deleted"


def test_a_round_of_upkeep_that_fails_is_told_and_the_next_one_goes_on(house, one_case, clock, monkeypatch, caplog):
    clock.advance(73 * 3600)
    monkeypatch.setattr(Database, "truncate_log", lambda _self: 1 / 0)
    keep_house_once(house.service, 1)
    assert "could not be kept" in caplog.text
    monkeypatch.undo()
    keep_house_once(house.service, 2)
    assert house.service.blobs.list_keys() == []
