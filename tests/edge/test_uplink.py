import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from tests.edge.device import enrolled
from tests.edge.review_double import TOKEN, Answer, dropped, problem, signed

from earmark_edge.detector import Detector
from earmark_edge.event import Receipt
from earmark_edge.outbox import Origin, pack
from earmark_edge.seal import seal_parcel
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, header_of, public_of, sign
from earmark_edge.spool import SpooledEvent, SpooledObject
from earmark_edge.uplink import AddressError, Backoff, EventGoneError, Uplink, UplinkDownError, UplinkError, checked_address

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Parcel(NamedTuple):
    """A sealed parcel as the outbox gives it out."""

    event: SpooledEvent
    objects: tuple[SpooledObject, ...]
    plain: dict


@pytest.fixture(scope="session")
def credentials(tmp_path_factory):
    return enrolled(tmp_path_factory.mktemp("state"), "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def _known_device(request, credentials):
    if "service" in request.fixturenames:
        request.getfixturevalue("service").device = public_of(credentials.device_key)


def at(credentials, url, **changes):
    return replace(credentials, enrolment=replace(credentials.enrolment, url=url, **changes))


def deliver(uplink, parcel):
    """The event, then every object that the service misses."""
    receipt = uplink.announce(parcel.event).receipt
    for sealed in parcel.objects:
        if sealed.tier in receipt.tiers_missing:
            receipt = uplink.upload(parcel.event, sealed).receipt
    return receipt


@pytest.fixture(scope="module")
def parcel(scorer, play, credentials) -> Parcel:
    detector = Detector(scorer)
    detector.feed(play(("scream", 3)))
    (detection,) = detector.flush().detections
    packed = pack(detection, 0, Origin("boot", NOW, 60.0, "consent-7"), detector.rules)
    sealed = seal_parcel(packed.event, packed.payloads, credentials.device_key, credentials.enrolment.sealing_key)
    event = SpooledEvent(sealed.event.event_id, sealed.payload, sealed.signature, is_urgent=True, state="waiting")
    objects = [SpooledObject(event.event_id, tier, made.ciphertext, made.wrapped) for tier, made in sealed.objects.items()]
    return Parcel(event, tuple(objects), dict(packed.payloads))


@pytest.fixture
def waits():
    return []


@pytest.fixture
def uplink(service, waits, credentials):
    with Uplink(at(credentials, service.url), sleep=waits.append, rng=random.Random(0), now=lambda: NOW, timeout_s=5) as uplink:
        yield uplink


def said(uplink, parcel, error=UplinkError):
    with pytest.raises(error) as raised:
        deliver(uplink, parcel)
    text = str(raised.value)
    assert "\n" not in text
    assert TOKEN not in text
    return text


def test_a_parcel_arrives_whole_event_first(uplink, service, parcel, waits):
    receipt = deliver(uplink, parcel)
    assert receipt.tiers_held == (0, 1, 2, 3)
    assert receipt.tiers_missing == ()
    assert service.events == {parcel.event.event_id: parcel.event.payload}
    assert {tier: service.opened(parcel.event.event_id, tier) for tier in range(4)} == parcel.plain
    paths = [(request.method, request.path) for request in service.heard]
    here = f"/api/v1/events/{parcel.event.event_id}/clips"
    assert paths == [("POST", "/api/v1/events"), *(("PUT", f"{here}/{tier}") for tier in range(4))]
    assert service.heard[0].headers["Content-Type"] == "application/json"
    assert waits == []


def test_sending_again_sends_no_clip_again(uplink, service, parcel):
    first = deliver(uplink, parcel)
    service.heard.clear()
    assert deliver(uplink, parcel).tiers_held == first.tiers_held
    assert [request.method for request in service.heard] == ["POST"]


def test_only_the_tiers_that_the_service_misses_are_sent(uplink, service, parcel):
    service.fail(Answer(500))
    deliver(uplink, parcel)
    del service.clips[parcel.event.event_id][3]
    service.heard.clear()
    deliver(uplink, parcel)
    assert [request.path.rpartition("/")[2] for request in service.heard] == ["events", "3"]


@pytest.mark.parametrize(
    "fault", [Answer(500), Answer(503), Answer(429), Answer(408), dropped], ids=["500", "503", "429", "408", "dropped"]
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_passes_is_tried_again_at_any_request(uplink, service, parcel, waits, fault, position):
    oks = [service.work] * position
    service.fail(*oks, fault, fault)
    assert deliver(uplink, parcel).tiers_missing == ()
    assert len(waits) == 2
    assert len(service.heard) == 7


def test_waits_have_full_jitter_below_a_doubling_bound(uplink, service, parcel, waits):
    service.fail(*[Answer(503)] * 4)
    deliver(uplink, parcel)
    assert all(0 <= wait <= 0.5 * 2**failure for failure, wait in enumerate(waits))
    assert len(set(waits)) == 4
    backoff, rng = Backoff(first_s=1.0, most_s=4.0), random.Random(1)
    drawn = [backoff.wait_s(9, rng, None) for _ in range(200)]
    assert max(drawn) <= 4.0
    assert min(drawn) < 0.5
    assert max(drawn) > 3.5


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", 7.0), ("Sat, 31 Jan 2026 12:00:09 GMT", 9.0), ("86400", 30.0), ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0)],
)
def test_retry_after_is_honoured_up_to_a_bound(uplink, service, parcel, waits, header, expected):
    service.fail(problem(429, "Slow down", **{"Retry-After": header}))
    deliver(uplink, parcel)
    assert waits == [expected]


@pytest.mark.parametrize("header", ["soon", "²", "-5"])
def test_a_retry_after_that_says_nothing_is_passed_over(uplink, service, parcel, waits, header):
    service.fail(Answer(429, headers=(("Retry-After", header.encode("utf-8").decode("latin-1")),)))
    deliver(uplink, parcel)
    assert len(waits) == 1
    assert 0 <= waits[0] <= 0.5


def test_the_service_is_given_up_after_a_bounded_number_of_attempts(uplink, service, parcel, waits):
    service.fail(*[problem(503, "Full", "the audit store is down")] * 5)
    text = said(uplink, parcel, UplinkDownError)
    assert "503, Full: the audit store is down" in text
    assert "5 attempts" in text
    assert len(service.heard) == 5
    assert len(waits) == 4


def test_a_service_that_is_not_there_is_down(parcel, service, waits, credentials):
    service.fail(*[dropped] * 5)
    with Uplink(at(credentials, service.url), sleep=waits.append) as uplink:
        assert "5 attempts" in said(uplink, parcel, UplinkDownError)
    with Uplink(credentials, sleep=waits.append, backoff=Backoff(attempts=2)) as uplink:
        assert "POST http://127.0.0.1:9/api/v1/events: " in said(uplink, parcel, UplinkDownError)


def test_a_conflict_is_told_with_its_title_and_detail_and_not_tried_again(uplink, service, parcel, waits):
    service.events[parcel.event.event_id] = b"something else"
    text = said(uplink, parcel)
    assert "answered 409, Event differs: another event has this identifier" in text
    assert len(service.heard) == 1
    assert waits == []


def test_a_refusal_of_one_event_is_not_a_refusal_of_all(uplink, service, parcel):
    service.fail(problem(422, "No such consent"))
    with pytest.raises(UplinkError) as error:
        deliver(uplink, parcel)
    assert not isinstance(error.value, UplinkDownError)


def test_a_device_that_is_not_known_is_told_at_once_without_its_token(service, parcel, waits, credentials):
    with Uplink(at(credentials, service.url, token="wrong-token"), sleep=waits.append) as uplink:
        text = said(uplink, parcel, UplinkDownError)
    assert "401, Unknown device" in text
    assert "wrong-token" not in text
    assert waits == []


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"[]", b'{"event_id": "x"}', b"\xff\xfe"])
def test_an_answer_that_is_no_receipt_is_no_delivery(uplink, service, parcel, body):
    service.fail(Answer(200, body))
    assert "no receipt" in said(uplink, parcel)


