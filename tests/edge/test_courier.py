import hashlib
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.edge.device import asked, consent, consented, enrolled
from tests.edge.parcels import parcel
from tests.edge.review_double import Answer, dropped, problem, signed

from earmark_edge.consent import Consent, ConsentError
from earmark_edge.consent_records import CONSENT_FILE, FORMER_FOLDER, read_consent, read_former
from earmark_edge.courier import POLICY_FILE, Courier, MutedError
from earmark_edge.event import Event
from earmark_edge.messages import Heartbeat
from earmark_edge.policy import Policy, PolicyError, check_adoptable
from earmark_edge.signature import Purpose, public_of
from earmark_edge.spool import SPOOL_FILE, Spool, refusals
from earmark_edge.uplink import Backoff, Uplink, UplinkError
from earmark_edge.wire import WireError
from earmark_model.contract import Reason


class Clock:
    def __init__(self):
        self.at = datetime.now(UTC)

    def __call__(self):
        return self.at

    def advance(self, **words):
        self.at += timedelta(**words)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def make_courier(tmp_path, service, clock, told):
    opened = []

    def make(cap_bytes=1 << 20, tiers=(0, 1, 2, 3)):
        state = tmp_path / "state"
        credentials = enrolled(state, service.url)
        service.device = public_of(credentials.device_key)
        consented(state, tiers=tiers, expires_at=(clock.at + timedelta(days=30)).isoformat())
        spool = Spool(state / SPOOL_FILE, cap_bytes, now=clock)
        opened.append(spool)
        return Courier(state, credentials, spool, now=clock, tell=told.append)

    yield make
    for spool in opened:
        spool.close()


@pytest.fixture
def courier(make_courier):
    return make_courier()


@pytest.fixture
def uplink(courier):
    with Uplink(courier.credentials, sleep=lambda _: None, rng=random.Random(0), timeout_s=5, backoff=Backoff(attempts=2)) as opened:
        yield opened


def whole(service, count):
    assert len(service.events) == count
    for event_id, clips in service.clips.items():
        number = int(event_id.rpartition("-")[2])
        assert {tier: service.opened(event_id, tier) for tier in clips} == parcel(number).payloads


# Consent and mute


def test_consent_goes_first_then_all_metadata_then_clips(courier, uplink, service):
    for number, label in enumerate(("cry", "scream", "cry")):
        courier.accept(parcel(number, label))
    assert courier.deliver(uplink).delivered == 3
    assert service.heard[0].path.endswith("/consent")
    assert [Event.from_bytes(request.body).event_id for request in service.heard[1:4]] == ["event-1", "event-0", "event-2"]
    assert [request.path.split("/")[4] for request in service.heard[4:]] == ["event-1"] * 2 + ["event-0"] * 2 + ["event-2"] * 2
    whole(service, 3)


def nothing_leaves(courier, uplink, service, error):
    with pytest.raises(error) as raised:
        courier.accept(parcel(9))
    before = len(service.heard)
    assert courier.deliver(uplink).trouble == str(raised.value)
    assert len(service.heard) == before
    assert courier.spool.event("event-9") is None, "nothing of it was written"


def test_without_consent_nothing_is_taken_and_nothing_leaves(courier, uplink, service):
    courier.accept(parcel(1))
    (courier.state / CONSENT_FILE).unlink()
    nothing_leaves(courier, uplink, service, ConsentError)


def test_after_its_time_consent_is_none(courier, uplink, service, clock):
    courier.accept(parcel(1))
    clock.advance(days=31)
    nothing_leaves(courier, uplink, service, ConsentError)


def test_withdrawn_consent_is_none_and_nothing_leaves_but_that_it_was_withdrawn(courier, uplink, service, clock):
    courier.accept(parcel(1))
    consented(courier.state, withdrawn_at=clock.at.isoformat())
    assert "withdrawn" in courier.deliver(uplink).trouble
    assert [bool(given.withdrawn_at) for given in service.consents] == [True]
    assert service.paths() == []
    nothing_leaves(courier, uplink, service, ConsentError)


def test_a_withdrawal_that_could_not_be_told_is_told_when_consent_is_given_anew(courier, uplink, service, clock):
    consented(courier.state, withdrawn_at=clock.at.isoformat())
    consented(courier.state, "consent-8")
    courier.accept(parcel(1))
    assert courier.deliver(uplink).delivered == 1
    assert [(given.consent_id, bool(given.withdrawn_at)) for given in service.consents] == [("consent-7", True), ("consent-8", False)]


def test_what_waits_under_an_earlier_record_leaves_under_it_and_after_it(courier, uplink, service):
    courier.accept(parcel(1))
    consented(courier.state, "consent-8", tiers=(0,))
    courier.accept(parcel(2))
    assert courier.deliver(uplink).delivered == 2
    assert [given.consent_id for given in service.consents] == ["consent-7", "consent-8"]
    assert [request.path.rpartition("/")[2] for request in service.heard[:4]] == ["consent", "consent", "events", "events"]


