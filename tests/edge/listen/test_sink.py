import sqlite3
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.edge.device import asked, consented, enrolled
from tests.edge.review_double import problem
from tests.waiting import until

from earmark_edge.courier import Courier
from earmark_edge.decide import DecideConfig, Rules
from earmark_edge.detector import Detector
from earmark_edge.event import RATE_CAP, Event
from earmark_edge.listen.sink import Beat, CourierSink, Flagged, Pace, ReportOnly
from earmark_edge.signature import public_of
from earmark_edge.spool import SPOOL_FILE, open_spool
from earmark_edge.uplink import Backoff, Uplink
from earmark_model.contract import Reason

AUDIBLE = {2, 3}
"""The tiers that can be listened to: masked and original audio."""


@pytest.fixture
def flagged(scorer, play):
    detector = Detector(scorer)
    detector.feed(play(("", 2), ("scream", 2)))
    (detection,) = detector.flush().detections
    return Flagged(detection, 3, "boot", datetime(2026, 1, 31, 12, tzinfo=UTC), 0.5, with_audio=True)


@contextmanager
def sink(state, service, scorer, *, is_muted=lambda: False, starts=True):
    credentials = enrolled(state, service.url)
    service.device = public_of(credentials.device_key)
    couriers = [Courier(state, credentials, open_spool(state / SPOOL_FILE, 10**8, lambda _: None)) for _ in range(2)]
    out = CourierSink(
        *couriers,
        lambda pause: Uplink(credentials, sleep=pause, backoff=Backoff(attempts=1)),
        Rules(scorer.spec, DecideConfig()),
        is_muted=is_muted,
        pace=Pace(retry_s=0.05),
    )
    try:
        if starts:
            out.start(lambda: [Beat("boot", 4, "passed")])
        yield out
    finally:
        out.close()
        for courier in couriers:
            courier.close()


def test_an_event_is_sent_with_its_number_its_time_its_incident_and_the_configurations_hash(tmp_path, service, scorer, flagged):
    consented(tmp_path)
    with sink(tmp_path, service, scorer) as out:
        assert out.take(replace(flagged, detection=replace(flagged.detection, incident=5))) == "sealed"
        until(lambda: out.counts()["sent"] == 1)
    event = Event.from_bytes(next(iter(service.events.values())))
    assert (event.seq, event.boot_id, event.incident, event.wall_uncertainty_s, event.consent_id) == (3, "boot", 5, 0.5, "consent-7")
    assert event.config_sha256 == Rules(scorer.spec, DecideConfig()).sha256
    assert event.wall_time.startswith("2026-01-31T12:00:0")
    assert event.audio_withheld == ""
    tiers = {clip.tier for clip in event.clips}
    assert 0 in tiers
    assert tiers & AUDIBLE


def test_an_event_over_the_cap_is_sent_without_audio(tmp_path, service, scorer, flagged):
    consented(tmp_path)
    with sink(tmp_path, service, scorer) as out:
        out.take(replace(flagged, with_audio=False))
        until(lambda: out.counts()["sent"] == 1)
    event = Event.from_bytes(next(iter(service.events.values())))
    assert 0 in (tiers := {clip.tier for clip in event.clips})
    assert not tiers & AUDIBLE
    assert event.audio_withheld == RATE_CAP, "which tells it from one whose audio nobody agreed to"


def test_while_the_service_is_down_events_wait_on_the_disk(tmp_path, service, scorer, flagged, caplog):
    consented(tmp_path)
    service.fail(*[problem(503, "down")] * 6)
    with sink(tmp_path, service, scorer) as out:
        out.take(flagged)
        assert out.counts()["waiting"] == 1
        until(lambda: out.counts()["sent"] == 1)
    assert "events wait" in caplog.text


def test_what_waits_at_the_end_is_there_at_the_next_start(tmp_path, service, scorer, flagged):
    consented(tmp_path)
    with sink(tmp_path, service, scorer, starts=False) as out:
        out.take(flagged)
    with sink(tmp_path, service, scorer) as out:
        until(lambda: out.counts()["sent"] == 1)


def test_without_consent_an_event_stays_here_and_the_listening_goes_on(tmp_path, service, scorer, flagged, caplog):
    with sink(tmp_path, service, scorer, starts=False) as out:
        assert out.take(flagged) == "stays here"
        assert out.counts()["waiting"] == 0
    assert "no consent record" in caplog.text


def test_a_switch_that_mutes_holds_back_delivery_and_the_heartbeat_says_so(tmp_path, service, scorer, flagged):
    consented(tmp_path)
    is_muted = [True]
    with sink(tmp_path, service, scorer, is_muted=lambda: is_muted[0], starts=False) as out:
        out.start(lambda: [Beat("boot", 4, "missed")])
        out.take(flagged)
        until(lambda: service.heartbeats)
        time.sleep(0.7)
        assert service.events == {}
        is_muted[0] = False
        until(lambda: out.counts()["sent"] == 1)
    beat = service.heartbeats[0]
    assert (beat.is_muted, beat.canary, beat.next_seq, beat.boot_id) == (True, "missed", 4, "boot")


