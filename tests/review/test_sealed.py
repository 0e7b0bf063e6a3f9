from __future__ import annotations

import base64
import sqlite3
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.review.callers import client_of
from tests.review.sendings import IDENTITY, device_key, signature_field, wrapped_field
from tests.review.test_intake import is_problem, state_of

from earmark_edge.consent import Consent
from earmark_edge.event import ClipObject, Receipt
from earmark_edge.messages import Dropped, Enrolled, EnrolRequest, read_statuses, tombstone_bytes
from earmark_edge.policy import Policy
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, SignatureError, check, from_header, key_id, public_of
from earmark_review.cases import Lease
from earmark_review.errors import DatabaseError, KeyGoneError, OriginalClosedError, StaleLeaseError
from earmark_review.identity import IDENTITY_FILE, open_identity
from earmark_review.store.caseload import case_file
from earmark_review.store.consents import consent_of
from earmark_review.store.devices import list_devices
from earmark_review.store.numbers import gaps
from earmark_review.store.policies import issue_policy


def checked(answer, purpose):
    check(IDENTITY.signing_public, purpose, answer.content, from_header(answer.headers[SIGNATURE_HEADER]))
    return answer.content


def kitchen(house):
    with house.service.database.reading() as conn:
        [device] = list_devices(conn)
    return device


# Signatures


def test_receipts_are_signed_for_the_device_and_the_same_each_time(sender, make_sending):
    one = make_sending()
    first, again = sender.post(one.payload), sender.post(one.payload)
    receipt = Receipt.from_bytes(checked(first, Purpose.RECEIPT))
    assert receipt.device_id == key_id(public_of(device_key("kitchen")))
    assert (again.content, again.headers[SIGNATURE_HEADER]) == (first.content, first.headers[SIGNATURE_HEADER])
    with pytest.raises(SignatureError):
        check(IDENTITY.signing_public, Purpose.POLICY, first.content, from_header(first.headers[SIGNATURE_HEADER]))


@pytest.mark.parametrize(
    "forge",
    [
        lambda payload: {SIGNATURE_HEADER: ""},
        lambda payload: {SIGNATURE_HEADER: "ed25519=:AAAA:"},
        lambda payload: signature_field(payload, device="another"),
        lambda payload: signature_field(payload + b" "),
        lambda payload: signature_field(payload, Purpose.HEARTBEAT),
    ],
    ids=["none", "short", "another key", "another message", "another purpose"],
)
def test_an_event_that_its_device_did_not_sign_is_refused_with_an_alert(house, sender, make_sending, forge):
    payload = make_sending().payload
    is_problem(sender.post(payload, **forge(payload)), 403, "signature-refused")
    assert state_of(house) == []
    assert house.log()[-1].action == "signature.refused"
    assert house.log()[-1].is_alert


def test_the_signature_is_kept_beside_the_very_bytes(house, sender, make_sending):
    sender.post(make_sending().payload)
    with house.service.database.reading() as conn:
        [(payload, signature)] = conn.exec_driver_sql("SELECT payload, signature FROM events JOIN event_signatures USING (event_row)").all()
    check(public_of(device_key("kitchen")), Purpose.EVENT, payload, signature)


