import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earmark_edge.decide import DecideConfig, DecideConfigError
from earmark_edge.detector import Detector, Heard
from earmark_edge.scorer import Scorer
from earmark_model.contract import LABELS, Reason

RATE_HZ, WINDOW, HOP = 16_000, 32_000, 8_000


def hear(detector, samples, cuts=()):
    parts = [detector.feed(part) for part in np.split(samples, sorted(cuts))]
    return Heard.joined([*parts, detector.flush()])


@pytest.fixture(scope="module")
def scene(play):
    """Half a minute at home: talk, a scream, talk, crying, silence, a shout, and a baby at the very end."""
    noise = np.random.default_rng(5).standard_normal(round(29.3 * RATE_HZ)).astype(np.float32) * 0.002
    parts = (("speech", 5), ("scream", 1.5), ("speech", 4), ("cry+speech", 3), ("", 8.3), ("shout", 2), ("laughter", 3.5), ("baby_cry", 2))
    return play(*parts) + noise


def test_the_scene_is_heard_as_it_was_played(scorer, scene):
    heard = hear(Detector(scorer), scene)
    assert [detection.label for detection in heard.detections] == ["scream", "cry", "baby_cry"]
    for detection, (onset_s, offset_s) in zip(heard.detections, [(5, 6.5), (10.5, 13.5), (27.3, 29.3)], strict=True):
        assert onset_s - 0.5 <= detection.onset_s <= onset_s
        assert offset_s <= detection.offset_s <= offset_s + 0.5
    assert {window.decision.reason for window in heard.windows} == {Reason.ABOVE_THRESHOLD, Reason.SPEECH_ONLY, Reason.BELOW_THRESHOLD}


