import queue
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.edge.listen.fakes import Collected

from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detector, Heard
from earmark_edge.listen.clock import ClockState, clock_state
from earmark_edge.listen.listener import Clocks, Listener, Outlets
from earmark_edge.listen.metrics import render
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.status import troubles
from earmark_edge.listen.supervisor import Block, Notice, State

RATE_HZ = 16_000
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Time:
    """A clock that a test turns."""

    def __init__(self):
        self.now_s, self.wall_offset = 100.0, timedelta()

    def clocks(self):
        wall = lambda: NOON + timedelta(seconds=self.now_s) + self.wall_offset  # noqa: E731
        return Clocks(lambda: self.now_s, wall, lambda: ClockState(is_synchronised=True, uncertainty_s=0.01))


class Home:
    """A listener that is fed by hand."""

    def __init__(self, scorer, tmp_path, *, streams=1, config=None, mute=None, **knobs):
        self.time, self.got, self.mute = Time(), Collected(), mute or Mute(tmp_path / "mute")
        self.statuses = []
        self.settings = ListenSettings(**{"canary_s": 0.0, **knobs})
        self.inbox = queue.Queue()
        self.listener = Listener(
            [f"room {number}" for number in range(streams)],
            scorer,
            config or DecideConfig(),
            self.settings,
            inbox=self.inbox,
            mute=self.mute,
            outlets=Outlets(self.got, self.got, lambda status: self.statuses.append(status.to_json())),
            clocks=self.time.clocks(),
        )

    def hear(self, samples, *, stream=0, block=1_600, is_first=False):
        for start in range(0, len(samples), block):
            part = samples[start : start + block]
            self.time.now_s += len(part) / RATE_HZ
            self.listener._check_mute()
            self.listener._block(self.listener.channels[stream], Block(stream, part, self.time.now_s, is_first and not start))

    def end(self, stream=0):
        self.listener._notice(self.listener.channels[stream], Notice(stream, State.ENDED, ""))

    @property
    def detections(self):
        return [flagged.detection for flagged in self.got.taken]


@pytest.fixture(scope="module")
def scene(play):
    noise = np.random.default_rng(5).standard_normal(round(24.5 * RATE_HZ)).astype(np.float32) * 0.002
    return play(("speech", 5), ("scream", 1.5), ("speech", 4), ("cry+speech", 3), ("", 9), ("baby_cry", 2)) + noise


def offline(scorer, samples):
    detector = Detector(scorer)
    return Heard.joined([detector.feed(samples), detector.flush()]).detections


