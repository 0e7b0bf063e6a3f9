import base64
import hashlib
import hmac
import json
import socket
import sqlite3
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from tests.edge.device import consented
from tests.edge.listen.fakes import Collected
from tests.edge.review_double import Answer, serving
from tests.waiting import until as holds_within

from earmark_edge.announce.announcement import Announcement, Pulse
from earmark_edge.announce.destination import DestinationDownError, DestinationRefusedError
from earmark_edge.announce.mqtt import Mqtt
from earmark_edge.announce.settings import WebhookSettings
from earmark_edge.announce.sink import AnnouncingSink
from earmark_edge.announce.store import KEPT_FOR, STORE_FILE, AnnounceStore
from earmark_edge.announce.webhook import Webhook, signature_of
from earmark_edge.courier import MUTE_FILE
from earmark_edge.detector import Detector
from earmark_edge.listen.sink import Beat, Flagged
from earmark_edge.uplink import Backoff

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
until = partial(holds_within, seconds=60)
SECRET = "whsec_" + base64.b64encode(b"a secret that a household made up").decode()


@pytest.fixture(scope="module")
def detection(scorer, play):
    detector = Detector(scorer)
    detector.feed(play(("", 2), ("scream", 2)))
    (found,) = detector.flush().detections
    return found


@pytest.fixture
def flagged(detection):
    return lambda seq=0: Flagged(detection, seq, "boot", AT, 0.5, with_audio=True, stream="hall")


class Recorded:
    """A destination that keeps what it is told, and fails as it is asked."""

    name, address = "webhook", "https://home.example"

    def __init__(self):
        self.told, self.pulses, self.faults, self.opened, self.closed = [], [], [], 0, 0

    def open(self):
        self.opened += 1

    def send(self, announcement):
        if self.faults:
            raise self.faults.pop(0)
        self.told.append(announcement)

    def pulse(self, pulse):
        self.pulses.append(pulse)

    def close(self):
        self.closed += 1


@contextmanager
def announcing(state, *destinations, is_muted=lambda: False, starts=True, **more):
    inner = Collected()
    waits = Backoff(first_s=0.01, most_s=0.05)
    sink = AnnouncingSink(inner, state, destinations, is_muted=is_muted, waits=waits, **({"beat_s": 0.1} | more))
    sink.inner = inner
    if starts:
        sink.start(lambda: [Beat("boot", 4, "passed"), Beat("boot", 3, "")])
    try:
        yield sink
    finally:
        sink.close()


def rows(state):
    store = AnnounceStore(state / STORE_FILE)
    found = list(store.rows())
    store.close()
    return found


def test_what_is_told_is_that_it_happened_and_no_score(flagged, detection):
    words = json.loads(Announcement.of(flagged(), 1).to_bytes())
    assert set(words) == {"announcement_id", "stream", "label", "at", "incident", "count"}
    assert (words["label"], words["stream"], words["count"]) == ("scream", "hall", 1)
    assert abs((datetime.fromisoformat(words["at"]) - AT).total_seconds() - detection.onset_s) < 1
    assert not any(isinstance(value, float) for value in words.values())
    assert Announcement.of(flagged(1), 2).incident == words["incident"]
    assert Announcement.of(flagged(1), 2).announcement_id != words["announcement_id"]


def test_an_event_is_handed_on_and_told_once(tmp_path, flagged):
    consented(tmp_path)
    destination = Recorded()
    with announcing(tmp_path, destination) as sink:
        assert sink.take(flagged()) == "taken"
        until(lambda: destination.told)
        sink.take(flagged())  # the same event
        sink.take(flagged(1))
        until(lambda: len(destination.told) == 2)
        until(lambda: sink.counts()["announced"] == 2)
        assert sink.counts()["taken"] == 3
    assert [row.state for row in rows(tmp_path)] == ["sent", "sent"]


def test_nobody_is_told_of_what_was_not_flagged_but_drawn(tmp_path, flagged):
    consented(tmp_path)
    destination = Recorded()
    with announcing(tmp_path, destination) as sink:
        assert sink.take(replace(flagged(), slice_probability=0.1)) == "taken"
        sink.take(flagged(1))
        until(lambda: destination.told)
        sink.inner.slice_probability, sink.inner.draw = lambda: 0.25, lambda: 0.125
        assert (sink.slice_probability(), sink.draw()) == (0.25, 0.125), "the inner sink draws"
    (told,) = destination.told
    assert (told.count, told.announcement_id) == (1, Announcement.of(flagged(1), 1).announcement_id)