def test_a_tombstone_is_signed_at_every_door(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    house.service.delete_event("kitchen", "event-1")
    dropped = Dropped("event-1", "0" * 64, (3,)).to_bytes()
    doors = [
        sender.post(one.payload),
        sender.put("event-1", 3, one.objects[3]),
        sender.client.post("/api/v1/events/event-1/dropped", content=dropped, headers=signature_field(dropped, Purpose.DROPPED)),
    ]
    words = tombstone_bytes(key_id(public_of(device_key("kitchen"))), "event-1")
    for answer in doors:
        is_problem(answer, 410, "event-deleted")
        check(IDENTITY.signing_public, Purpose.TOMBSTONE, words, from_header(answer.headers[SIGNATURE_HEADER]))


# Sealing


def test_an_object_in_the_clear_is_refused_with_its_event(house, sender, make_sending):
    clear = ClipObject.of(3, "audio/flac", make_sending().plain[3])
    assert "not sealed" in is_problem(sender.post(make_sending(clips=(clear,)).payload), 422, "event-refused")
    assert state_of(house) == []


def test_an_object_sealed_to_another_service_is_refused_with_its_event(sender, make_sending):
    event = replace(make_sending().event, key_id="0" * 64)
    assert "enrol again" in is_problem(sender.post(event.to_bytes()), 422, "event-refused")


@pytest.mark.parametrize("field", [None, "", ":AAAA:", "AAAA", f":{base64.b64encode(bytes(81)).decode()}:", ":***:"])
def test_a_wrapped_key_that_is_none_is_refused(sender, make_sending, field):
    one = make_sending()
    sender.post(one.payload)
    given = {"Earmark-Wrapped-Key": field} if field is not None else {}
    headers = {"content-digest": sender.put("event-1", 0, one.objects[0]).request.headers["content-digest"], **given}
    answer = sender.client.put("/api/v1/events/event-1/clips/0", content=one.objects[0], headers=headers)
    assert "80 bytes" in is_problem(answer, 400, "digest")


def test_another_wrapped_key_than_declared_is_a_conflict(sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    is_problem(sender.put("event-1", 3, one.objects[3], **wrapped_field(one.objects[0])), 409, "object-conflict")


def test_no_byte_of_a_clip_lies_in_the_clear_in_the_data_folder(house, sender, ada, one_case, make_sending):
    ada.claim(one_case)
    assert ada.client.get(f"/cases/{one_case}/clip").content.startswith(b"RIFF")
    plain = make_sending(masked=True).plain
    marks = [plain[tier][at : at + 24] for tier in (2, 3) for at in range(64, len(plain[tier]) - 24, 24)] + [b'"hop_s"']
    assert len(marks) > 100
    for path in house.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [mark for mark in marks if mark in content], path


def test_the_decryptor_opens_only_under_a_live_claim_whose_look_is_in_the_log(house, ada, one_case, clock):
    service = house.service
    with service.database.reading() as conn:
        file = case_file(conn, one_case, clock())
    declared = file.object_at(2)
    nobody = Lease(99, one_case, 1, 1, clock(), clock() + timedelta(hours=1), None)
    with pytest.raises(StaleLeaseError):
        service.decryptor.open(file, declared, nobody)
    ada.claim(one_case)
    with service.database.reading() as conn:
        lease = replace(nobody, lease_id=conn.exec_driver_sql("SELECT lease_id FROM leases").scalar_one())
    with pytest.raises(StaleLeaseError):  # claimed, and the log does not know of a look yet
        service.decryptor.open(file, declared, lease)
    ada.client.get(f"/cases/{one_case}")
    assert service.decryptor.open(file, declared, lease)
    with pytest.raises(OriginalClosedError):  # the glass is whole
        service.decryptor.open(file, file.object_at(3), lease)
    clock.advance(service.settings.lease_s)
    with pytest.raises(StaleLeaseError):
        service.decryptor.open(file, declared, lease)


def test_deletion_destroys_the_keys_first_and_leaves_no_byte_of_them(house, sender, one_case, make_sending, monkeypatch):
    wrapped = base64.b64decode(wrapped_field(make_sending(masked=True).objects[3])["Earmark-Wrapped-Key"].strip(":"))
    store = house.data / "keys" / "wrapped.db"

    def anywhere():
        return any(wrapped in path.read_bytes() for path in store.parent.iterdir())

    assert anywhere()
    monkeypatch.setattr(type(house.service.database), "writing", lambda _self: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        house.service.delete_event("kitchen", "event-1")
    assert not anywhere(), "the keys go before anything else does"
    monkeypatch.undo()
    house.service.delete_event("kitchen", "event-1")
    assert state_of(house) == []


def test_a_clip_whose_key_is_gone_is_told_and_the_case_can_still_be_decided(house, ada, one_case):
    ada.claim(one_case)
    house.service.keys.destroy(1, "event-1")
    with pytest.raises(KeyGoneError):
        house.service.keys.find(1, "event-1", 3)
    assert "key was destroyed" in ada.client.get(f"/cases/{one_case}").text
    assert ada.client.get(f"/cases/{one_case}/clip").status_code == 410
    assert house.log()[-1].action == "evidence.missing"
    assert ada.act(one_case, "verdict", ada.lease_of(one_case), verdict="cannot_tell").status_code == 303


def test_a_blob_that_was_tampered_with_is_told_and_raises_an_alert(house, ada, one_case):
    ada.claim(one_case)
    for key in house.service.blobs.list_keys():
        house.tamper(key, house.service.blobs.read(key)[:-1] + b"!")
    assert "does not open" in ada.client.get(f"/cases/{one_case}").text
    assert ada.client.get(f"/cases/{one_case}/clip").status_code == 422
    assert house.log()[-1].action == "evidence.missing"


def test_the_services_keys_are_its_owners_alone_and_survive_a_restart(tmp_path):
    first = open_identity(tmp_path)
    assert open_identity(tmp_path) == first
    path = tmp_path / IDENTITY_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(DatabaseError, match="chmod 600"):
        open_identity(tmp_path)
    for damaged in ("", "{}", '{"sealing_key": "AAAA", "signing_key": "AAAA"}', "[1]"):
        path.unlink()
        path.touch(0o600)
        path.write_text(damaged)
        with pytest.raises(DatabaseError, match="restore"):
            open_identity(tmp_path)


def test_the_key_store_is_a_file_of_its_own_that_only_its_owner_reads(house, one_case):
    path = house.data / "keys" / "wrapped.db"
    assert path.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM wrapped_keys").fetchone() == (3,)
    raw.close()


# Dropped objects


def test_a_case_is_ready_once_what_is_missing_was_dropped(house, sender, make_sending):
    one = make_sending()
    receipt = Receipt.from_bytes(sender.post(one.payload).content)
    sender.put("event-1", 0, one.objects[0])
    payload = Dropped("event-1", receipt.event_sha256, (3,)).to_bytes()
    for _ in range(2):
        answer = sender.client.post("/api/v1/events/event-1/dropped", content=payload, headers=signature_field(payload, Purpose.DROPPED))
        receipt = Receipt.from_bytes(checked(answer, Purpose.RECEIPT))
        assert (receipt.tiers_held, receipt.tiers_missing, receipt.tiers_dropped) == ((0,), (), (3,))
    assert state_of(house) == ["ready"]
    assert house.actions().count("object.dropped") == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"event_sha256": "0" * 64}, 404), ({"tiers": (2,)}, 404), ({"event_id": "event-2"}, 422)],
)
def test_a_message_on_other_objects_than_the_events_drops_nothing(house, sender, make_sending, changes, status):
    receipt = Receipt.from_bytes(sender.post(make_sending().payload).content)
    payload = replace(Dropped("event-1", receipt.event_sha256, (3,)), **changes).to_bytes()
    answer = sender.client.post("/api/v1/events/event-1/dropped", content=payload, headers=signature_field(payload, Purpose.DROPPED))
    assert answer.status_code == status
    assert state_of(house) == ["awaiting_clip"]


