"""Everything arrives once, whatever the service, the network and the clock do."""

import hashlib
import json
from dataclasses import replace

import pytest
from tests.edge.courier.conftest import whole
from tests.edge.parcels import parcel
from tests.edge.review_double import Answer, dropped, problem

from earmark_edge.messages import Heartbeat
from earmark_edge.spool import SPOOL_FILE
from earmark_edge.uplink import Backoff, Uplink

PASSING = [Answer(500), Answer(503), problem(429, "Slow", **{"Retry-After": "1"}), dropped, Answer(200, b"<html>hello</html>"), Answer(200)]

REFUSALS = [problem(status, "No") for status in (400, 403, 404, 409, 410, 413, 415, 422)]


@pytest.mark.parametrize(
    "fault", PASSING + REFUSALS, ids=lambda fault: getattr(fault, "__name__", None) or f"{fault.status}{fault.body[:6]}"
)
@pytest.mark.parametrize("position", [0, 1, 3])
def test_after_any_fault_at_any_request_everything_arrives_once(courier, uplink, service, clock, fault, position):
    for number in range(2):
        courier.accept(parcel(number))
    service.fail(*[service.work] * position, *[fault] * 2)
    courier.deliver(uplink)
    for _ in range(12):
        clock.advance(hours=1)
        courier.deliver(uplink)
    whole(service, 2)
    assert courier.spool.counts().events == 0
    assert service.dropped == {}


def test_an_acknowledgement_that_is_lost_costs_nothing(courier, uplink, service):
    def unheard(request):
        service.work(request)

    courier.accept(parcel(1))
    service.fail(unheard, service.work, unheard, service.work, unheard)
    assert courier.deliver(uplink).delivered == 1
    whole(service, 1)


def test_a_slow_service_is_waited_for_no_longer_than_the_timeout(courier, service):
    courier.accept(parcel(1))
    service.fail(lambda request: (service.slow.wait(3), service.work(request))[1])
    with Uplink(courier.credentials, sleep=lambda _: None, timeout_s=0.2, backoff=Backoff(attempts=1)) as uplink:
        assert "timed out" in courier.deliver(uplink).trouble
    service.slow.set()
    with Uplink(courier.credentials) as uplink:
        assert courier.deliver(uplink).delivered == 1


def test_a_service_that_forgets_what_it_was_sent_is_not_asked_for_ever(courier, uplink, service):
    courier.accept(parcel(1))

    def forgetful(_request):
        return service.receipt("event-1", 201)

    service.fail(service.work, *[forgetful] * 50)
    courier.deliver(uplink)
    assert len(service.paths()) < 5
    assert courier.spool.counts().set_aside == 1


def test_a_conflict_is_kept_told_and_holds_up_no_other(courier, uplink, service, told):
    for number in range(2):
        courier.accept(parcel(number))
    service.events["event-0"] = b"something else"
    assert courier.deliver(uplink).delivered == 1
    assert courier.spool.counts().set_aside == 1
    assert courier.spool.event("event-0") is not None
    assert "409" in told[0]


def test_a_deleted_event_is_wiped_here_on_the_services_proof_alone(courier, uplink, service):
    courier.accept(parcel(1))
    service.fail(problem(410, "Gone"))
    courier.deliver(uplink)
    assert courier.spool.counts().objects == 2, "a 410 that nobody signed proves nothing"
    courier.spool.retry_all()
    service.deleted.add("event-1")
    courier.deliver(uplink)
    assert courier.spool.counts().objects == 0
    assert [row["state"] for row in courier.spool.rows()] == ["gone"]


def test_a_revoked_device_keeps_everything(courier, service):
    courier.accept(parcel(1))
    unknown = replace(courier.credentials, enrolment=replace(courier.credentials.enrolment, token="revoked"))
    with Uplink(unknown) as uplink:
        assert "401" in courier.deliver(uplink).trouble
    assert courier.spool.counts().events == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_an_hour_loses_nothing_and_sends_nothing_twice(courier, uplink, service, clock, hours):
    courier.accept(parcel(1))
    service.fail(problem(422, "No"))
    courier.deliver(uplink)
    clock.advance(hours=hours)
    courier.accept(parcel(2))
    courier.deliver(uplink)
    clock.advance(minutes=2 if hours > 0 else 62)
    courier.deliver(uplink)
    whole(service, 2)


