import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_edge.listen.cap import AudioCap


def test_a_thousand_events_in_a_minute_are_all_kept_and_the_cap_falls_on_their_audio():
    cap = AudioCap(600.0)
    grants = [cap.take(index * 0.06, 1.0, index) for index in range(1_000)]
    assert len(grants) == 1_000
    assert grants[0].with_audio
    assert 600 <= sum(grant.with_audio for grant in grants) <= 620
    assert grants[-1].incident == sum(grant.with_audio for grant in grants) - 1  # the flood that follows is one incident


def test_a_scream_that_lasts_an_hour_is_one_incident_whose_audio_is_capped():
    cap = AudioCap(600.0)
    grants = [cap.take(60.0 * (part + 1), 60.0, 0) for part in range(60)]
    assert {grant.incident for grant in grants} == {0}
    assert [grant.with_audio for grant in grants[:10]] == [True] * 10
    assert 15 <= sum(grant.with_audio for grant in grants) <= 21


def test_after_a_quiet_hour_the_bucket_is_full_and_no_fuller():
    cap = AudioCap(100.0)
    for index in range(5):
        cap.take(float(index), 60.0, index)
    assert not cap.take(6.0, 1.0, 9).with_audio
    refilled = [cap.take(6.0 + 20 * 3_600 + index, 60.0, 10 + index) for index in range(4)]
    assert [grant.with_audio for grant in refilled] == [True, True, False, False]


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(0.1, 60), st.booleans()), max_size=60), st.floats(1, 3_600))
def test_the_first_event_of_an_incident_always_has_its_audio(steps, audio_s_per_hour):
    cap, at_s, incident, seen = AudioCap(audio_s_per_hour), 0.0, 0, set()
    for gap_s, duration_s, is_new in steps:
        at_s, incident = at_s + gap_s, incident + is_new
        grant = cap.take(at_s, duration_s, incident)
        assert grant.incident in seen or grant.with_audio
        seen.add(grant.incident)
    assert seen == set(range(len(seen)))


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_cap_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="cap on audio"):
        AudioCap(value)
