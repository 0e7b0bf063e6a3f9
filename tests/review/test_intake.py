from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.review.sendings import track_for, wrapped_field

from earmark_edge.event import ClipObject, Receipt, WireError
from earmark_model.contract import Reason
from earmark_review.blob_folder import BlobFolder
from earmark_review.blobs import IncomingBlob
from earmark_review.errors import UnknownEventError
from earmark_review.store.devices import list_devices, revoke_device
from earmark_review.store.intake import receipt_for


def stored_blobs(house):
    blobs = house.service.blobs
    under_way = [path.name for path in blobs.incoming.iterdir()] if isinstance(blobs, BlobFolder) else []
    return [*blobs.list_keys(), *under_way]


def state_of(house):
    with house.service.database.reading() as conn:
        return conn.exec_driver_sql("SELECT state FROM cases").scalars().all()


def is_problem(answer, status, kind):
    document = answer.json()
    assert answer.status_code == document["status"] == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:earmark:problem:{kind}"
    assert set(document) == {"type", "title", "status", "detail", "instance"}
    assert "Traceback" not in answer.text
    return document["detail"]


def test_a_new_event_is_taken_and_its_receipt_names_what_is_missing(sender, make_sending, clock):
    answer = sender.post(make_sending().payload)
    assert answer.status_code == 201
    receipt = Receipt.from_bytes(answer.content)
    assert receipt.tiers_held == ()
    assert receipt.tiers_missing == (0, 3)
    assert receipt.received_at == clock().isoformat()


def test_the_same_bytes_again_get_the_same_receipt_however_late(sender, make_sending, clock):
    first = sender.post(make_sending().payload)
    clock.advance(86_400)
    again = sender.post(make_sending().payload)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content


def test_other_bytes_under_a_known_id_are_refused_with_an_alert_and_the_first_stand(house, sender, make_sending):
    first = make_sending()
    sender.post(first.payload)
    answer = sender.post(replace(first.event, seq=8).to_bytes())
    assert "an event never changes" in is_problem(answer, 409, "event-conflict")
    alert = house.log()[-1]
    assert alert.action == "event.conflict"
    assert alert.is_alert
    assert alert.detail["given_sha256"] != alert.detail["held_sha256"]
    assert sender.post(first.payload).status_code == 200


def test_two_devices_may_use_the_same_event_id(house, make_sending):
    for name in ("one", "two"):
        assert house.device(name).post(make_sending().payload).status_code == 201
    assert len(state_of(house)) == 2