@pytest.mark.parametrize("fields", [{"event_id": "another"}, {"event_sha256": "0" * 64}, {"device_id": "0" * 64}])
def test_a_receipt_for_another_event_is_no_delivery(uplink, service, parcel, fields):
    right = Receipt.from_bytes(deliver(uplink, parcel).to_bytes())
    service.fail(signed(Purpose.RECEIPT, replace(right, **fields).to_bytes()))
    assert "another event" in said(uplink, parcel)


@pytest.mark.parametrize("forge", [lambda answer: answer._replace(headers=()), lambda answer: answer._replace(body=answer.body + b" ")])
def test_a_receipt_that_the_service_did_not_sign_is_no_delivery(uplink, service, parcel, forge):
    service.fail(lambda request: forge(service.work(request)))
    assert "not signed by the service" in said(uplink, parcel)


def test_a_receipt_by_another_service_is_no_delivery(uplink, service, parcel):
    def by_another(request):
        answer = service.work(request)
        return answer._replace(headers=((SIGNATURE_HEADER, header_of(sign(bytes(32), Purpose.RECEIPT, answer.body))),))

    service.fail(by_another)
    assert "not signed by the service" in said(uplink, parcel)


def test_a_signature_for_another_purpose_is_none(uplink, service, parcel):
    service.fail(lambda request: signed(Purpose.POLICY, service.work(request).body))
    assert "not signed by the service" in said(uplink, parcel)