@given(st.lists(st.integers(0, 468_800), max_size=30))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunked_equals_whole_for_every_score_and_every_detection(scorer, scene, cuts):
    """Scores to 1e-6, since a chunk decides how many windows are scored at once; what is decided and cut out is identical."""
    whole, chunked = hear(Detector(scorer), scene), hear(Detector(scorer), scene, cuts)
    assert len(whole.windows) == 1 + -(-(len(scene) - WINDOW) // HOP)
    assert_same(chunked, whole)


@pytest.mark.parametrize("chunk", [1_000, HOP - 1, HOP, WINDOW, WINDOW + 1])
def test_even_chunks_equal_whole_too(scorer, overlapping_scorer, scene, chunk):
    for each in (scorer, overlapping_scorer):
        assert_same(hear(Detector(each), scene, range(chunk, len(scene), chunk)), hear(Detector(scorer), scene))


def assert_same(found, expected):
    assert len(found.windows) == len(expected.windows) > 0
    for one, other in zip(found.windows, expected.windows, strict=True):
        assert (one.onset_s, one.offset_s, one.decision.reason, one.decision.label) == (
            other.onset_s,
            other.offset_s,
            other.decision.reason,
            other.decision.label,
        )
        np.testing.assert_allclose(one.clip_scores, other.clip_scores, atol=1e-6, rtol=0)
        np.testing.assert_allclose(one.frame_scores, other.frame_scores, atol=1e-6, rtol=0)
    assert len(found.detections) == len(expected.detections)
    for one, other in zip(found.detections, expected.detections, strict=True):
        np.testing.assert_array_equal(one.audio, other.audio)
        assert one.peak_score == pytest.approx(other.peak_score, abs=1e-6)
        assert (one.onset_s, one.offset_s, one.label, one.reason, one.incident) == (
            other.onset_s,
            other.offset_s,
            other.label,
            other.reason,
            other.incident,
        )


@pytest.mark.parametrize(
    ("length", "windows"),
    [(1, [(0, 1)]), (WINDOW - 1, [(0, WINDOW - 1)]), (WINDOW, [(0, WINDOW)]), (WINDOW + 1, [(0, WINDOW), (HOP, WINDOW + 1)])],
)
def test_golden_windows_and_detections_at_the_boundaries(scorer, play, length, windows):
    heard = hear(Detector(scorer), play(("scream", 3))[:length])
    assert [(window.onset_s, window.offset_s) for window in heard.windows] == [(start / RATE_HZ, end / RATE_HZ) for start, end in windows]
    if length > 400:
        (detection,) = heard.detections
        assert (detection.onset_s, detection.offset_s) == (0.0, length / RATE_HZ)
        assert detection.audio.size == length


def test_silence_and_dc_and_an_impulse_flag_nothing(scorer):
    impulse = np.zeros(100_000, np.float32)
    impulse[50_000] = 1.0
    for signal in (np.zeros(100_000, np.float32), np.full(100_000, 0.9, np.float32), impulse):
        heard = hear(Detector(scorer), signal)
        assert len(heard.windows) == 10
        assert heard.detections == ()


def test_a_detection_carries_exactly_the_audio_of_its_span(scorer, scene):
    detections = hear(Detector(scorer), scene, [100, 77_777]).detections
    assert detections
    for detection in detections:
        onset, offset = round(detection.onset_s * RATE_HZ), round(detection.offset_s * RATE_HZ)
        np.testing.assert_array_equal(detection.audio, scene[onset:offset])
        assert detection.duration_s == pytest.approx(len(detection.audio) / RATE_HZ)


def test_speech_before_and_after_a_scream_is_not_exported(scorer, scene):
    first = hear(Detector(scorer), scene).detections[0]
    talk = (first.audio.size / RATE_HZ) - 1.5
    assert talk <= 2 * 0.16  # at most the cells that hold both


def test_the_score_track_covers_the_clip(scorer, scene):
    for detection in hear(Detector(scorer), scene).detections:
        track = detection.track
        assert track.start_s == detection.onset_s
        assert abs(track.duration_s - detection.duration_s) <= 2 * track.hop_s
        assert set(track.scores) == set(LABELS)
        assert max(track.scores[detection.label]) == pytest.approx(detection.peak_score, abs=0.02)
        assert track.thresholds[detection.label] == detection.threshold


def test_without_a_guarantee_every_detection_says_so(write_bundle, tmp_path, scene):
    unverified = Detector(Scorer(write_bundle(tmp_path, verified=("cry",))))
    reasons = {detection.label: detection.reason for detection in hear(unverified, scene).detections}
    assert reasons == {
        "scream": Reason.ROUTED_UNVERIFIED,
        "cry": Reason.ABOVE_THRESHOLD,
        "baby_cry": Reason.ROUTED_UNVERIFIED,
    }


def test_a_part_that_was_only_held_says_that_it_was_held(scorer, play):
    loud, faint = play(("scream", 2)), play(("scream", 6), amplitude=0.024)
    detections = hear(Detector(scorer, DecideConfig(max_event_s=3)), np.concatenate([loud, faint])).detections
    assert detections[0].reason is Reason.ABOVE_THRESHOLD
    assert detections[-1].reason is Reason.HELD_BY_HYSTERESIS
    assert detections[-1].peak_score < detections[-1].threshold
    assert {detection.incident for detection in detections} == {0}


def test_routing_shout_reaches_the_detections(scorer, scene):
    labels = [detection.label for detection in hear(Detector(scorer, DecideConfig(route_also=("shout",))), scene).detections]
    assert labels == ["scream", "cry", "shout", "baby_cry"]


def test_a_configuration_that_does_not_fit_the_bundle_is_refused(scorer):
    with pytest.raises(DecideConfigError, match="thunder"):
        Detector(scorer, DecideConfig(route_also=("thunder",)))


def test_after_flush_and_after_reset_a_detector_is_as_new(scorer, scene):
    detector, fresh = Detector(scorer), hear(Detector(scorer), scene)
    hear(detector, scene[:200_000])
    assert_same(hear(detector, scene), fresh)
    detector.feed(scene[:123_456])
    detector.reset()
    assert not detector._ring._samples.any()
    assert_same(hear(detector, scene), fresh)


def test_a_stream_without_samples_hears_nothing(scorer):
    detector = Detector(scorer)
    assert detector.feed(np.zeros(0, np.float32)) == Heard()
    assert detector.flush() == Heard()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused_and_nothing_was_heard(scorer, scene, value):
    detector = Detector(scorer)
    detector.feed(scene[:50_000])
    bad = scene[50_000:100_000].copy()
    bad[123] = value
    with pytest.raises(ValueError, match="sample 50123 of the stream is not a finite number"):
        detector.feed(bad)
    rest = Heard.joined([detector.feed(scene[50_000:]), detector.flush()])
    assert rest.detections[0].onset_s == hear(Detector(scorer), scene).detections[0].onset_s


@pytest.mark.parametrize("samples", [np.zeros(10), np.zeros(10, np.int16), np.zeros((1, 10), np.float32)], ids=["float64", "int16", "2-d"])
def test_samples_of_another_form_are_refused(scorer, samples):
    with pytest.raises(ValueError, match=r"expected float32 \[samples\], mono"):
        Detector(scorer).feed(samples)


def test_audio_held_in_memory_is_bounded_by_the_maximum_event_and_a_few_windows(scorer):
    for max_event_s in (5.0, 60.0):
        config = DecideConfig(max_event_s=max_event_s)
        held_s = Detector(scorer, config)._ring.capacity / RATE_HZ
        assert held_s <= max_event_s + config.merge_gap_s + config.min_event_s + 4 * WINDOW / RATE_HZ


def test_memory_does_not_grow_with_the_length_of_the_stream(scorer, play):
    detector, minute = Detector(scorer, DecideConfig(max_event_s=5)), play(("speech", 30), ("cry", 20), ("", 10))

    def used_after(minutes):
        for _ in range(minutes):
            detector.feed(minute)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    detector.feed(minute)
    tracemalloc.start()
    early, late = used_after(1), used_after(6)
    tracemalloc.stop()
    assert late - early < 50_000
