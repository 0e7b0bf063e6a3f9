"""Nothing is taken and nothing leaves without a record of consent that holds, or while muted."""

import json
from dataclasses import replace

import pytest
from tests.edge.courier.conftest import whole
from tests.edge.device import consent, consented
from tests.edge.parcels import parcel
from tests.edge.review_double import problem

from earmark_edge.consent import Consent, ConsentError
from earmark_edge.consent_records import CONSENT_FILE, FORMER_FOLDER, read_consent, read_former
from earmark_edge.courier import MutedError
from earmark_edge.event import Event
from earmark_edge.spool import refusals


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
