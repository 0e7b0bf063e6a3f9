"""Spans from painted scores: `paint` says when which label is heard, windows and frames see exactly that."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark_edge.decide import DecideConfig, Decider, Rules
from earmark_edge.spans import SpanTracker
from earmark_edge.timeline import Timeline, cell_scores
from earmark_edge.window import Windower
from earmark_model.contract import LABELS, BundleSpec, Threshold

RATE_HZ, CELL = 16_000, 1_280
CELL_S = CELL / RATE_HZ
WINDOW = 25 * CELL
ALIGNED, SHIPPED = 6 * CELL, 8_000  # a hop of whole cells, for exact figures, and the one in use


@dataclass
class Run:
    spans: list
    windows: list  # start, end, is_flagged
    tracker: SpanTracker
    length: int

    @property
    def seconds(self):
        return [(round(span.onset / RATE_HZ, 3), round(span.offset / RATE_HZ, 3)) for span in self.spans]

    @property
    def incidents(self):
        return [span.incident for span in self.spans]


def rules_for(config, hop=ALIGNED, threshold=0.5):
    thresholds = {label: Threshold(threshold) for label in LABELS}
    return Rules(BundleSpec(LABELS, ("scream", "cry", "baby_cry"), RATE_HZ, WINDOW, hop, CELL, thresholds, "a" * 64), config)


def paint(length_s, *strokes):
    """Frame scores of a stream on the finest grid: `strokes` are (label, from second, to second, score)."""
    scores = np.zeros((round(length_s * RATE_HZ / 320), len(LABELS)), np.float32)
    for label, start_s, end_s, score in strokes:
        scores[round(start_s * 50) : round(end_s * 50), LABELS.index(label)] = score
    return scores


def run(length_s, *strokes, config=None, hop=ALIGNED, clip=None):
    """Cut `length_s` seconds of painted scores into windows, decide, and track; a clip score is the largest frame, or `clip`."""
    rules = rules_for(config or DecideConfig(margin_s=0.0, min_event_s=0.0), hop)
    scores, length = paint(length_s, *strokes), round(length_s * RATE_HZ)
    windower, decider, tracker = Windower(WINDOW, hop), Decider(rules), SpanTracker(rules)
    spans, windows, oldest = [], [], 0
    for window in windower.feed(np.zeros(length, np.float32)) + windower.flush():
        starts = window.start + CELL * np.arange(WINDOW // CELL)
        frames = np.stack([scores[start // 320 : (start + CELL) // 320].max(axis=0, initial=0) for start in starts])
        clip_scores = frames.max(axis=0) if clip is None else clip(window.start / RATE_HZ)
        flagged = decider.decide(clip_scores).is_flagged
        found = tracker.feed(window.start, window.valid, clip_scores, frames, is_flagged=flagged)
        for span in found:
            assert span.onset >= max(0, window.end - tracker.lookback_samples)
        spans += found
        windows.append((window.start, window.end, flagged))
        oldest = max(oldest, len(tracker._timeline.scores) * CELL)
    assert oldest <= tracker.lookback_samples + WINDOW
    return Run(spans + tracker.flush(), windows, tracker, length)


def test_an_event_is_narrowed_from_its_windows_to_its_frames():
    found = run(10, ("scream", 4.0, 4.8, 0.9))
    assert found.seconds == [(4.0, 4.8)]
    assert [flagged for *_, flagged in found.windows].count(True) >= 4  # the windows alone would have exported three times as much


def test_frames_at_the_lower_threshold_belong_to_the_event_and_those_below_do_not():
    found = run(10, ("scream", 4.0, 4.8, 0.9), ("scream", 4.8, 5.6, 0.3), ("scream", 5.6, 6.4, 0.29))
    assert found.seconds == [(4.0, 5.6)]


def test_where_no_frame_says_where_all_flagged_windows_are_taken():
    found = run(10, clip=lambda start_s: np.array([0.9 if start_s == 2.4 else 0.0, *[0.0] * 6], np.float32))
    assert found.seconds == [(2.4, 4.4)]


def test_a_margin_is_exported_on_each_side_but_never_outside_the_flagged_windows():
    config = DecideConfig(margin_s=0.16, min_event_s=0.0)
    assert run(10, ("scream", 4.0, 4.8, 0.9), config=config).seconds == [(3.84, 4.96)]
    whole = run(10, config=config, clip=lambda start_s: np.array([0.9 if start_s == 2.4 else 0.0, *[0.0] * 6], np.float32))
    assert whole.seconds == [(2.4, 4.4)]


def test_a_roll_that_holds_speech_alone_is_cut():
    config = DecideConfig(margin_s=0.8, min_event_s=0.0)
    assert run(10, ("scream", 4.0, 4.8, 0.9), ("speech", 0.0, 3.6, 0.9), config=config).seconds == [(3.6, 5.6)]
    assert run(10, ("scream", 4.0, 4.8, 0.9), ("speech", 4.8, 9.0, 0.9), config=config).seconds == [(3.2, 4.8)]


def test_speech_over_a_sensitive_sound_does_not_cut_it():
    assert run(10, ("cry", 4.0, 5.6, 0.9), ("speech", 4.0, 5.6, 0.95)).seconds == [(4.0, 5.6)]


def test_a_short_event_is_widened_to_the_minimum_and_never_dropped():
    config = DecideConfig(margin_s=0.0, min_event_s=0.8)
    assert run(10, ("scream", 4.0, 4.08, 0.9), config=config).seconds == [(3.68, 4.48)]


def test_a_short_event_at_either_end_of_the_stream_is_widened_inwards():
    config = DecideConfig(margin_s=0.0, min_event_s=0.8)
    assert run(10, ("scream", 0.0, 0.08, 0.9), config=config).seconds == [(0.0, 0.8)]
    assert run(10, ("scream", 9.92, 10.0, 0.9), config=config).seconds == [(9.2, 10.0)]


def test_widening_to_the_minimum_stops_at_speech():
    config = DecideConfig(margin_s=0.0, min_event_s=0.8)
    found = run(10, ("scream", 4.0, 4.08, 0.9), ("speech", 0.0, 4.0, 0.9), ("speech", 4.24, 10.0, 0.9), config=config)
    assert found.seconds == [(4.0, 4.24)]


def test_near_events_become_one_and_far_ones_stay_two():
    config = DecideConfig(margin_s=0.0, min_event_s=0.0, merge_gap_s=1.6)
    near = run(20, ("scream", 4.0, 4.8, 0.9), ("cry", 6.4, 7.2, 0.9), config=config)
    assert (near.seconds, near.incidents) == ([(4.0, 7.2)], [0])
    far = run(20, ("scream", 4.0, 4.8, 0.9), ("cry", 6.48, 7.2, 0.9), config=config)
    assert (far.seconds, far.incidents) == ([(4.0, 4.8), (6.48, 7.2)], [0, 1])


def test_speech_between_two_near_events_stays_at_home_and_they_are_one_incident():
    config = DecideConfig(margin_s=0.0, min_event_s=0.0, speech_cut_s=0.48)
    talk = run(20, ("scream", 4.0, 4.8, 0.9), ("speech", 4.8, 6.0, 0.9), ("scream", 6.0, 6.8, 0.9), config=config)
    assert (talk.seconds, talk.incidents) == ([(4.0, 4.8), (6.0, 6.8)], [0, 0])
    word = run(20, ("scream", 4.0, 4.8, 0.9), ("speech", 4.8, 5.2, 0.9), ("scream", 6.0, 6.8, 0.9), config=config)
    assert word.seconds == [(4.0, 6.8)]


@pytest.mark.parametrize("hop", [ALIGNED, SHIPPED])
def test_a_long_event_is_cut_into_parts_of_one_incident_and_nothing_is_lost(hop):
    config = DecideConfig(max_event_s=8.0)
    found = run(60, ("cry", 5.0, 40.0, 0.9), config=config, hop=hop)
    assert len(found.spans) >= 5
    assert set(found.incidents) == {0}
    assert found.spans[0].onset <= 5 * RATE_HZ
    assert found.spans[-1].offset >= 40 * RATE_HZ
    for one, following in zip(found.spans, found.spans[1:], strict=False):
        assert one.offset == following.onset
    assert max(span.offset - span.onset for span in found.spans) <= 8 * RATE_HZ


def test_a_cut_for_length_inside_a_gap_loses_nothing_either():
    config = DecideConfig(max_event_s=8.0, margin_s=0.0, min_event_s=0.0)
    bursts = [("cry", start, start + 0.8, 0.9) for start in np.arange(4.0, 30.0, 1.6)]
    found = run(40, *bursts, config=config)
    assert len(found.spans) > 2
    for one, following in zip(found.spans, found.spans[1:], strict=False):
        assert one.offset == following.onset


def test_flagged_windows_that_nowhere_say_where_are_cut_for_length_too():
    config = DecideConfig(max_event_s=8.0)
    found = run(60, config=config, clip=lambda start_s: np.array([0.9 if 5 <= start_s < 40 else 0.0, *[0.0] * 6], np.float32))
    assert len(found.spans) > 3
    assert max(span.offset - span.onset for span in found.spans) <= 8 * RATE_HZ
    flagged = [window for window in found.windows if window[2]]
    assert found.spans[0].onset == flagged[0][0]
    assert found.spans[-1].offset == flagged[-1][1]
    for one, following in zip(found.spans, found.spans[1:], strict=False):
        assert one.offset == following.onset


def test_padding_is_never_exported():
    found = run(3.17, ("scream", 2.0, 3.17, 0.9))
    assert found.spans[-1].offset == round(3.17 * RATE_HZ)


def test_a_span_carries_the_peaks_of_the_windows_that_touch_it_and_its_own_track():
    found = run(30, ("scream", 4.0, 4.8, 0.9), ("cry", 20.0, 20.8, 0.7), ("speech", 12.0, 13.0, 0.99))
    assert [dict(zip(LABELS, span.peaks.round(2).tolist(), strict=True))["speech"] for span in found.spans] == [0, 0]
    first, second = found.spans
    assert first.peaks[LABELS.index("scream")] == np.float32(0.9)
    assert second.peaks[LABELS.index("cry")] == np.float32(0.7)
    assert first.track.shape == (10, len(LABELS))
    assert first.track[:, LABELS.index("scream")].tolist() == pytest.approx([0.9] * 10)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("hysteresis_ratio", 0.9),
        ("margin_s", 1.0),
        ("min_event_s", 3.0),
        ("max_event_s", 2.0),
        ("merge_gap_s", 0.5),
        ("speech_cut_s", 0.1),
        ("route_also", ("shout",)),
    ],
)
def test_every_knob_moves_the_spans(knob, value):
    scene = [
        ("scream", 4.0, 6.4, 0.9),
        ("scream", 6.4, 7.2, 0.35),
        ("speech", 7.2, 7.6, 0.9),
        ("cry", 8.0, 8.4, 0.9),
        ("baby_cry", 14.0, 14.2, 0.9),
        ("shout", 20.0, 21.0, 0.9),
        ("cry", 25.0, 26.0, 0.9),
        ("cry", 26.0, 26.8, 0.35),
    ]
    assert run(30, *scene, config=DecideConfig(**{knob: value})).seconds != run(30, *scene, config=DecideConfig()).seconds


strokes = st.tuples(
    st.sampled_from(["scream", "cry", "shout", "speech", "speech"]),
    st.integers(0, 700).map(lambda tick: tick / 20),
    st.integers(1, 200).map(lambda tick: tick / 20),
    st.sampled_from([0.25, 0.35, 0.5, 0.95]),
).map(lambda stroke: (stroke[0], stroke[1], stroke[1] + stroke[2], stroke[3]))
configs = st.builds(
    DecideConfig,
    hysteresis_ratio=st.sampled_from([0.6, 1.0]),
    margin_s=st.sampled_from([0.0, 0.2, 3.0]),
    min_event_s=st.sampled_from([0.0, 1.0]),
    max_event_s=st.sampled_from([1.0, 3.0, 60.0]),
    merge_gap_s=st.sampled_from([0.0, 2.0, 5.0]),
    speech_cut_s=st.sampled_from([0.1, 0.5]),
)


@given(st.floats(0.1, 40), st.lists(strokes, max_size=6), configs, st.sampled_from([ALIGNED, SHIPPED, WINDOW]))
@settings(max_examples=150, deadline=None)
def test_for_any_scene_what_is_active_is_exported_once_in_order_and_only_from_flagged_windows(length_s, scene, config, hop):
    found = run(length_s, *scene, config=config, hop=hop)
    flagged = [(start, end) for start, end, is_flagged in found.windows if is_flagged]
    flags = np.zeros(found.length + 1, np.bool_)
    for start, end in flagged:
        flags[start:end] = True
    assert bool(flagged) == bool(found.spans)
    last = 0
    for span in found.spans:
        assert last <= span.onset < span.offset <= found.length
        assert span.offset - span.onset <= config.max_event_s * RATE_HZ
        assert flags[span.onset]
        assert flags[span.offset - 1]
        last = span.offset
    assert all(0 <= later - earlier <= 1 for earlier, later in zip(found.incidents, found.incidents[1:], strict=False))
    exported = np.zeros(found.length + 1, np.bool_)
    for span in found.spans:
        exported[span.onset : span.offset] = True
    loud = paint(length_s, *scene)[:, [LABELS.index(label) for label in ("scream", "cry", "baby_cry")]].max(axis=1, initial=0)
    is_active = np.repeat(loud >= 0.5 * config.hysteresis_ratio, 320)[: found.length]
    assert exported[: len(is_active)][is_active & flags[: len(is_active)]].all()


@given(st.floats(0.1, 40), st.lists(strokes, max_size=6), configs, st.sampled_from([ALIGNED, SHIPPED, WINDOW]))
@settings(max_examples=150, deadline=None)
def test_for_any_scene_no_roll_that_leaves_holds_speech_alone_and_no_gap_holds_as_much_as_is_kept_at_home(length_s, scene, config, hop):
    rules = rules_for(config, hop)
    cut = max(1, int(np.ceil(round(config.speech_cut_s * RATE_HZ) / CELL)))
    earlier_end = None
    for span in run(length_s, *scene, config=config, hop=hop).spans:
        assert (len(span.track) - 2) * CELL < span.offset - span.onset <= len(span.track) * CELL  # what was scored is what leaves
        holds = np.flatnonzero(rules.holds(span.track))
        is_talk = rules.hears_speech(span.track) & ~rules.holds(span.track)
        if not len(holds):  # taken whole before a frame said where, which a longest event shorter than a window makes happen
            assert config.max_event_s * RATE_HZ < WINDOW
            earlier_end = span.offset
            continue
        is_continued = span.onset == earlier_end  # cut for length alone: it may begin with a short gap
        assert is_talk[: holds[0]].sum() < (cut if is_continued else 1)
        assert not is_talk[holds[-1] :].any()
        assert all(is_talk[one:other].sum() < cut for one, other in pairwise(holds))
        earlier_end = span.offset


@given(st.integers(0, 5_000), st.integers(1, WINDOW))
def test_a_cell_gets_the_largest_score_of_the_frames_that_touch_it(start, valid):
    frames = np.arange(25 * 2, dtype=np.float32).reshape(25, 2)
    first, cells = cell_scores(frames, start, valid, CELL)
    for offset, cell in enumerate(cells):
        begin, end = (first + offset) * CELL, (first + offset + 1) * CELL
        touching = [
            frames[i]
            for i in range(25)
            if start + i * CELL < min(end, start + valid) and start + (i + 1) * CELL > begin and i * CELL < valid
        ]
        assert touching
        np.testing.assert_array_equal(cell, np.max(touching, axis=0))
    assert first == start // CELL
    assert first + len(cells) == -(-(start + valid) // CELL)


def test_a_graph_with_fewer_frames_than_cells_stretches_its_last_frame():
    frames = np.array([[0.1], [0.2]], np.float32)
    _, cells = cell_scores(frames, 0, 4 * CELL, CELL)
    assert cells[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.2, 0.2])


def test_the_timeline_keeps_the_largest_score_and_any_flag():
    timeline = Timeline(1)
    timeline.add(0, np.array([[0.1], [0.9]], np.float32), is_flagged=False)
    timeline.add(1, np.array([[0.5], [0.6]], np.float32), is_flagged=True)
    assert timeline.scores[:, 0].tolist() == pytest.approx([0.1, 0.9, 0.6])
    assert timeline.is_flagged.tolist() == [False, True, True]
    timeline.drop_before(2)
    assert (timeline.first, timeline.end, len(timeline.scores)) == (2, 3, 1)
