"""What only matters where cases lie on another engine than SQLite's: keys apart, moving there, and a server that goes and comes."""

from __future__ import annotations

import shutil

import pytest
from sqlalchemy import func, select
from tests.review.house import CONSENTED, House
from tests.review.sendings import sending
from typer.testing import CliRunner

from earmark_edge.consent import Consent
from earmark_review import audit
from earmark_review.cli import app
from earmark_review.errors import DatabaseError, KeyGoneError
from earmark_review.keystore import SignedRecord, open_keystore
from earmark_review.store.database import Database
from earmark_review.store.schema import metadata

ON_POSTGRES = pytest.mark.parametrize("engine", ["postgresql"], indirect=True)


@pytest.fixture(params=["a file", "postgresql"])
def keys(request, tmp_path):
    url = request.getfixturevalue("postgres").create() if request.param == "postgresql" else None
    opened = open_keystore(tmp_path / "wrapped.db", url)
    yield opened
    opened.close()


def test_keys_are_found_until_they_are_destroyed_with_their_event(keys):
    for tier in (0, 2, 3):
        keys.keep(1, "event-1", tier, bytes([tier]) * 80)
    keys.keep(1, "event-2", 2, b"other")
    keys.keep(2, "event-1", 2, b"another device's")
    keys.keep(1, "event-1", 2, b"again")
    assert (keys.find(1, "event-1", 2), keys.find(1, "event-1", 3)) == (b"again", b"\3" * 80)
    assert len(keys.everything()) == 5
    assert keys.destroy(1, "event-1") == 3
    assert keys.destroy(1, "event-1") == 0
    for tier in (0, 2, 3):
        with pytest.raises(KeyGoneError):
            keys.find(1, "event-1", tier)
    assert (keys.find(1, "event-2", 2), keys.find(2, "event-1", 2)) == (b"other", b"another device's")


def test_what_was_deleted_is_noted_once_and_for_good(keys):
    assert keys.erased() == set()
    keys.note_erased([])
    keys.note_erased([(1, "event-1"), (2, "event-1")])
    keys.note_erased({(1, "event-1"), (1, "ü'); --")})
    assert keys.erased() == {(1, "event-1"), (2, "event-1"), (1, "ü'); --")}


def test_of_the_records_of_consent_that_were_noted_the_last_of_each_name_counts(keys):
    assert keys.noted_consents() == {}
    keys.note_consent(1, "consent-1", SignedRecord(b"first", b"\0" * 64))
    keys.note_consent(2, "consent-1", SignedRecord(b"another device's", b"\1" * 64))
    keys.note_consent(1, "consent-1", SignedRecord(b"last", b"\2" * 64))
    assert keys.noted_consents() == {
        (1, "consent-1"): SignedRecord(b"last", b"\2" * 64),
        (2, "consent-1"): SignedRecord(b"another device's", b"\1" * 64),
    }


@pytest.mark.parametrize("url", ["sqlite:///keys.db", "mysql://x/y"])
def test_a_key_store_at_another_address_is_refused(tmp_path, url):
    with pytest.raises(DatabaseError, match="postgresql://"):
        open_keystore(tmp_path / "wrapped.db", url)


def contents(database):
    with database.reading() as conn:
        return {table.name: conn.execute(select(table).order_by(*table.primary_key)).all() for table in metadata.sorted_tables}


def test_an_installation_moves_to_postgresql_and_goes_on_there(house, sender, ada, one_case, postgres, monkeypatch):
    ada.decide(one_case, "play", "a note, ä and a line\nbreak")
    sender.send(sending("event-2", masked=True))
    sender.send(sending("event-4"))
    house.service.delete_event("kitchen", "event-4")
    sender.give_consent(Consent("consent-0", **CONSENTED, withdrawn_at="2026-03-01T00:00:00+00:00"))
    noted = house.service.keys.noted_consents()
    assert len(noted) == 1
    before = contents(house.service.database)
    assert before["verdicts"]
    house.service.close()
    to, keys_to = postgres.create(), postgres.create()
    words = ["move", "--data", str(house.data), "--to", to, "--keys-to", keys_to]
    outcome = CliRunner().invoke(app, words)
    assert outcome.exit_code == 0, outcome.output
    assert f"{len(before['audit_log'])} entries of the log" in outcome.stdout

    moved = House(house.data, house.clock, "postgresql", database=to, keys=keys_to)
    assert contents(moved.service.database) == before
    assert (moved.service.keys.erased(), moved.service.keys.noted_consents()) == ({(1, "event-4")}, noted)
    browser = moved.browser("ada")
    [case_id] = browser.case_ids()
    assert browser.decide(case_id).status_code == 303  # opens under the moved key, gets numbers after those that came along
    (house.data / "keys" / "wrapped.db").unlink()
    assert moved.device("hall").send(sending("event-3", device="hall")).tiers_held == (0, 3)
    assert audit.first_break(moved.log()) is None
    moved.service.close()

    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "give an empty one" in again.stderr


def test_clips_move_to_an_s3_store_and_back(house, sender, ada, one_case, s3):
    url, keys = f"s3://{s3.bucket()}/clips", sorted(house.service.blobs.list_keys())
    [lost, *_] = keys
    house.service.close()
    move = ["move", "--data", str(house.data), "--blobs-to"]
    outcome = CliRunner().invoke(app, [*move, url])
    assert (outcome.exit_code, "3 of 3 clips copied" in outcome.stdout) == (0, True), outcome.output
    shutil.rmtree(house.data / "blobs")

    house.knobs["blobs"] = url
    house.open()
    assert sorted(house.service.blobs.list_keys()) == keys
    assert house.browser("ada").decide(one_case, "cannot_tell").status_code == 303
    house.service.blobs.remove(lost)
    there = {"EARMARK_REVIEW_BLOBS": url}
    back = CliRunner().invoke(app, [*move, "folder"], env=there)
    assert (back.exit_code, "2 of 3 clips copied" in back.stdout, f"{lost}: not copied" in back.stderr) == (1, True, True)
    assert "lie in" in CliRunner().invoke(app, [*move, url], env=there).stderr
    assert CliRunner().invoke(app, ["move", "--data", str(house.data)]).exit_code == 2


def test_a_move_that_breaks_off_copies_nothing(house, one_case, postgres, monkeypatch):
    url = postgres.create()
    monkeypatch.setattr("earmark_review.store.moving._check_log", lambda *_: 1 / 0)
    outcome = CliRunner().invoke(app, ["move", "--data", str(house.data), "--to", url])
    assert isinstance(outcome.exception, ZeroDivisionError)
    database = Database(url)
    with database.reading() as conn:
        assert [conn.execute(select(func.count()).select_from(table)).scalar() for table in metadata.sorted_tables if table.name] == [
            0
        ] * len(metadata.sorted_tables)
    database.close()


@ON_POSTGRES
def test_past_one_machine_nothing_of_the_cases_lies_in_the_data_folder(house, sender):
    sender.send(sending())
    assert {path.name for path in house.data.iterdir()} == {"keys"}
