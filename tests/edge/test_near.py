"""What comes near a threshold and reaches none: found, told apart from what is flagged, and looked for only when asked."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earmark_edge.detector import Detector, Heard
from earmark_edge.near import LONGEST_S
from earmark_model.contract import Reason

RATE_HZ = 16_000
FAINT, LOUD = 0.018, 0.3  # the tones score about 0.27 and 1; every threshold is 0.5, and near begins at 0.125


def heard(scorer, samples, *, near=True, cuts=()):
    detector = Detector(scorer, near=near)
    pieces = [detector.feed(part) for part in np.split(samples, sorted(cuts)) if part.size]
    return Heard.joined([*pieces, detector.flush()])


@pytest.fixture(scope="module")
def evening(play):
    """A faint scream at 6 s, a loud one at 18 s with a faint one beside it, speech at 30 s, a faint cry at 40 s."""
    quiet = [("", 6), ("scream", 2), ("", 10), ("scream", 2), ("", 10), ("speech", 4), ("", 6), ("cry", 2), ("", 4)]
    loudness = [0, FAINT, 0, LOUD, 0, LOUD, 0, FAINT, 0]
    parts = [play(part, amplitude=level) for part, level in zip(quiet, loudness, strict=True)]
    parts.insert(4, play(("cry", 1), amplitude=FAINT))
    noise = np.random.default_rng(5).standard_normal(sum(map(len, parts))).astype(np.float32) * 1e-4
    return np.concatenate(parts) + noise


def test_what_comes_near_is_found_with_its_span_and_score_and_what_is_flagged_is_not_among_it(scorer, evening):
    found = heard(scorer, evening)
    assert [(one.label, one.reason) for one in found.near] == [("scream", Reason.BELOW_THRESHOLD), ("cry", Reason.BELOW_THRESHOLD)]
    assert [one.label for one in found.detections] == ["scream"]
    for one, onset_s in zip(found.near, (6.0, 41.0), strict=True):
        assert abs(one.onset_s - onset_s) < 1.0
        assert 0.125 <= one.peak_score < one.threshold == 0.5
        assert len(one.audio) == round(one.duration_s * RATE_HZ)
        np.testing.assert_array_equal(one.audio, evening[round(one.onset_s * RATE_HZ) : round(one.offset_s * RATE_HZ)])


def test_speech_is_no_near_miss_and_neither_is_silence(scorer, play):
    assert heard(scorer, play(("", 3), ("speech", 5), ("laughter", 2), ("", 3))).near == ()


def test_what_is_flagged_is_the_same_whether_or_not_it_is_looked_for_and_unasked_nothing_is(scorer, evening):
    asked, unasked = heard(scorer, evening), heard(scorer, evening, near=False)
    assert unasked.near == ()
    assert [(one.onset_s, one.offset_s, one.label) for one in asked.detections] == [
        (one.onset_s, one.offset_s, one.label) for one in unasked.detections
    ]


def test_a_long_faint_sound_counts_as_several(scorer, play):
    found = heard(scorer, play(("", 3), ("cry", 35), ("", 3), amplitude=FAINT))
    assert len(found.near) >= 3
    assert all(one.duration_s <= LONGEST_S + 0.5 for one in found.near)


@given(st.lists(st.integers(1, 750_000), max_size=8))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_change_nothing(scorer, evening, cuts):
    whole, cut = heard(scorer, evening).near, heard(scorer, evening, cuts=[at for at in cuts if at < len(evening)]).near
    assert [(one.onset_s, one.offset_s, one.label) for one in cut] == [(one.onset_s, one.offset_s, one.label) for one in whole]


def test_a_reset_forgets_what_was_open(scorer, play):
    detector = Detector(scorer, near=True)
    detector.feed(play(("", 3), ("cry", 2), amplitude=FAINT))
    detector.reset()
    assert Heard.joined([detector.feed(play(("", 12))), detector.flush()]).near == ()