def test_records_before_the_one_in_force_are_kept_and_a_damaged_one_is_left_out(courier):
    consented(courier.state, "consent/8")
    given_again = consented(courier.state, "consent-7", tiers=(0,))
    key = courier.credentials.device_key
    assert read_consent(courier.state, key) == given_again
    assert list(read_former(courier.state, key)) == ["consent/8"], "what is in force again is no former one"
    (path,) = (courier.state / FORMER_FOLDER).iterdir()
    path.write_text("{}")
    assert read_former(courier.state, key) == {}


# A service without the record


def unconsented(_request=None):
    return problem(403, "Consent required", "this device sent no record", kind="urn:earmark:problem:consent-required")


def test_a_service_that_lost_the_record_gets_it_again_and_the_event_after_it(courier, uplink, service, told):
    courier.accept(parcel(1))
    courier.deliver(uplink)
    courier.accept(parcel(2))
    service.fail(unconsented)
    assert courier.deliver(uplink).delivered == 1
    assert len(service.consents) == 2
    assert told == []
    whole(service, 2)


def test_a_service_that_refuses_for_want_of_consent_loses_nothing_and_is_not_asked_for_ever(courier, uplink, service, clock, told):
    for number in range(3):
        courier.accept(parcel(number))
    service.fail(*[unconsented] * 4)
    courier.deliver(uplink)
    assert service.paths().count("POST /api/v1/events") == 4, "once each, and once again after the record"
    assert len(service.consents) == 2
    assert (courier.spool.counts().set_aside, courier.spool.counts().objects) == (3, 6)
    assert all("consent required" in line for line in told)
    assert refusals(courier.spool.path) == [line.partition("again later: ")[2] for line in told]
    clock.advance(hours=1)
    courier.deliver(uplink)
    whole(service, 3)
    assert refusals(courier.spool.path) == []


def test_mute_wins_over_everything_in_the_middle_of_a_queue_too(courier, uplink, service):
    for number in range(3):
        courier.accept(parcel(number))

    def mute(request):
        (courier.state / "mute").touch()
        return service.work(request)

    service.fail(service.work, mute)
    assert "muted" in courier.deliver(uplink).trouble
    assert len(service.paths()) == 2, "not a request more"
    nothing_leaves(courier, uplink, service, MutedError)
    (courier.state / "mute").unlink()
    assert courier.deliver(uplink).trouble == ""
    whole(service, 3)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda raw: raw | {"document": raw["document"].replace('"tiers":[0]', '"tiers":[0,3]')},
        lambda raw: raw | {"signature": "00" * 64},
        lambda raw: raw | {"signature": "zz"},
        lambda raw: {},
        lambda raw: [raw],
    ],
)
def test_a_record_that_this_device_did_not_sign_is_none(courier, tamper):
    consented(courier.state, tiers=(0,))
    path = courier.state / CONSENT_FILE
    path.write_text(json.dumps(tamper(json.loads(path.read_text()))))
    with pytest.raises(ConsentError, match="not a record"):
        read_consent(courier.state, courier.credentials.device_key)


def test_a_tier_without_consent_is_written_nowhere(make_courier, service):
    courier = make_courier(tiers=(0,))
    courier.accept(parcel(1))
    assert [row["waiting"] for row in courier.spool.rows()] == ["0"]
    assert courier.spool.next_event().event.consent_id == "consent-7"


def test_a_changed_consent_is_sent_again_before_what_it_covers(courier, uplink, service):
    courier.accept(parcel(1))
    courier.deliver(uplink)
    consented(courier.state, "consent-8")
    courier.accept(parcel(2))
    courier.deliver(uplink)
    assert [given.consent_id for given in service.consents] == ["consent-7", "consent-8"]
    assert [Event.from_bytes(body).consent_id for body in service.events.values()] == ["consent-7", "consent-8"]


# Policy


def policy(version=1, **changes):
    words = {"issued_at": "2026-01-01T00:00:00+00:00", "tiers": (0,), "labels": ("scream", "cry"), "urgent": ("cry",)}
    return Policy(version, **(words | changes))


def test_a_policy_narrows_what_leaves_and_says_what_is_urgent(courier, uplink, service):
    service.policy = policy().to_bytes()
    assert courier.adopt_policy(uplink) == policy()
    courier.accept(parcel(1, "scream"))
    courier.accept(parcel(2, "cry"))
    with pytest.raises(ConsentError, match="baby_cry"):
        courier.accept(parcel(3, "baby_cry"))
    first = courier.spool.next_event()
    assert (first.event_id, first.event.policy_version, [clip.tier for clip in first.event.clips]) == ("event-2", 1, [0])