# Enrolment


def ask(house, code, device="bath", client=None):
    public_key = base64.b64encode(public_of(device_key(device))).decode()
    payload = EnrolRequest(code, public_key).to_bytes()
    return (client or house.device("spare").client).post(
        "/api/v1/enrolments", content=payload, headers=signature_field(payload, Purpose.ENROLMENT, device)
    )


def test_a_code_makes_a_device_once_and_the_same_device_again_after_a_lost_answer(open_house):
    house = open_house()
    code = house.service.offer_enrolment("bath")
    asked = {}
    public_key = base64.b64encode(public_of(device_key("bath"))).decode()
    client = house.user().client
    for spelling in (code, code.lower().replace("-", " ")):
        payload = EnrolRequest(spelling, public_key).to_bytes()
        answer = client.post("/api/v1/enrolments", content=payload, headers=signature_field(payload, Purpose.ENROLMENT, "bath"))
        assert answer.status_code == 201, answer.text
        asked[spelling] = Enrolled.from_bytes(checked(answer, Purpose.ENROLLED))
    first, second = asked.values()
    assert first.device == second.device == "bath"
    assert first.token != second.token
    is_problem(ask(house, code, "thief"), 403, "enrolment")


@pytest.mark.parametrize("code", ["AAAAA-AAAAA-AAAAA", "x"])
def test_a_guessed_code_admits_nobody(house, code):
    is_problem(ask(house, code), 403, "enrolment")


def test_guesses_at_codes_are_paused_for_their_address_alone(house, clock):
    code, guesses = house.service.offer_enrolment("bath"), house.service.settings.sign_in_failures
    spare = house.device("spare")
    for _ in range(guesses):
        is_problem(ask(house, "AAAAA-AAAAA-AAAAA", client=spare.client), 403, "enrolment")
    paused = ask(house, code, client=spare.client)
    is_problem(paused, 429, "too-many-attempts")
    assert 0 < int(paused.headers["retry-after"]) <= house.service.settings.sign_in_window_s
    assert house.actions()[-1] == "sign_in.paused"
    assert ask(house, code, client=client_of(house.app, "192.0.2.77")).status_code == 201
    clock.advance(house.service.settings.sign_in_window_s)
    assert ask(house, house.service.offer_enrolment("hall"), "hall", client=spare.client).status_code == 201


def test_a_code_runs_out(house, clock):
    code = house.service.offer_enrolment("bath", timedelta(hours=1))
    clock.advance(3600)
    is_problem(ask(house, code), 403, "enrolment")