def test_72_hours_offline_at_twice_the_usual_rate(make_courier, service, clock):
    """40 kB an event is about a second; 4 an hour is twice what a home with a crying baby flags. The outbox holds a third of it."""
    courier = make_courier(cap_bytes=72 * 4 * 4_000 // 3)
    numbers = range(72 * 4)
    service.fail(*[Answer(503)] * 10_000)
    with Uplink(courier.credentials, sleep=lambda _: None, backoff=Backoff(attempts=1)) as uplink:
        for number in numbers:
            courier.accept(parcel(number, "scream" if number % 10 == 0 else "cry", audio_bytes=4_000))
            if number % 4 == 0:
                courier.deliver(uplink)
            clock.advance(minutes=15)
            assert courier.spool.counts().waiting_bytes <= 72 * 4 * 4_000 // 3
        service.faults.clear()
        assert courier.deliver(uplink).trouble == ""
    assert sorted(service.events, key=lambda name: int(name[6:])) == [f"event-{number}" for number in numbers]
    screams = [f"event-{number}" for number in numbers if number % 10 == 0]
    assert all(set(service.clips[event_id]) == {0, 2} for event_id in screams), "urgent audio came through"
    assert all(0 in clips for clips in service.clips.values())
    given_up = [event_id for event_id in service.events if 2 not in service.clips[event_id]]
    assert 0 < len(given_up) < len(numbers)
    assert {event_id: service.dropped[event_id] for event_id in given_up} == dict.fromkeys(given_up, (2,))
    newest = [f"event-{number}" for number in numbers[-40:]]
    assert not set(given_up) & set(newest), "the oldest went first"
    assert courier.spool.counts().events == 0


def test_the_heartbeat_counts_and_says_nothing_of_what_was_heard(courier, uplink, service):
    courier.accept(parcel(1))
    (courier.state / "mute").touch()
    beat = courier.heartbeat("boot", 2, "a" * 64, "b" * 64, "missed")
    assert (beat.waiting_events, beat.next_seq, beat.is_muted, beat.canary, beat.consent_id) == (1, 2, True, "missed", "consent-7")
    service.fail(Answer(204))
    uplink.heartbeat(beat)
    assert Heartbeat.from_bytes(service.heard[-1].body) == beat
    words = set(json.loads(beat.to_bytes()))
    assert not words & {"scores", "label", "peak_score", "onset_s"}


def test_what_waits_holds_no_byte_in_the_clear_and_no_key_that_opens_it(courier):
    given = parcel(1, audio_bytes=50_000)
    courier.accept(given)
    marks = [given.payloads[2][at : at + 16] for at in range(0, 50_000, 500)]
    files = [path for path in courier.state.iterdir() if path.is_file()]
    assert {"outbox.db", "device.key", "enrolment.json", "consent.json"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not [mark for mark in marks if mark in content], path
    assert hashlib.sha256(given.payloads[2]).hexdigest().encode() not in (courier.state / SPOOL_FILE).read_bytes()


def damage(spool, event_id):
    """What a worn memory card does: the file is whole for SQLite, and an event in it is not."""
    spool._conn.execute("UPDATE events SET payload = x'7b00' WHERE event_id = ?", (event_id,))


def test_an_event_that_the_disk_damaged_holds_up_no_other(courier, uplink, service):
    for number in range(3):
        courier.accept(parcel(number))
    damage(courier.spool, "event-1")
    assert courier.deliver(uplink).delivered == 2
    assert set(service.events) == {"event-0", "event-2"}
    counts = courier.spool.counts()
    assert (counts.events, counts.damaged, counts.waiting_bytes) == (0, 1, 0)


def test_a_withdrawal_wipes_what_waits_though_the_disk_damaged_an_event(courier):
    for number in range(3):
        courier.accept(parcel(number))
    damage(courier.spool, "event-1")
    assert courier.spool.withdraw("consent-7") == 2
    assert courier.spool.counts().waiting_bytes == 0
