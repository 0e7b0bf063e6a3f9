"""What has to go goes: keys first, then bytes, then rows, and nothing of it is left in any file."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.review.callers import Sender
from tests.review.conftest import ON_SQLITE
from tests.review.house import CONSENTED
from tests.review.sendings import sending

from earmark_edge.consent import Consent
from earmark_review import audit
from earmark_review.cases import Verdict
from earmark_review.errors import KeyGoneError
from earmark_review.keystore import SignedRecord
from earmark_review.store.consents import consent_of
from earmark_review.store.devices import device_of
from earmark_review.store.golden import add_golden
from earmark_review.store.overview import overview
from earmark_review.store.schema import cases
from earmark_review.store.statuses import statuses_of
from earmark_review.web import app as web_app
from earmark_review.web.serving import running

HOURS = 3600


def states(house):
    with house.service.database.reading() as conn:
        return conn.scalars(select(cases.c.state)).all()


def blobs(house):
    return house.service.blobs.list_keys()


def test_what_is_decided_is_shredded_at_once_keys_first(house, ada, one_case, monkeypatch):
    order = []
    for owner, name in ((type(house.service.keys), "destroy"), (type(house.service.blobs), "remove")):
        kept = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *words, _kept=kept, _name=name: (order.append(_name), _kept(*words))[1])
    assert len(blobs(house)) == 3
    ada.decide(one_case, "play", "a note")
    assert (states(house), blobs(house)) == (["shredded"], [])
    assert order == ["destroy", "remove", "remove", "remove"]
    for tier in (0, 2, 3):
        with pytest.raises(KeyGoneError):
            house.service.keys.find(1, "event-1", tier)
    assert "a note" in ada.client.get(f"/cases/{one_case}").text  # the verdict stays
    assert house.actions()[-2:] == ["case.shredded", "case.viewed"]


def test_undecided_cases_expire_after_72_hours_and_not_before(house, ada, one_case, clock):
    clock.advance(72 * HOURS - 1)
    assert house.service.shred_due() == 0
    clock.advance(1)
    assert house.service.shred_due() == 1
    assert (states(house), blobs(house)) == (["shredded"], [])
    assert house.browser("ada").case_ids() == []
    assert "Nobody decided it in time" in house.browser("ada").client.get(f"/cases/{one_case}").text


def test_a_case_in_hand_is_not_taken_away_and_goes_once_its_claim_is_over(house, ada, one_case, clock):
    clock.advance(72 * HOURS - 10)
    ada = house.browser("ada")
    ada.claim(one_case)
    clock.advance(20)
    assert house.service.shred_due() == 0
    clock.advance(house.service.settings.lease_s)
    assert house.service.shred_due() == 1


def test_a_shredding_that_is_cut_off_goes_on_with_the_next(house, ada, one_case, monkeypatch):
    monkeypatch.setattr(type(house.service.blobs), "remove", lambda _self, _key: (_ for _ in ()).throw(OSError("power cut")))
    ada.decide(one_case, "play")
    assert states(house) == ["final"]
    monkeypatch.undo()
    assert house.service.shred_due() == 1
    assert (states(house), blobs(house)) == (["shredded"], [])


def test_a_replay_after_shredding_brings_nothing_back(house, sender, ada, one_case, make_sending):
    ada.decide(one_case, "play")
    one = make_sending(masked=True)
    sender.post(one.payload)
    for tier, payload in one.objects.items():
        sender.put("event-1", tier, payload)
    assert (states(house), blobs(house)) == (["shredded"], [])
    with pytest.raises(KeyGoneError):
        house.service.keys.find(1, "event-1", 2)


def test_an_object_that_comes_after_its_case_ran_out_is_not_taken(house, sender, clock, make_sending):
    one = make_sending(masked=True)
    sender.post(one.payload)
    sender.put("event-1", 0, one.objects[0])
    clock.advance(72 * HOURS)
    assert house.service.shred_due() == 1
    assert sender.put("event-1", 2, one.objects[2]).status_code == 410
    assert blobs(house) == []
    with pytest.raises(KeyGoneError):
        house.service.keys.find(1, "event-1", 2)


@ON_SQLITE
def test_a_deleted_note_is_in_no_byte_of_any_file(house, ada, one_case):
    mark = "a note that nobody else would ever have written"
    ada.decide(one_case, "play", mark)
    house.service.delete_event("kitchen", "event-1")
    files = [path for path in house.data.rglob("*") if path.is_file()]
    assert any(path.name == "review.db" for path in files)
    assert [path.name for path in files if mark.encode() in path.read_bytes()] == []
    assert ada.client.get(f"/cases/{one_case}").status_code == 404


@pytest.fixture
def restore(house, engine, request, tmp_path):
    """Takes a backup as docs/review.md says, rows and clips without the keys, and gives what puts it in the place of what is there."""

    def back_up():
        clips = {key: house.service.blobs.read(key) for key in house.service.blobs.list_keys()}
        if engine == "postgresql":
            server, dump = request.getfixturevalue("postgres"), tmp_path / "backup"
            server.dump(house.knobs["database"], dump)
        else:
            with closing(sqlite3.connect(house.data / "review.db")) as live, closing(sqlite3.connect(tmp_path / "backup.db")) as copy:
                live.backup(copy)

        def put_back():
            house.service.close()
            if engine == "postgresql":
                server.drop(house.knobs["database"])
                house.knobs["database"] = server.restore(dump)
            else:
                shutil.copy(tmp_path / "backup.db", house.data / "review.db")
            for key, content in clips.items():
                house.tamper(key, content)
            house.open()

        return put_back

    return back_up


def test_a_restored_backup_opens_nothing_that_was_let_go_of(house, ada, one_case, restore):
    put_back = restore()
    ada.decide(one_case, "play")
    assert blobs(house) == []
    put_back()
    assert (states(house), len(blobs(house))) == (["ready"], 3)
    ada = house.browser("ada")
    ada.claim(one_case)
    assert ada.client.get(f"/cases/{one_case}/clip").status_code == 410
    assert "key was destroyed" in ada.client.get(f"/cases/{one_case}").text
    for tier in (0, 2, 3):
        with pytest.raises(KeyGoneError):
            house.service.keys.find(1, "event-1", tier)


@pytest.mark.parametrize("goes_by", ["deletion", "household"])
def test_a_restored_backup_brings_back_nothing_that_was_deleted(house, sender, ada, one_case, restore, make_sending, goes_by):
    house.consent(consent_id="consent-2")
    sender.send(make_sending("event-2", consent_id="consent-2"))
    put_back = restore()
    if goes_by == "deletion":
        house.service.delete_event("kitchen", "event-1")
    else:
        house.service.erase_household("consent-1")
    put_back()
    assert (states(house), len(blobs(house))) == (["ready"], 2)
    assert house.browser("ada").client.get(f"/cases/{one_case}").status_code == 404
    assert Sender(house.app, sender.token).post(make_sending(masked=True).payload).status_code == 410
    again = [entry for entry in house.log() if entry.action == "event.deleted_after_restore"]
    assert [(entry.actor, entry.subject, entry.detail) for entry in again] == [("service", "event:kitchen/event-1", {"was_back": True})]
    house.reopen()
    assert house.actions().count("event.deleted_after_restore") == 1
    assert audit.first_break(house.log()) is None


def test_a_backup_older_than_a_deleted_event_lets_it_in_no_more(house, sender, restore, make_sending):
    put_back = restore()
    sender.send(make_sending())
    house.service.delete_event("kitchen", "event-1")
    put_back()
    sender = Sender(house.app, sender.token)
    assert sender.post(make_sending().payload).status_code == 410
    assert sender.post(make_sending("event-2").payload).status_code == 201


def test_a_deletion_that_was_cut_off_before_its_rows_went_is_done_at_the_next_start(house, one_case, monkeypatch):
    monkeypatch.setattr("earmark_review.service.delete_event", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        house.service.delete_event("kitchen", "event-1")
    assert states(house) == ["ready"]
    house.reopen()
    assert (states(house), blobs(house)) == ([], [])


def test_what_an_earlier_version_deleted_is_noted_with_the_keys(house, sender, one_case, make_sending):
    house.service.delete_event("kitchen", "event-1")
    house.service.keys._conn.execute("DROP TABLE erased_events")
    house.reopen()
    assert house.service.keys.erased() == {(1, "event-1")}


GIVEN = Consent("consent-1", **{**CONSENTED, "may_train": True})
WITHDRAWN = replace(GIVEN, withdrawn_at="2026-03-01T20:30:00+00:00")
AGAIN = "consent.recorded_after_restore"


def record_of(house, consent_id="consent-1"):
    with house.service.database.reading() as conn:
        return consent_of(conn, 1, consent_id)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [(WITHDRAWN, {"withdrawn": True}), (replace(GIVEN, may_train=False, tiers=(0, 1)), {"may_train": False, "tiers": [0, 1]})],
    ids=["withdrawn", "narrowed"],
)
def test_a_restored_backup_revives_no_consent_that_was_taken_back(house, sender, ada, one_case, restore, changed, wrong):
    assert sender.give_consent(GIVEN).status_code == 204
    ada.decide(one_case, "play")
    assert (states(house), len(blobs(house))) == (["final"], 3)  # kept to train with
    put_back = restore()
    assert sender.give_consent(changed).status_code == 204
    assert house.service.shred_due() == 1
    put_back()

    assert record_of(house) == changed  # before anybody is answered
    assert Sender(house.app, sender.token).post(sending("event-2").payload).status_code == 403
    assert house.service.shred_due() == 1
    assert (states(house), blobs(house)) == (["shredded"], [])
    [entry] = [entry for entry in house.log() if entry.action == AGAIN]
    assert (entry.actor, entry.subject) == ("service", "device:kitchen")
    assert entry.detail == {"consent": "consent-1", "tiers": [0, 1, 2, 3], "may_train": True, "withdrawn": False, "was_known": True} | wrong
    house.reopen()
    assert house.actions().count(AGAIN) == 1
    assert audit.first_break(house.log()) is None


def test_a_withdrawal_closes_what_is_undecided_and_takes_it_out_of_the_hands_of_whoever_holds_it(house, sender, ada, bea, one_case):
    sender.give_consent(GIVEN)
    house.consent(consent_id="consent-2")
    sender.send(sending("event-2", masked=True))
    sender.post(sending("event-3").payload)  # whose objects never came
    sender.send(sending("event-4", consent_id="consent-2"))
    assert ada.claim(one_case).status_code == 303
    lease = ada.lease_of(one_case)
    assert ada.client.get(f"/cases/{one_case}/clip").status_code == 200

    assert sender.give_consent(WITHDRAWN).status_code == 204
    assert sorted(states(house)) == ["ready", "withdrawn", "withdrawn", "withdrawn"]
    late = [ada.client.get(f"/cases/{one_case}/clip", headers={"accept": "*/*"}), ada.act(one_case, "heartbeat", lease)]
    late.append(ada.act(one_case, "verdict", lease, verdict="play"))
    assert [answer.status_code for answer in late] == [409, 409, 409]
    assert "took its consent back" in late[-1].text
    assert len(bea.case_ids()) == 1
    entries = [entry for entry in house.log() if entry.action == "case.withdrawn"]
    assert [entry.is_alert for entry in entries] == [True] * 3
    assert [entry.detail["holder"] for entry in entries if entry.subject == f"case:{one_case}"] == ["ada"]

    assert house.service.shred_due() == 3
    assert house.service.shred_due() == 0
    assert sorted(states(house)) == ["ready", "withdrawn", "withdrawn", "withdrawn"]
    assert len(blobs(house)) == 2
    assert [event_id for _, event_id, _, _ in house.service.keys.everything()] == ["event-4", "event-4"]
    assert "took its consent back" in ada.client.get(f"/cases/{one_case}").text
    assert ada.client.get("/decided").text.count("Withdrawn, undecided") == 3
    with house.service.database.reading() as conn:
        assert overview(conn, house.clock()).expired.count == 0
        assert [told.state for told in statuses_of(conn, device_of(conn, sender.token), ["event-1"])] == ["withdrawn"]
    assert audit.first_break(house.log()) is None


def test_a_case_that_someone_is_at_as_its_consent_goes_is_closed_the_next_time(house, sender, ada, one_case, monkeypatch):
    ada.claim(one_case)
    monkeypatch.setattr("earmark_review.store.leases.take_away", lambda *_: None)
    sender.give_consent(WITHDRAWN)
    assert states(house) == ["leased"]
    monkeypatch.undo()
    house.service.shred_due()
    assert (states(house), blobs(house)) == (["withdrawn"], [])


def test_a_golden_case_whose_consent_was_withdrawn_is_handed_to_nobody_after_a_restore(house, sender, ada, one_case, restore):
    sender.give_consent(GIVEN)
    ada.decide(one_case, "play")
    with house.service.database.writing() as conn:
        add_golden(conn, one_case, Verdict.PLAY, house.clock())
    assert states(house) == ["ready"]
    put_back = restore()
    sender.give_consent(WITHDRAWN)
    put_back()
    assert house.user("bea").claim(one_case).status_code == 409
    assert states(house) == ["withdrawn"]


def test_a_backup_older_than_a_consent_that_was_withdrawn_does_not_take_it_from_whoever_replays_it(house, sender, restore):
    later = replace(GIVEN, consent_id="consent-2")
    put_back = restore()
    for record in (later, replace(later, withdrawn_at=WITHDRAWN.withdrawn_at)):
        assert sender.give_consent(record).status_code == 204
    put_back()
    sender = Sender(house.app, sender.token)
    assert sender.give_consent(later).status_code == 422
    assert record_of(house, "consent-2").withdrawn_at == WITHDRAWN.withdrawn_at
    assert [entry.detail["was_known"] for entry in house.log() if entry.action == AGAIN] == [False]


def test_a_withdrawal_stays_whatever_was_noted_beside_the_keys(house, sender):
    """Such as where the service ran without the note for a while."""
    record = SignedRecord(replace(GIVEN, tiers=(0,)).to_bytes(), bytes(64))
    sender.give_consent(WITHDRAWN)
    house.service.keys.note_consent(1, "consent-1", record)
    house.reopen()
    assert record_of(house) == WITHDRAWN
    assert house.service.keys.noted_consents()[1, "consent-1"].payload == WITHDRAWN.to_bytes()
    assert AGAIN not in house.actions()


def test_what_was_withdrawn_under_an_earlier_version_is_noted_with_the_keys(house, sender):
    sender.give_consent(GIVEN)
    sender.give_consent(WITHDRAWN)
    noted = house.service.keys.noted_consents()
    assert [record.payload for record in noted.values()] == [WITHDRAWN.to_bytes()]
    house.service.keys._conn.execute("DROP TABLE noted_consents")
    house.reopen()
    assert house.service.keys.noted_consents() == noted


def test_a_withdrawal_that_cannot_be_noted_is_not_acknowledged(house, sender):
    sender.give_consent(GIVEN)
    house.service.keys.close()
    answer = sender.give_consent(WITHDRAWN)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:earmark:problem:key-store")
    assert record_of(house) == GIVEN


@ON_SQLITE
def test_no_byte_of_what_was_deleted_stays_after_a_restored_backup(house, ada, one_case, restore):
    mark = "a note that nobody else would ever have written"
    ada.decide(one_case, "play", mark)
    put_back = restore()
    house.service.delete_event("kitchen", "event-1")
    put_back()
    files = [path for path in house.data.rglob("*") if path.is_file()]
    assert any(path.name == "review.db" for path in files)
    assert [path.name for path in files if mark.encode() in path.read_bytes()] == []


def test_a_running_server_lets_go_by_itself(open_house, make_sending, clock, monkeypatch):
    monkeypatch.setattr(web_app, "UPKEEP_S", 0.05)
    house = open_house(port=0)
    house.device().send(make_sending(masked=True))
    clock.advance(73 * HOURS)
    with running(house.service):
        for _ in range(200):
            if states(house) == ["shredded"]:
                break
            time.sleep(0.02)
    assert states(house) == ["shredded"]