def test_a_key_that_the_device_does_not_hold_is_not_enrolled(house, sender):
    code = house.service.offer_enrolment("bath")
    payload = EnrolRequest(code, base64.b64encode(public_of(device_key("bath"))).decode()).to_bytes()
    for headers in ({}, signature_field(payload, Purpose.ENROLMENT, "thief")):
        is_problem(sender.client.post("/api/v1/enrolments", content=payload, headers=headers), 403, "enrolment")


# What devices say of themselves


def gaps_of(house):
    with house.service.database.reading() as conn:
        return gaps(conn, kitchen(house))


def test_a_number_that_never_came_is_a_possible_loss_until_it_comes(house, sender, make_sending):
    for seq in (0, 1, 3):
        sender.post(make_sending(f"event-{seq}", seq=seq).payload)
    [gap] = gaps_of(house)
    assert (gap.boot_id, gap.missing, gap.lost) == ("boot-1", 1, 1)
    sender.beat(next_seq=4, waiting_events=1)
    assert [gap.lost for gap in gaps_of(house)] == [0], "it may still lie in the outbox"
    sender.post(make_sending("event-2", seq=2).payload)
    assert gaps_of(house) == []


def test_events_at_the_end_of_a_stream_are_missed_by_the_heartbeat(house, sender, make_sending):
    sender.beat(next_seq=2)
    assert [(gap.missing, gap.lost) for gap in gaps_of(house)] == [(2, 2)]
    for seq in (0, 1):
        sender.post(make_sending(f"event-{seq}", seq=seq).payload)
    assert gaps_of(house) == []


def test_a_deleted_event_is_no_loss(house, sender, make_sending):
    for seq in (0, 1):
        sender.post(make_sending(f"event-{seq}", seq=seq).payload)
    house.service.delete_event("kitchen", "event-0")
    assert gaps_of(house) == []


def test_a_missed_canary_is_one_alert(house, sender):
    for canary in ("passed", "missed", "missed", "passed", "missed"):
        sender.beat(canary=canary)
    assert house.actions().count("canary.missed") == 2


def test_consent_is_kept_with_its_signature_and_stays_withdrawn(house, sender):
    given = Consent("consent-1", (0, 3), may_train=True, given_at="2026-03-01T00:00:00+00:00", expires_at="2027-03-01T00:00:00+00:00")
    withdrawn = replace(given, withdrawn_at="2026-03-02T00:00:00+00:00")
    assert [sender.give_consent(one).status_code for one in (given, given, withdrawn, given)] == [204, 204, 204, 422]
    with house.service.database.reading() as conn:
        assert consent_of(conn, kitchen(house).device_id, "consent-1") == withdrawn
        assert consent_of(conn, kitchen(house).device_id, "another") is None


def test_the_newest_policy_is_handed_out_signed(house, sender, clock):
    assert sender.client.get("/api/v1/policy").status_code == 204
    for tiers in ((0, 3), (0,)):
        with house.service.database.writing() as conn:
            issue_policy(conn, tiers, ["scream"], ["scream"], clock())
    policy = Policy.from_bytes(checked(sender.client.get("/api/v1/policy"), Purpose.POLICY))
    assert (policy.version, policy.tiers) == (2, (0,))


def test_a_household_learns_who_looked_and_what_was_decided_and_no_name(house, sender, one_case):
    quinn = house.user("quinn")  # not ada, whom a signature in base64 may spell

    def told():
        answer = sender.client.post("/api/v1/statuses", json={"event_ids": ["event-1", "unknown"]})
        assert b"quinn" not in answer.content
        [status] = read_statuses(checked(answer, Purpose.STATUSES), key_id(public_of(device_key("kitchen"))))
        return status

    assert (told().state, told().looks, told().verdicts) == ("ready", (), None)
    quinn.claim(one_case)
    quinn.client.get(f"/cases/{one_case}/clip")
    assert [(look.role, look.evidence) for look in told().looks] == [("reviewer", "audio of tier 2")]
    quinn.act(one_case, "verdict", quinn.lease_of(one_case), verdict="distress")
    assert set(told().verdicts) == {"distress"}
    house.service.delete_event("kitchen", "event-1")
    assert told().state == "deleted"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"event_ids": [1]}', b'{"event_ids": ' + b"[" * 100 + b"]" * 100 + b"}"])
def test_a_question_of_another_form_is_refused(sender, body):
    is_problem(sender.client.post("/api/v1/statuses", content=body), 422, "event-refused")