def test_a_missed_canary_is_told_at_the_next_heartbeat_though_another_was_heard_since(tmp_path, service, scorer):
    consented(tmp_path)
    service.fail(*[problem(503, "down")] * 2)
    with sink(tmp_path, service, scorer, starts=False) as out:
        out._pace = Pace(beat_s=0.05, retry_s=0.05)
        out.start(lambda: [Beat("boot", 4, "passed", missed=1)])
        until(lambda: len(service.heartbeats) > 1)
    assert [beat.canary for beat in service.heartbeats][:2] == ["missed", "passed"], "once, and then how it is now"


def test_a_delivery_that_fails_in_an_unforeseen_way_begins_again(tmp_path, service, scorer, flagged, caplog):
    consented(tmp_path)
    with sink(tmp_path, service, scorer, starts=False) as out:
        deliver, failures = out._sending.deliver, [sqlite3.OperationalError("disk I/O error")]

        def failing(uplink):
            if failures:
                raise failures.pop()
            return deliver(uplink)

        out._sending.deliver = failing
        out.take(flagged)
        out.start(list)
        until(lambda: out.counts()["sent"] == 1)
    assert "begins again" in caplog.text


def test_an_outbox_that_cannot_be_written_does_not_end_the_listening(tmp_path, service, scorer, flagged, caplog):
    consented(tmp_path)
    with sink(tmp_path, service, scorer, starts=False) as out:
        out._sealing.spool._conn.execute("PRAGMA query_only = ON")
        assert out.take(flagged) == "stays here"
        out._sealing.spool._conn.execute("PRAGMA query_only = OFF")
        assert out.take(flagged) == "sealed"
    assert "an event stays here" in caplog.text


def ruin(out, path):
    """Break the whole file under the listener, as a memory card that gives up does."""
    out._sealing.spool._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    for courier in (out._sealing, out._sending):
        courier.spool._conn.execute("PRAGMA shrink_memory")  # what is still known of it is read anew


def test_an_outbox_that_breaks_while_listening_is_moved_aside_and_no_later_event_is_lost(tmp_path, service, scorer, flagged):
    consented(tmp_path)
    with sink(tmp_path, service, scorer, starts=False) as out:
        assert out.take(flagged) == "sealed"
        ruin(out, tmp_path / SPOOL_FILE)
        assert out.take(replace(flagged, boot_id="another", seq=7)) == "sealed"
        assert list(tmp_path.glob("outbox.db.damaged-*"))
        assert out.counts()["waiting"] >= 1
        out.start(list)
        until(lambda: [Event.from_bytes(payload).seq for payload in service.events.values()] == [7])
        assert out.take(replace(flagged, boot_id="a third", seq=8)) == "sealed"
        until(lambda: len(service.events) == 2)


def test_an_outbox_that_breaks_while_sending_goes_on_as_a_fresh_one(tmp_path, service, scorer, flagged):
    consented(tmp_path)
    with sink(tmp_path, service, scorer) as out:
        out.take(flagged)
        until(lambda: out.counts()["sent"] == 1)
        ruin(out, tmp_path / SPOOL_FILE)
        until(lambda: list(tmp_path.glob("outbox.db.damaged-*")))
        assert out.take(replace(flagged, boot_id="another", seq=7)) == "sealed"
        until(lambda: out.counts()["sent"] == 2)


def test_without_a_way_out_nothing_leaves(flagged):
    out = ReportOnly()
    assert out.take(flagged) == "kept here"
    assert out.counts() == {}


def test_each_sound_is_drawn_by_itself_with_the_policys_probability_and_leaves_masked(tmp_path, service, scorer, flagged):
    consented(tmp_path, may_slice=True)
    asked(tmp_path, (0, 1, 2, 3), 0.25)
    near = replace(flagged.detection, reason=Reason.BELOW_THRESHOLD)
    with sink(tmp_path, service, scorer) as out:
        out._chance = iter([0.9, 0.2499, 0.25, 0.0]).__next__
        assert [out.draw() for _ in range(4)] == [None, 0.25, None, 0.25]
        assert out.take(replace(flagged, detection=near, slice_probability=0.25)) == "sealed"
        until(lambda: out.counts()["sent"] == 1)
    event = Event.from_bytes(next(iter(service.events.values())))
    assert (event.slice_probability, event.reason) == (0.25, Reason.BELOW_THRESHOLD)
    assert [clip.tier for clip in event.clips] == [0, 1, 2], "the original never, though household and policy would let it"
    assert (ReportOnly().slice_probability(), ReportOnly().draw()) == (0.0, None)