@given(st.lists(st.integers(1, 392_000), max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_heard_live_is_what_is_heard_offline_for_any_chunking(scorer, scene, tmp_path, cuts):
    home = Home(scorer, tmp_path)
    for part in np.split(scene, sorted(cuts)):
        if part.size:
            home.hear(part, block=len(part))
    home.end()
    expected = offline(scorer, scene)
    assert len(home.detections) == len(expected) == 3
    for found, wanted in zip(home.detections, expected, strict=True):
        np.testing.assert_array_equal(found.audio, wanted.audio)
        assert found.peak_score == pytest.approx(wanted.peak_score, abs=1e-6)
        assert (found.onset_s, found.label, found.reason, found.incident) == (
            pytest.approx(wanted.onset_s),
            wanted.label,
            wanted.reason,
            wanted.incident,
        )


def test_each_event_says_when_it_was(scorer, tmp_path, play):
    home = Home(scorer, tmp_path)
    home.hear(play(("", 4), ("scream", 2), ("", 6)))
    ((_, flagged, at, _),) = home.got.events
    assert flagged.detection.onset_s == pytest.approx(4, abs=0.5)
    assert (at - NOON).total_seconds() == pytest.approx(104, abs=0.5)
    assert flagged.wall_uncertainty_s == 0.01


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_an_hour_moves_no_event_on_the_streams_own_clock(scorer, tmp_path, play, hours):
    home = Home(scorer, tmp_path)
    home.hear(play(("", 4), ("scream", 2), ("", 6)))
    home.time.wall_offset = timedelta(hours=hours)
    home.hear(play(("", 4), ("scream", 2), ("", 6)))
    one, other = home.got.taken
    assert other.detection.onset_s - one.detection.onset_s == pytest.approx(12, abs=0.01)
    assert (one.seq, other.seq) == (0, 1)
    assert one.boot_id == other.boot_id


def test_streams_share_a_session_and_nothing_else(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, streams=2)
    scream, cry = play(("", 2), ("scream", 2), ("", 6)), play(("", 3), ("cry", 2), ("", 5))
    for start in range(0, len(scream), 800):
        home.hear(scream[start : start + 800], stream=0)
        home.hear(cry[start : start + 800], stream=1)
    assert [(name, flagged.detection.label, flagged.seq) for name, flagged, _, _ in home.got.events] == [
        ("room 0", "scream", 0),
        ("room 1", "cry", 0),
    ]
    assert len({flagged.boot_id for flagged in home.got.taken}) == 2


def test_a_hole_in_the_stream_closes_what_is_open_and_time_goes_on(scorer, tmp_path, play):
    home = Home(scorer, tmp_path)
    home.hear(play(("", 2), ("scream", 2)))
    home.listener._notice(home.listener.channels[0], Notice(0, State.DOWN, "unplugged", is_failure=True))
    assert [detection.label for detection in home.detections] == ["scream"]
    home.time.now_s += 50
    home.hear(play(("", 2), ("scream", 2), ("", 6)), is_first=True)
    one, other = home.detections
    assert other.onset_s == pytest.approx(4 + 50 + 2, abs=0.5)
    assert (one.incident, other.incident) == (0, 1)


def test_mute_wipes_what_is_held_and_nothing_of_an_open_event_leaves(scorer, tmp_path, play):
    home = Home(scorer, tmp_path)
    home.hear(play(("", 2), ("scream", 3)))
    detector = home.listener.channels[0].detector
    assert detector.has_open_event
    held = detector._windower._held
    (tmp_path / "mute").touch()
    home.listener._check_mute()
    assert not detector._ring._samples.any()
    assert not held.any()
    home.hear(play(("scream", 5)))
    (tmp_path / "mute").unlink()
    home.hear(play(("", 10)))
    home.end()
    assert home.got.taken == []
    assert home.got.mutes == [("file",), ()]
    assert home.listener.status.streams[0].muted_s == pytest.approx(5, abs=0.2)
    assert '"muted_by": [\n  "file"' in home.statuses[0]


def test_after_mute_a_block_that_began_before_its_end_is_thrown_away(scorer, tmp_path, play):
    home = Home(scorer, tmp_path)
    (tmp_path / "mute").touch()
    home.listener._check_mute()
    (tmp_path / "mute").unlink()
    home.listener._check_mute()
    channel = home.listener.channels[0]
    home.listener._block(channel, Block(0, play(("scream", 2)), home.time.now_s + 1.9, is_first=True))
    assert channel.status.heard_s == 0
    home.listener._block(channel, Block(0, play(("", 2)), home.time.now_s + 3.9, is_first=False))
    assert channel.status.heard_s == 2


def test_a_canary_is_reported_and_never_reaches_the_sink(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, canary_s=30.0)
    home.listener.channels[0].canary._sound = play(("scream", 2.4))
    home.hear(play(("", 25)))
    assert [result.is_heard for _, result in home.got.canaries] == [True]
    assert home.got.taken == []
    told = home.listener.status.streams[0]
    assert (told.events, told.canary.heard, told.canary.is_last_heard) == (0, 1, True)
    assert [beat.canary for beat in home.listener.beats()] == ["passed"]
    assert troubles(asdict(told)) == []


def test_a_missed_canary_is_in_the_status_and_the_metrics(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, canary_s=30.0)
    home.listener.channels[0].canary._sound = play(("other", 2.4))
    home.hear(play(("", 25)))
    told = home.listener.status.streams[0]
    assert "was missed" in troubles(asdict(told))[0]
    assert [beat.canary for beat in home.listener.beats()] == ["missed"]
    assert '"missed": 1' in home.statuses[-1]
    assert 'earmark_canaries_missed_total{stream="0",name="room 0"} 1\n' in render(home.listener.status)


def notice(home, state):
    home.listener._notice(home.listener.channels[0], Notice(0, state, ""))


def test_an_input_that_stays_away_misses_its_canary_and_hears_one_soon_after_it_is_back(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, canary_s=3_600.0)
    home.listener.channels[0].canary._sound = play(("scream", 2.4))
    home.hear(play(("", 25)))
    assert [beat.canary for beat in home.listener.beats()] == ["passed"]
    notice(home, State.DOWN)
    for minutes, missed in ((0.5, 0), (1, 1), (30, 1), (61, 2)):
        home.time.now_s += 60 * minutes - (home.time.now_s - 125.0)
        notice(home, State.STARTING)
        notice(home, State.DOWN)
        home.listener._miss_canaries()
        assert home.listener.beats()[0].missed == missed
    assert [beat.canary for beat in home.listener.beats()] == ["missed"]
    notice(home, State.LISTENING)
    home.hear(play(("", 25)), is_first=True)
    home.time.now_s += 3_600
    home.listener._miss_canaries()
    assert [(beat.canary, beat.missed) for beat in home.listener.beats()] == [("passed", 2)]


@pytest.mark.parametrize(("canary_s", "is_muted"), [(0.0, False), (3_600.0, True)])
def test_without_canaries_and_while_muted_none_is_missed(scorer, tmp_path, canary_s, is_muted):
    home = Home(scorer, tmp_path, canary_s=canary_s)
    notice(home, State.DOWN)
    if is_muted:
        (tmp_path / "mute").touch()
    home.listener._check_mute()
    home.time.now_s += 3_600
    home.listener._miss_canaries()
    assert home.got.canaries == []


def test_the_loop_looks_for_inputs_that_stay_away(scorer, tmp_path):
    home, stop = Home(scorer, tmp_path, canary_s=3_600.0), threading.Event()
    notice(home, State.STALLED)
    home.time.now_s += 61
    home.got.canary = lambda name, result, at: (home.got.canaries.append((name, result)), stop.set())
    home.listener.run(stop)
    assert [result.is_heard for _, result in home.got.canaries] == [False]


def test_a_real_scream_during_a_canary_is_handed_on_like_any_other(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, canary_s=60.0)
    home.listener.channels[0].canary._sound = play(("scream", 2.4))
    home.hear(play(("", 12), ("cry", 2), ("", 10)))
    assert [detection.label for detection in home.detections] == ["cry"]
    assert len(home.got.canaries) == 1


def test_a_scream_that_lasts_an_hour_is_one_incident_with_all_its_events(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, audio_s_per_hour=300.0)
    minute = play(("scream", 60))
    for _ in range(60):
        home.hear(minute, block=32_000)
    home.end()
    assert len(home.detections) >= 60
    assert {detection.incident for detection in home.detections} == {0}
    assert sum(detection.duration_s for detection in home.detections) == pytest.approx(3_600, abs=5)
    assert home.got.taken[0].with_audio
    with_audio_s = sum(flagged.detection.duration_s for flagged in home.got.taken if flagged.with_audio)
    assert 300 <= with_audio_s <= 300 + 300 + 60
    assert home.listener.status.streams[0].events_without_audio > 40


def test_a_flood_of_events_is_kept_and_loses_audio_only(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, audio_s_per_hour=10.0)
    template = offline(scorer, play(("", 2), ("scream", 1), ("", 4)))[0]
    channel = home.listener.channels[0]
    for index in range(1_000):
        event = replace(template, onset_s=2 + index * 0.06, offset_s=3 + index * 0.06, incident=index)
        home.listener._detected(channel, Heard(detections=(event,)))
    assert [flagged.seq for flagged in home.got.taken] == list(range(1_000))
    assert home.got.taken[0].with_audio
    assert not home.got.taken[-1].with_audio
    firsts = {flagged.detection.incident: flagged.with_audio for flagged in reversed(home.got.taken)}
    assert all(firsts.values())


def test_the_status_is_written_on_schedule_and_holds_no_scores(scorer, tmp_path, scene):
    home = Home(scorer, tmp_path, status_s=2.0)
    home.hear(scene)
    home.end()
    text = home.statuses[-1] + render(home.listener.status)
    for word in ("speech", "laughter", "score", "dbfs", "level"):
        assert word not in text
    assert home.listener.status.streams[0].events == 3


def test_the_loop_ends_when_every_input_has_ended_and_at_a_stop(scorer, tmp_path, play):
    home = Home(scorer, tmp_path, status_s=0.1)
    for part in np.split(play(("", 2), ("scream", 2)), 8):
        home.inbox.put(Block(0, part, 100.0, is_first=False))
    home.inbox.put(Notice(0, State.ENDED, ""))
    home.listener.run(threading.Event())
    assert len(home.detections) == 1
    stopped = threading.Event()
    stopped.set()
    again = Home(scorer, tmp_path)
    again.hear(play(("", 2), ("scream", 2)))
    again.listener.run(stopped)
    assert len(again.detections) == 1  # what was open is closed and kept


def test_the_kernel_tells_whether_its_clock_is_disciplined():
    state = clock_state()
    assert state.uncertainty_s > 0
    assert state.is_synchronised or state.uncertainty_s == 86_400


def faint(play, *seconds):
    return np.concatenate([play(("", 4), ("cry", length), ("", 4), amplitude=0.018) for length in seconds])


def test_below_the_threshold_nothing_is_looked_for_until_the_home_agrees_and_then_a_few_leave(scorer, tmp_path, play):
    home = Home(scorer, tmp_path)
    home.listener._slice_where_agreed()
    home.hear(faint(play, 1.5))
    assert (home.got.taken, home.got.draws) == ([], [])
    home.got.probability = 0.5
    home.listener._slice_where_agreed()
    home.hear(faint(play, 1.5, 1.5, 1.5))
    home.hear(play(("scream", 1.5), ("", 4)))
    home.end()
    assert len(home.got.draws) == 3
    drawn = [one for one in home.got.taken if one.slice_probability is not None]
    assert [(one.slice_probability, one.detection.label) for one in drawn] == [(0.5, "cry")] * 2
    assert [one.seq for one in home.got.taken] == [0, 1, 2], "what was drawn is numbered like any event, so that a loss shows"
    assert drawn[0].detection.onset_s == pytest.approx(13.5, abs=1.0)
    assert len(home.got.events) == 1, "of the home's events it is none"
    assert home.listener.status.streams[0].events == 1
    assert sum("was drawn to count what is missed" in line for line in home.got.lines) == 2
    home.got.probability = 0.0
    home.listener._slice_where_agreed()
    assert home.got.lines[-1] == "nothing below the threshold leaves any more"


def test_the_slice_changes_between_events_and_not_in_one(scorer, tmp_path, play):
    home = Home(scorer, tmp_path)
    home.hear(play(("", 3), ("scream", 2)))
    home.got.probability = 0.5
    home.listener._slice_where_agreed()
    assert not home.listener._is_slicing
    home.hear(play(("scream", 1), ("", 8)))
    home.listener._slice_where_agreed()
    assert home.listener._is_slicing
    assert [one.duration_s > 2.9 for one in home.detections] == [True], "and what was open was not cut"