@pytest.mark.parametrize(
    "changes", [None, {"labels": ("cry",)}, {"withdrawn_at": AT.isoformat()}, {"expires_at": "2026-01-01T00:00:00+00:00"}]
)
def test_without_consent_that_covers_it_nothing_is_told_nor_kept(tmp_path, flagged, changes):
    if changes:
        given = {"given_at": "2025-12-01T00:00:00+00:00"} if "expires_at" in changes else {}
        consented(tmp_path, **changes, **given)
    destination = Recorded()
    with announcing(tmp_path, destination) as sink:
        assert sink.take(flagged()) == "taken", "the review service's own rules are its own"
        until(lambda: len(destination.pulses) > 1)
    assert destination.told == []
    assert rows(tmp_path) == []
    if changes is None:
        assert destination.pulses[0] == Pulse(None, is_muted=False, canary="passed"), "not even how many there were"


def test_consent_that_ends_or_changes_before_it_is_told_ends_the_telling(tmp_path, flagged):
    consented(tmp_path, "first")
    destination = Recorded()
    with announcing(tmp_path, destination, starts=False) as sink:
        sink.take(flagged())
        consented(tmp_path, "second")
        sink.start(list)
        until(lambda: rows(tmp_path)[0].state == "withdrawn")
    assert destination.told == []


def test_while_muted_nothing_is_told_but_that_it_is_muted(tmp_path, flagged):
    consented(tmp_path)
    (tmp_path / MUTE_FILE).touch()
    destination, muted = Recorded(), [True]
    with announcing(tmp_path, destination, is_muted=lambda: muted[0]) as sink:
        sink.take(flagged())
        until(lambda: destination.pulses)
        time.sleep(0.3)
        assert destination.told == []
        assert destination.pulses[0].is_muted
        muted[0] = False
        (tmp_path / MUTE_FILE).unlink()
        until(lambda: destination.told)
        until(lambda: not destination.pulses[-1].is_muted)


def test_a_destination_that_is_down_is_tried_again_and_the_next_start_goes_on(tmp_path, flagged):
    consented(tmp_path)
    destination = Recorded()
    destination.faults = [DestinationDownError("down")] * 3
    with announcing(tmp_path, destination) as sink:
        sink.take(flagged())
        until(lambda: destination.told)
    with announcing(tmp_path, Recorded(), starts=False) as sink:
        sink.take(flagged(1))
    destination = Recorded()
    with announcing(tmp_path, destination):
        until(lambda: [each.announcement_id for each in destination.told] == [Announcement.of(flagged(1), 1).announcement_id])


def test_one_that_is_refused_holds_up_no_other(tmp_path, flagged):
    consented(tmp_path)
    destination = Recorded()
    destination.faults = [DestinationRefusedError("answered 400")]
    with announcing(tmp_path, destination) as sink:
        for seq in range(2):
            sink.take(flagged(seq))
        until(lambda: destination.told)
    assert [(row.state, row.trouble) for row in rows(tmp_path)] == [("refused", "answered 400"), ("sent", "")]


def test_what_could_not_be_told_within_a_day_is_not_told_any_more(tmp_path, flagged):
    store = AnnounceStore(tmp_path / STORE_FILE, now=lambda: AT)
    store.put(Announcement.of(flagged(), 1), [("webhook", "here")], "consent-7")
    store.close()
    late = AnnounceStore(tmp_path / STORE_FILE, now=lambda: AT + KEPT_FOR + timedelta(seconds=1))
    assert late.next("webhook") is None
    assert [row.state for row in late.rows()] == ["expired"]
    late.close()


def test_a_clock_that_jumped_ahead_and_back_leaves_nothing_waiting_for_ever(tmp_path, flagged):
    store = AnnounceStore(tmp_path / STORE_FILE, now=lambda: AT + timedelta(days=400))
    store.put(Announcement.of(flagged(), 1), [("webhook", "here")], "consent-7")
    store.close()
    back = AnnounceStore(tmp_path / STORE_FILE, now=lambda: AT)
    assert back.next("webhook") is None
    back.close()