def test_a_policy_that_the_service_did_not_sign_is_not_adopted(courier, uplink, service):
    service.fail(lambda _: signed(Purpose.RECEIPT, policy().to_bytes()))
    with pytest.raises(UplinkError, match="not signed"):
        courier.adopt_policy(uplink)
    assert courier.policy() is None
    service.fail(lambda _: signed(Purpose.POLICY, b"{}"))
    with pytest.raises(PolicyError):
        courier.adopt_policy(uplink)
    assert courier.policy() is None


def test_a_policy_file_that_was_altered_stops_everything_until_it_is_moved_away(courier, uplink, service):
    service.policy = policy().to_bytes()
    courier.adopt_policy(uplink)
    path = courier.state / POLICY_FILE
    path.write_text(path.read_text().replace("scream", "shout"))
    with pytest.raises(PolicyError, match="not a policy"):
        courier.accept(parcel(1))


@pytest.mark.parametrize(
    ("new", "current", "given", "expected"),
    [
        (policy(2), policy(1), consent(), None),
        (policy(2), policy(2), consent(), None),
        (policy(2, tiers=()), policy(1), consent(tiers=(0,)), None),
        (policy(1), policy(2), consent(), "older"),
        (policy(2, tiers=(0, 1)), policy(2), consent(), "another policy 2"),
        (policy(1, tiers=(0, 3)), None, consent(tiers=(0, 2)), r"tiers \[3\]"),
        (policy(1, labels=("scream", "shout")), None, consent(labels=("scream",)), "routes shout"),
        (policy(1), None, None, "tiers"),
    ],
)
def test_versions_only_rise_and_nothing_widens_past_consent(new, current, given, expected):
    if expected is None:
        check_adoptable(new, current, given)
    else:
        with pytest.raises(PolicyError, match=expected):
            check_adoptable(new, current, given)


@pytest.mark.parametrize("change", [{"version": 0}, {"tiers": (4,)}, {"tiers": (1, 0)}, {"labels": ("thunder",)}, {"issued_at": "today"}])
def test_every_invariant_of_a_policy_fires(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(policy(), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"consent_id": ""},
        {"tiers": ()},
        {"tiers": (0, 0)},
        {"may_train": "yes"},
        {"labels": ("thunder",)},
        {"labels": ()},
        {"given_at": "today"},
        {"expires_at": "2000-01-01T00:00:00+00:00"},
        {"withdrawn_at": "yesterday"},
    ],
)
def test_every_invariant_of_a_consent_fires(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(consent(), **change)
    assert Consent.from_bytes(consent(tiers=(0, 2)).to_bytes()).tiers == (0, 2)


# The service's faults

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


# What is drawn to count misses


def drawn(number, probability=0.25):
    given = parcel(number)
    return replace(given, event=replace(given.event, reason=Reason.BELOW_THRESHOLD, slice_probability=probability))


def test_what_was_drawn_leaves_with_its_probability_where_household_and_policy_agree(courier, uplink, service):
    consented(courier.state, may_slice=True)
    asked(courier.state, (0, 1, 2, 3), 0.25)
    assert courier.slice_probability() == 0.25
    courier.accept(drawn(1))
    assert courier.deliver(uplink).delivered == 1
    assert Event.from_bytes(service.events["event-1"]).slice_probability == 0.25


@pytest.mark.parametrize(("may_slice", "policy", "probability"), [(False, 0.25, 0.25), (True, 0.0, 0.25), (True, 0.5, 0.25)])
def test_what_was_drawn_stays_where_either_does_not_or_the_probability_is_another(courier, may_slice, policy, probability):
    consented(courier.state, may_slice=may_slice)
    asked(courier.state, (0, 1, 2), policy)
    with pytest.raises(ConsentError, match="drawn to count misses may no longer leave"):
        courier.accept(drawn(1, probability))
    assert courier.spool.counts().events == 0
    courier.accept(parcel(2))  # what is flagged leaves as ever


def test_nothing_is_drawn_without_a_policy_while_muted_or_once_consent_ends(courier, clock):
    consented(courier.state, may_slice=True)
    assert courier.slice_probability() == 0.0
    asked(courier.state, (0, 1, 2), 0.25)
    assert courier.slice_probability() == 0.25
    (courier.state / "mute").touch()
    assert courier.slice_probability() == 0.0
    (courier.state / "mute").unlink()
    consented(courier.state, may_slice=True, withdrawn_at=clock.at.isoformat())
    assert courier.slice_probability() == 0.0


def test_a_record_and_a_policy_without_a_slice_are_written_as_before_there_was_one():
    assert b"may_slice" not in consent().to_bytes()
    assert Consent.from_bytes(consent(may_slice=True).to_bytes()).may_slice
    words = (1, datetime.now(UTC).isoformat(), (0, 1))
    assert b"slice" not in Policy(*words).to_bytes()
    assert Policy.from_bytes(Policy(*words, slice_probability=0.1).to_bytes()).slice_probability == 0.1
    for bad in (-0.1, 1.1):
        with pytest.raises(WireError, match="slice_probability"):
            Policy(*words, slice_probability=bad)