def test_only_a_signed_tombstone_says_that_an_event_is_gone(uplink, service, parcel):
    service.fail(problem(410, "Gone"), service.gone("another event"))
    for _ in range(2):
        with pytest.raises(UplinkError) as raised:
            uplink.announce(parcel.event)
        assert not isinstance(raised.value, EventGoneError)
    service.deleted.add(parcel.event.event_id)
    with pytest.raises(EventGoneError):
        uplink.announce(parcel.event)


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_without_end_fills_no_memory(uplink, service, parcel, status):
    service.fail(Answer(status, b"x" * (5 * 2**20)))
    with pytest.raises(UplinkError, match="more than" if status == 200 else "answered 400"):
        uplink.announce(parcel.event)


def test_a_redirect_is_not_followed_because_the_token_and_the_audio_would_go_along(uplink, service, parcel):
    service.fail(Answer(307, headers=(("Location", "http://127.0.0.1:9/elsewhere"),)))
    assert "answered 307" in said(uplink, parcel)
    assert len(service.heard) == 1


@pytest.mark.parametrize("body", [b'{"title": "a\\u001b[31m\\nb"}', b"[1]", b'{"title": 7}', b"[" * 100_000])
def test_whatever_a_refusal_says_is_one_printable_line(uplink, service, parcel, body):
    service.fail(Answer(400, body))
    text = said(uplink, parcel)
    assert "answered 400" in text
    assert text.isprintable()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:80/", "https://review.example.org/base/"])
def test_https_and_loopback_are_fit_for_audio(url):
    assert checked_address(url) == url.rstrip("/")


@pytest.mark.parametrize("url", ["http://review.example.org", "http://10.0.0.1:8000", "http://127.0.0.1.example.org", "http://[fe80::1]"])
def test_plain_http_to_another_machine_is_refused(url):
    with pytest.raises(AddressError, match="in the clear"):
        checked_address(url)


@pytest.mark.parametrize(
    "url",
    ["", "review.example.org", "ftp://x", "https://", "https://u:p@x", "https://x/?a=1", "https://x/#a", "http://[::1", "https://x:99999"],
)
def test_what_is_no_address_of_a_service_is_refused(url, credentials):
    with pytest.raises(AddressError):
        Uplink(at(credentials, url))


def test_a_proxy_from_the_environment_never_sees_what_is_meant_for_this_machine(service, parcel, monkeypatch, credentials):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Uplink(at(credentials, service.url), backoff=Backoff(attempts=1)) as uplink:
        assert deliver(uplink, parcel).tiers_missing == ()


@pytest.mark.parametrize("change", [{"attempts": 0}, {"first_s": 0.0}, {"first_s": 5.0, "most_s": 1.0}])
def test_every_invariant_of_the_backoff_fires(change):
    with pytest.raises(ValueError, match="backoff"):
        Backoff(**change)