def test_a_damaged_file_is_moved_aside_and_told_of(tmp_path, flagged):
    (tmp_path / STORE_FILE).write_bytes(b"no database at all" * 1_000)
    said = []
    store = AnnounceStore(tmp_path / STORE_FILE, tell=said.append)
    store.put(Announcement.of(flagged(), 1), [("webhook", "here")], "consent-7")
    assert len(list(store.rows())) == 1
    store.close()
    assert "moved to announced.db.damaged-" in said[0]


def test_a_file_whose_schema_is_damaged_does_not_keep_the_device_from_listening(tmp_path):
    path = tmp_path / STORE_FILE
    AnnounceStore(path).close()
    content = path.read_bytes()
    assert b"made_at TEXT" in content
    path.write_bytes(content.replace(b"made_at TEXT", b"made_\xff\xffTEXT"))
    said = []
    AnnounceStore(path, tell=said.append).close()
    assert "moved to announced.db.damaged-" in said[0]


def test_a_full_disk_or_a_slow_destination_does_not_hold_up_listening(tmp_path, flagged, caplog):
    consented(tmp_path)
    destination, stuck = Recorded(), threading.Event()
    destination.send = lambda _: stuck.wait(10)
    with announcing(tmp_path, destination) as sink:
        began_s = time.monotonic()
        for seq in range(5):
            sink.take(flagged(seq))
        assert time.monotonic() - began_s < 5
        real, sink._store._conn = sink._store._conn, sqlite3.connect(":memory:")
        assert sink.take(flagged(9)) == "taken"
        assert "nobody is told of an event" in caplog.text
        sink._store._conn.close()
        sink._store._conn = real
        stuck.set()


@pytest.fixture
def house():
    """Something of the household's that takes webhooks."""
    with serving() as double:
        double.work = lambda _request: Answer(204)
        yield double


def webhook(house, timeout_s=5.0):
    made = Webhook(WebhookSettings(house.url + "/hook?key=private", SECRET), timeout_s=timeout_s, now=lambda: AT)
    made.open()
    return made


def test_a_webhook_gets_a_body_whose_signature_anyone_with_the_secret_can_check(house, flagged):
    out, announcement = webhook(house), Announcement.of(flagged(), 1)
    out.send(announcement)
    out.close()
    (request,) = house.heard
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (request.method, request.path, request.body) == ("POST", "/hook?key=private", announcement.to_bytes())
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    expected = hmac.new(b"a secret that a household made up", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    assert headers["webhook-timestamp"] == str(int(AT.timestamp()))
    assert "private" not in out.address


def test_the_signature_is_that_of_the_standards_own_example():
    """Of standard-webhooks/spec and its libraries' tests."""
    body = b'{"test": 2432232314}'
    made = signature_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, DestinationRefusedError) for status in (301, 302, 307, 308, 400, 404, 410, 413)),
        *((status, DestinationDownError) for status in (408, 429, 500, 503, 599)),
    ],
)
def test_a_webhook_that_does_not_take_it_is_told_apart_from_one_that_never_will(house, flagged, status, error):
    house.work = lambda _request: Answer(status, b"x" * 100_000, (("Location", house.url + "/elsewhere"),))
    out = webhook(house)
    with pytest.raises(error, match=str(status)):
        out.send(Announcement.of(flagged(), 1))
    out.close()
    assert [request.path for request in house.heard] == ["/hook?key=private"], "no redirect is followed"


def test_a_webhook_that_is_not_there_or_never_answers_is_down(house, flagged):
    house.work = lambda _request: house.slow.wait(3) and Answer(204)
    out = webhook(house, timeout_s=0.2)
    with pytest.raises(DestinationDownError):
        out.send(Announcement.of(flagged(), 1))
    house.slow.set()
    out.close()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = Webhook(WebhookSettings(f"http://127.0.0.1:{closed.getsockname()[1]}", SECRET))
        nobody.open()
        with pytest.raises(DestinationDownError):
            nobody.send(Announcement.of(flagged(), 1))
        nobody.close()


