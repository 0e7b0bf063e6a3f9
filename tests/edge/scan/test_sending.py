"""`earmark edge scan --send`: what leaves, sealed, and what stays."""

import os
import wave
from functools import partial

import numpy as np
import pytest
from tests.edge.device import asked, consented, enrolled
from tests.edge.review_double import Answer, problem
from tests.edge.scan.conftest import of_type
from typer.testing import CliRunner

from earmark_edge import delivery_cli
from earmark_edge.cli import app
from earmark_edge.event import Event, ScoreTrack
from earmark_edge.listen.status import Status
from earmark_edge.picture import ThirdOctavePicture
from earmark_edge.signature import public_of
from earmark_edge.uplink import Uplink

RATE_HZ = 16_000
CONSENT = "consent-7"


@pytest.fixture
def state(tmp_path, service):
    """An enrolled device, without consent so far."""
    service.device = public_of(enrolled(tmp_path / "state", service.url).device_key)
    return tmp_path / "state"


@pytest.fixture
def send(scan, state, monkeypatch):
    monkeypatch.setattr(delivery_cli, "Uplink", partial(Uplink, sleep=lambda _: None))
    consented(state, CONSENT)
    return lambda *arguments, **environment: scan(*arguments, "--send", EARMARK_STATE=str(state), **environment)


def test_without_enrolment_or_consent_a_scan_that_is_to_send_hears_nothing(scan, state, evening, tmp_path):
    for folder, told in ((tmp_path / "new", "earmark edge enrol"), (state, "earmark edge consent give")):
        result = scan(evening, "--send", EARMARK_STATE=str(folder))
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert told in line


def test_flagged_events_are_delivered_sealed_with_every_tier_that_is_allowed_and_nothing_else_is(send, service, state, evening, quiet):
    asked(state, (0, 1, 2, 3))
    result = send(evening, quiet, "--json")
    assert result.exit_code == 0, result.stderr
    events = [Event.from_bytes(body) for body in service.events.values()]
    told = of_type(result, "event")
    assert [(event.seq, event.label, event.onset_s, event.offset_s) for event in events] == [
        (number, entry["label"], entry["onset_s"], entry["offset_s"]) for number, entry in enumerate(told)
    ]
    assert {event.consent_id for event in events} == {CONSENT}
    assert [entry["delivery"] for entry in told] == ["sealed", "sealed"]
    with wave.open(str(evening)) as file:
        whole = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)
    sent_samples = 0
    for event in events:
        audio = np.frombuffer(service.opened(event.event_id, 3)[44:], "<i2").astype(int)
        span = whole[round(event.onset_s * RATE_HZ) : round(event.offset_s * RATE_HZ)]
        assert np.abs(audio - span).max() <= 1  # 16 bits to float32 and back
        sent_samples += len(audio)
        assert len(service.opened(event.event_id, 2)) == len(service.opened(event.event_id, 3))
        assert ThirdOctavePicture.from_bytes(service.opened(event.event_id, 1)).start_s == event.onset_s
        assert ScoreTrack.from_bytes(service.opened(event.event_id, 0)).start_s == event.onset_s
    assert sent_samples / RATE_HZ == pytest.approx(of_type(result, "summary")[0]["flagged_s"])
    assert of_type(result, "summary")[0]["sent"] == 2
    assert len(service.paths()) == sum(1 + len(event.clips) for event in events)
    assert service.paths()[:2] == ["POST /api/v1/events"] * 2, "metadata goes first"


def test_scanning_and_sending_again_delivers_nothing_twice(send, service, evening):
    assert "sent     2 events, 0 not delivered" in send(evening).stdout
    before, service.heard = dict(service.events), []
    assert send(evening).exit_code == 0
    assert service.events == before
    assert service.paths() == []


def test_without_a_policy_that_asks_for_them_originals_stay_even_where_the_household_consents(send, service, state, evening):
    assert send(evening).exit_code == 0
    assert {tuple(clip.tier for clip in Event.from_bytes(body).clips) for body in service.events.values()} == {(0, 1, 2)}
    assert {tier for held in service.clips.values() for tier in held} == {0, 1, 2}


def test_a_policy_alone_does_not_make_originals_leave(send, service, state, evening):
    consented(state, tiers=(0, 1, 2))
    asked(state, (0, 1, 2, 3))
    assert send(evening).exit_code == 0
    assert {tier for held in service.clips.values() for tier in held} == {0, 1, 2}


def test_only_the_tiers_that_the_household_consents_to_leave(send, service, state, evening):
    consented(state, tiers=(0,))
    assert send(evening).exit_code == 0
    assert {tuple(clips) for clips in service.clips.values()} == {(0,)}


def test_a_sound_that_the_household_does_not_consent_to_stays(send, service, state, evening):
    consented(state, labels=("baby_cry",))
    result = send(evening)
    assert result.exit_code == 1
    assert service.events == {}
    assert "not among the sounds that may leave" in result.stderr


def test_a_muted_device_hears_but_sends_nothing(send, service, state, evening):
    (state / "mute").touch()
    result = send(evening)
    assert result.exit_code == 1
    assert "muted" in result.stderr
    assert service.heard == []


@pytest.mark.parametrize("by", [("switch",), ()])
def test_a_switch_that_mutes_the_listener_mutes_what_is_sent_by_hand_too(send, service, state, evening, by):
    Status("1", os.getpid(), "", "", "a" * 64, "b" * 64, (), [], muted_by=by, is_running=False).write(state)
    result = send(evening)
    assert bool(service.events) is not bool(by)
    assert ("mute switch is on" in result.stderr) is bool(by)


def test_a_refused_event_is_told_in_one_line_and_the_others_are_still_sent(send, service, evening):
    service.fail(problem(422, "Consent withdrawn", "ask again"))
    result = send(evening)
    assert result.exit_code == 1
    line, waiting = result.stderr.splitlines()
    assert "answered 422, Consent withdrawn: ask again" in line
    assert "1 events wait in the outbox" in waiting
    assert len(service.events) == 1
    assert "sent     1 events, 1 not delivered" in result.stdout


def test_with_the_service_down_the_scan_keeps_everything_and_send_delivers_it_later(send, service, state, evening, tmp_path):
    copy = tmp_path / "copy.wav"
    copy.write_bytes(evening.read_bytes())
    os.utime(copy, (1e9, 1e9))
    service.fail(*[Answer(503)] * 5)
    result = send(evening, copy, "--json")
    assert result.exit_code == 1
    assert len(service.paths()) == 5
    assert len(result.stderr.splitlines()) == 2
    assert [event["delivery"] for event in of_type(result, "event")] == ["sealed"] * 4
    assert of_type(result, "summary")[0]["unsent"] == 4
    later = CliRunner().invoke(app, ["send", "--state", str(state)])
    assert later.exit_code == 0, later.output
    assert "sent 4 events; 0 wait" in later.stdout
    assert len(service.events) == 4
