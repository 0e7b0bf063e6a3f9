"""What a policy of the service may narrow, and that it widens nothing past consent."""

from dataclasses import replace

import pytest
from tests.edge.device import consent
from tests.edge.parcels import parcel
from tests.edge.review_double import signed

from earmark_edge.consent import ConsentError
from earmark_edge.courier import POLICY_FILE
from earmark_edge.policy import Policy, PolicyError, check_adoptable
from earmark_edge.signature import Purpose
from earmark_edge.uplink import UplinkError


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
