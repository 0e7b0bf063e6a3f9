"""What was drawn from below the thresholds leaves only where household and policy agree."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.edge.device import asked, consent, consented
from tests.edge.parcels import parcel

from earmark_edge.consent import Consent, ConsentError
from earmark_edge.event import Event
from earmark_edge.policy import Policy
from earmark_edge.wire import WireError
from earmark_model.contract import Reason


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