LABELS = ("scream", "cry", "baby_cry")


def mqtt(broker, **changes):
    return Mqtt(broker.settings(**changes), LABELS, "1.2.3", timeout_s=5.0)


def test_home_assistant_finds_the_device_and_hears_of_its_events_and_of_its_end(tmp_path, broker, subscriber, flagged):
    consented(tmp_path)
    with subscriber() as heard:
        with announcing(tmp_path, mqtt(broker)) as sink:
            sink.take(flagged())
            until(lambda: any(topic == "earmark/hall/event" for topic, *_ in heard))
            until(lambda: any(topic == "earmark/hall/status" and '"events": 1' in words for topic, words, _ in heard))
        until(lambda: ("earmark/hall/availability", "offline", False) in heard)
    told = {topic: json.loads(words) for topic, words, _ in heard if words.startswith("{")}
    assert ("earmark/hall/availability", "online", False) in heard
    event = told["earmark/hall/event"]
    assert (event["event_type"], event["label"], event["stream"]) == ("scream", "scream", "hall")
    assert set(event) == {"event_type", "announcement_id", "stream", "label", "at", "incident", "count"}
    assert told["earmark/hall/status"] == {"events": 1, "muted": "OFF", "canary": "passed"}
    configs = {topic: words for topic, words in told.items() if topic.startswith("homeassistant/")}
    assert sorted(topic.split("/")[1] for topic in configs) == ["binary_sensor", "binary_sensor", "event", "sensor"]
    assert len({words["unique_id"] for words in configs.values()}) == 4
    for topic, words in configs.items():
        assert topic.endswith("/config")
        assert words["state_topic"] in told, "what Home Assistant listens to is what is told"
        assert words["availability_topic"] == "earmark/hall/availability"
    assert configs["homeassistant/event/earmark_hall/flagged/config"]["event_types"] == list(LABELS)


def test_what_home_assistant_needs_after_its_own_restart_is_retained_and_events_are_not(tmp_path, broker, subscriber, flagged):
    consented(tmp_path)
    with announcing(tmp_path, mqtt(broker)) as sink:
        sink.take(flagged())
        with subscriber() as live:
            until(lambda: {"earmark/hall/status", "earmark/hall/event"} <= {topic for topic, *_ in live})
        with subscriber() as heard:
            until(lambda: len([topic for topic, _, retained in heard if retained]) >= 6)
    retained = {topic for topic, _, is_retained in heard if is_retained}
    assert {"earmark/hall/availability", "earmark/hall/status"} < retained
    assert "earmark/hall/event" not in retained


def test_the_broker_says_itself_when_a_device_dies(broker, subscriber):
    out = mqtt(broker)
    out.open()
    until(lambda: out.is_connected)
    with subscriber() as heard:
        out._client.socket().shutdown(socket.SHUT_RDWR)  # as when the power fails: without a goodbye
        until(lambda: ("earmark/hall/availability", "offline", False) in heard)
        until(lambda: ("earmark/hall/availability", "online", False) in heard)  # and it comes back by itself
    out.close()


def test_a_broker_that_is_away_is_told_when_it_is_back(tmp_path, broker, subscriber, flagged):
    consented(tmp_path)
    broker.stop()
    with announcing(tmp_path, mqtt(broker)) as sink:
        sink.take(flagged())
        time.sleep(0.5)
        assert sink.counts()["announcements_waiting"] == 1
        broker.start()
        with subscriber() as heard:
            until(lambda: any(topic == "earmark/hall/event" for topic, *_ in heard), seconds=90)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves a socket whose handshake failed to the collector
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"password": "wrong"}, "Not authorized"), ({"user": None, "password": None}, "Not authorized"), ({"ca": None}, "not connected")],
)
def test_a_broker_that_does_not_let_us_in_or_cannot_be_trusted_is_told_nothing(broker, flagged, changes, said):
    out = mqtt(broker, **changes)
    out.open()
    if said == "Not authorized":
        until(lambda: out.refusal)
    else:
        time.sleep(1)
    with pytest.raises(DestinationDownError, match=f"(?i){said}"):
        out.send(Announcement.of(flagged(), 1))
    out.close()