def test_a_case_becomes_ready_when_its_last_object_is_held(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    assert state_of(house) == ["awaiting_clip"]
    first = sender.put(one.event.event_id, 3, one.objects[3])
    assert (first.status_code, Receipt.from_bytes(first.content).tiers_missing) == (201, (0,))
    assert state_of(house) == ["awaiting_clip"]
    last = sender.put(one.event.event_id, 0, one.objects[0])
    assert (last.status_code, Receipt.from_bytes(last.content).tiers_held) == (201, (0, 3))
    assert state_of(house) == ["ready"]


def test_an_event_without_clips_is_ready_at_once(house, sender, make_sending):
    assert sender.post(make_sending(clips=()).payload).status_code == 201
    assert state_of(house) == ["ready"]


def test_an_object_sent_again_is_held_once(house, sender, make_sending):
    one = make_sending()
    receipt = sender.send(one)
    again = sender.put(one.event.event_id, 3, one.objects[3])
    assert again.status_code == 200
    assert Receipt.from_bytes(again.content) == receipt
    assert len(stored_blobs(house)) == 2
    assert house.actions().count("object.held") == 2


def test_a_body_of_other_bytes_under_the_right_digest_is_refused(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    right = sender.put(one.event.event_id, 3, one.objects[3]).request.headers["content-digest"]
    sender_two = house.device("two")
    sender_two.post(one.payload)
    damaged = one.objects[3][:-1] + b"!"
    answer = sender_two.put(one.event.event_id, 3, damaged, **{"content-digest": right, **wrapped_field(one.objects[3])})
    is_problem(answer, 422, "object-mismatch")
    assert len(stored_blobs(house)) == 1


def test_a_digest_of_something_else_is_a_conflict(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    is_problem(sender.put(one.event.event_id, 3, one.objects[0]), 409, "object-conflict")
    assert stored_blobs(house) == []


@pytest.mark.parametrize(
    "field",
    [
        "",
        "sha-256",
        "sha-256=abc",
        "sha-256=::",
        "sha-256=:AAAA:",
        "md5=:AAAA:",
        "sha-512=:" + "A" * 88 + ":",
        "sha-256=:****:",
        "sha-256=:" + "A" * 43,
    ],
)
def test_a_digest_that_is_none_is_refused(sender, make_sending, field):
    one = make_sending()
    sender.post(one.payload)
    detail = is_problem(sender.put(one.event.event_id, 3, one.objects[3], **{"content-digest": field}), 400, "digest")
    assert "Content-Digest: sha-256=:BASE64:" in detail


def test_other_digests_beside_the_sha_256_are_ignored(sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    digest = sender.put(one.event.event_id, 0, one.objects[0]).request.headers["content-digest"]
    answer = sender.put(one.event.event_id, 0, one.objects[0], **{"content-digest": f"md5=:AAAA:, {digest}"})
    assert answer.status_code == 200


def test_a_length_that_is_not_the_declared_one_is_refused_unread(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    good = sender.put(one.event.event_id, 0, one.objects[0]).request.headers["content-digest"]
    answer = sender.put(one.event.event_id, 0, one.objects[0] + b" ", **{"content-digest": good})
    assert "Content-Length is" in is_problem(answer, 422, "object-mismatch")


def test_a_stream_without_a_length_is_cut_at_the_declared_one(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    sent = 0

    def endless():
        nonlocal sent
        while sent < 50_000_000:
            sent += 65_536
            yield b"x" * 65_536

    digest = {"content-digest": sender.put(one.event.event_id, 3, one.objects[3]).request.headers["content-digest"]}
    digest |= wrapped_field(one.objects[3])
    other = house.device("other")
    other.post(one.payload)
    answer = other.client.put(f"/api/v1/events/{one.event.event_id}/clips/3", content=b"".join(endless()), headers=digest)
    is_problem(answer, 422, "object-mismatch")
    assert len(stored_blobs(house)) == 1


def test_unknown_events_and_undeclared_tiers_are_not_found(sender, make_sending):
    is_problem(sender.put("nothing", 3, b"x"), 404, "unknown-event")
    sender.post(make_sending().payload)
    detail = is_problem(sender.put("event-1", 2, b"x"), 404, "unknown-event")
    assert "[0, 3]" in detail


@pytest.mark.parametrize("tier", ["4", "-1", "x", "3.5"])
def test_a_tier_that_is_none_is_refused(sender, make_sending, tier):
    sender.post(make_sending().payload)
    is_problem(sender.put("event-1", tier, b"x"), 422, "request")


def test_an_id_with_a_slash_or_other_signs_reaches_its_event(sender, make_sending):
    one = make_sending(event_id="kitchen/2026 ä%#?")
    sender.post(one.payload)
    answer = sender.put("kitchen%2F2026%20%C3%A4%25%23%3F", 3, one.objects[3])
    assert answer.status_code == 201, answer.text


def test_another_media_type_than_declared_is_refused(sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    answer = sender.put("event-1", 3, one.objects[3], **{"content-type": "text/html"})
    assert "audio/flac" in is_problem(answer, 415, "media-type")
    for good in ("audio/flac", "application/octet-stream", ""):
        assert sender.put("event-1", 3, one.objects[3], **{"content-type": good}).status_code in {200, 201}


def test_an_object_of_a_kind_that_is_never_taken_is_refused_with_its_event(sender, make_sending):
    html = replace(ClipObject.of(3, "text/html", b"<script>"), wrapped_sha256="0" * 64)
    assert "clips.media_type" in is_problem(sender.post(make_sending(clips=(html,)).payload), 422, "event-refused")
    assert "audio/flac" in sender.post(make_sending(clips=(html,)).payload).json()["detail"]


def test_the_size_cap_is_the_settings_and_holds_at_both_doors(open_house, make_sending):
    one = make_sending()
    cap = len(one.objects[3])
    house = open_house(clip_bytes_cap=cap)
    sender = house.device()
    sender.send(one)
    big = ClipObject(3, "audio/flac", cap + 1, "0" * 64, "0" * 64)
    is_problem(sender.post(make_sending("event-2", clips=(big,)).payload), 413, "too-large")
    house.knobs["clip_bytes_cap"] = cap - 1
    house.reopen()
    other = house.device("later")
    other.client.headers["authorization"] = sender.client.headers["authorization"]
    is_problem(other.put("event-1", 3, one.objects[3]), 413, "too-large")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", "not valid JSON"),
        (b"[]", "JSON object"),
        (b"{}", "missing"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 4000, "not valid JSON"),
    ],
)
def test_what_is_no_event_is_refused(sender, payload, expected):
    assert expected in is_problem(sender.post(payload), 422, "event-refused")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", "<script>"),
        ("seq", 10**30),
        ("seq", True),
        ("onset_s", 10**400),
        ("peak_score", 1.5),
        ("wall_time", "yesterday"),
        ("reason", ["above_threshold"]),
        ("clips", 7),
        ("clips", [{"tier": 3}]),
        ("scores", None),
        ("event_id", "\x00"),
        ("event_id", "\ud800"),
        ("extra", 1),
    ],
)
def test_a_field_outside_its_range_is_a_problem_never_a_crash(sender, make_sending, field, value):
    payload = json.dumps(json.loads(make_sending().payload) | {field: value}).encode()
    is_problem(sender.post(payload), 422, "event-refused")


def test_an_oversized_event_is_refused(sender):
    is_problem(sender.post(b" " * 4097), 413, "too-large")
    is_problem(sender.post(b" " * 4096), 422, "event-refused")


def test_an_event_is_json(sender, make_sending):
    is_problem(sender.post(make_sending().payload, **{"content-type": "text/plain"}), 415, "media-type")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", "Bearer \xe4"])
def test_without_a_devices_token_nothing_is_taken(house, sender, make_sending, header):
    sender.client.headers.pop("authorization")
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    answer = sender.client.post("/api/v1/events", content=make_sending().payload, headers=headers)
    is_problem(answer, 401, "device-token")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert state_of(house) == []


def test_a_revoked_token_is_worthless_at_once(house, sender, make_sending, clock):
    assert sender.post(make_sending().payload).status_code == 201
    with house.service.database.writing() as conn:
        revoke_device(conn, "kitchen", clock())
    is_problem(sender.post(make_sending("event-2").payload), 401, "device-token")


def test_a_device_cannot_reach_anothers_event(house, sender, make_sending):
    one = make_sending()
    sender.post(one.payload)
    is_problem(house.device("other").put("event-1", 3, one.objects[3]), 404, "unknown-event")


def test_a_deleted_event_is_gone_with_its_bytes_and_a_replay_is_refused_with_an_alert(house, sender, make_sending):
    one = make_sending()
    sender.send(one)
    house.service.delete_event("kitchen", "event-1")
    assert stored_blobs(house) == []
    assert state_of(house) == []
    is_problem(sender.post(one.payload), 410, "event-deleted")
    assert house.log()[-1].action == "event.replayed_after_deletion"
    is_problem(sender.put("event-1", 3, one.objects[3]), 410, "event-deleted")


def test_a_decided_event_can_be_deleted_and_its_log_stays(house, sender, ada, one_case):
    ada.decide(one_case, note="seen")
    before = house.log()
    house.service.delete_event("kitchen", "event-1")
    assert house.log()[: len(before)] == before
    assert house.actions()[-1] == "event.deleted"
    assert ada.client.get(f"/cases/{one_case}").status_code == 404


def test_an_event_deleted_while_its_clip_is_under_way_takes_no_clip(house, sender, make_sending, monkeypatch):
    one = make_sending()
    sender.post(one.payload)
    promote = IncomingBlob.promote

    def promote_late(self, length, sha256):
        house.service.delete_event("kitchen", "event-1")
        sender.post(make_sending("event-2").payload)  # its rows may get the numbers of those that are gone
        return promote(self, length, sha256)

    monkeypatch.setattr(IncomingBlob, "promote", promote_late)
    is_problem(sender.put("event-1", 3, one.objects[3]), 410, "event-deleted")
    assert stored_blobs(house) == []
    assert Receipt.from_bytes(sender.post(make_sending("event-2").payload).content).tiers_held == ()


def test_of_two_uploads_at_once_one_copy_stays(house, sender, make_sending, monkeypatch):
    one = make_sending()
    sender.post(one.payload)
    promote, nested = IncomingBlob.promote, []

    def promote_after_another(self, length, sha256):
        if not nested:
            nested.append(True)
            nested.append(sender.put("event-1", 3, one.objects[3]).status_code)
        return promote(self, length, sha256)

    monkeypatch.setattr(IncomingBlob, "promote", promote_after_another)
    assert sender.put("event-1", 3, one.objects[3]).status_code == 200
    assert nested[1] == 201
    assert len(stored_blobs(house)) == 1


def test_a_receipt_reads_back(sender, make_sending):
    receipt = sender.send(make_sending())
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt
    with pytest.raises(WireError):
        Receipt.from_bytes(b"{}")


def test_a_device_is_marked_as_seen(house, sender, make_sending, clock):
    clock.advance(3600)
    sender.post(make_sending().payload)
    with house.service.database.reading() as conn:
        assert [device.last_seen_at for device in list_devices(conn)] == [clock()]


# Consent

BEFORE = "2026-02-01T00:00:00+00:00"
TRACK = {"plain": {0: ("application/json", track_for("scream").to_bytes())}}
DRAWN = {"slice_probability": 0.1, "reason": Reason.BELOW_THRESHOLD, "policy_version": 1, **TRACK}


def refused_without_consent(house, sender, one, said):
    detail = is_problem(sender.post(one.payload), 403, "consent-required")
    assert said in detail
    assert state_of(house) == []
    last = house.log()[-1]
    assert (last.action, last.is_alert) == ("event.refused_without_consent", True)
    with pytest.raises(UnknownEventError), house.service.database.reading() as conn:
        receipt_for(conn, list_devices(conn)[0], one.event.event_id)


def test_an_event_whose_record_of_consent_never_came_is_refused_until_it_comes(house, sender, make_sending):
    one = make_sending(consent_id="consent-2")
    refused_without_consent(house, sender, one, "PUT the household's signed record")
    house.device("porch")
    house.consent("porch", "consent-2")
    refused_without_consent(house, sender, one, "this device sent no record")
    house.consent(consent_id="consent-2")
    sender.send(one)
    assert state_of(house) == ["ready"]


@pytest.mark.parametrize(
    ("record", "event", "said"),
    [
        ({"withdrawn_at": BEFORE}, {}, "withdrawn"),
        ({"expires_at": BEFORE}, {}, "expired"),
        ({"tiers": (0,)}, {}, "tiers [3], only [0]"),
        ({"labels": ("cry",)}, {}, "the sound scream, only cry"),
        ({"may_slice": False}, DRAWN, "drawn from below the threshold"),
    ],
)
def test_an_event_that_its_record_does_not_cover_is_refused(house, sender, make_sending, record, event, said):
    house.consent(**record)
    refused_without_consent(house, sender, make_sending(**event), said)
    house.consent()
    assert sender.post(make_sending(**event).payload).status_code == 201


def test_what_was_heard_in_time_may_come_after_the_record_expired(house, sender, make_sending, clock):
    clock.advance(400 * 86_400)
    sender.send(make_sending())


def test_after_a_withdrawal_no_clip_is_taken_and_what_is_held_gets_its_receipt(house, sender, make_sending):
    one = make_sending()
    first = sender.post(one.payload)
    house.consent(withdrawn_at=BEFORE)
    assert "withdrawn" in is_problem(sender.put("event-1", 3, one.objects[3]), 403, "consent-required")
    assert stored_blobs(house) == []
    again = sender.post(one.payload)
    assert (again.status_code, again.content) == (200, first.content)
