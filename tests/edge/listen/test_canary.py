import numpy as np
import pytest

from earmark_edge.decide import DecideConfig
from earmark_edge.listen.canary import Canary, hears_canary
from earmark_edge.listen.canary_sound import DURATION_S, canary_sound
from earmark_edge.scorer import Scorer
from earmark_edge.settings import default_bundle

RATE_HZ = 16_000


def run(canary, samples, block=1_600, *, is_busy=False):
    found = []
    for start in range(0, len(samples), block):
        result = canary.feed(samples[start : start + block], is_busy=is_busy)
        if result:
            found.append((start / RATE_HZ, result))
    return found


@pytest.fixture
def sound(play):
    return play(("scream", DURATION_S))


def test_the_sound_is_the_same_everywhere_and_fits_the_scale():
    sound = canary_sound(RATE_HZ)
    np.testing.assert_array_equal(sound, canary_sound(RATE_HZ))
    assert (sound.dtype, len(sound), np.abs(sound).max()) == (np.float32, round(DURATION_S * RATE_HZ), 0.5)


@pytest.mark.parametrize("name", ["earmark", "earmark-light", "earmark-open", "earmark-small"])
def test_every_shipped_bundle_hears_the_canary(name):
    result = hears_canary(Scorer(default_bundle().parent / name), DecideConfig())
    assert result.is_heard
    assert result.label == "scream"
    assert result.peak_score >= result.threshold


def test_canaries_come_soon_after_the_start_and_then_on_schedule(scorer, sound):
    noise = np.random.default_rng(0).normal(0, 0.001, 100 * RATE_HZ).astype(np.float32)
    found = run(Canary(scorer, DecideConfig(), 30.0, sound), noise)
    assert [result.is_heard for _, result in found] == [True, True, True]
    times = [at_s for at_s, _ in found]
    assert 10 < times[0] < 20
    np.testing.assert_allclose(np.diff(times), 30, atol=0.2)


def test_a_device_that_cannot_hear_misses_its_canary(scorer, play):
    dull = play(("other", DURATION_S))
    ((_, result),) = run(Canary(scorer, DecideConfig(), 60.0, dull), np.zeros(30 * RATE_HZ, np.float32))
    assert not result.is_heard
    assert result.peak_score < result.threshold


def test_a_canary_waits_while_something_real_is_being_heard(scorer, sound):
    canary = Canary(scorer, DecideConfig(), 60.0, sound)
    silence = np.zeros(30 * RATE_HZ, np.float32)
    assert run(canary, silence, is_busy=True) == []
    assert len(run(canary, silence)) == 1


def test_it_stands_out_of_a_loud_room(scorer, sound, play):
    room = play(("speech", 30), amplitude=0.4)
    ((_, result),) = run(Canary(scorer, DecideConfig(), 60.0, sound), room)
    assert result.is_heard


def test_after_a_mute_a_canary_that_had_begun_is_forgotten_and_tried_again(scorer, sound):
    canary = Canary(scorer, DecideConfig(), 60.0, sound)
    run(canary, np.zeros(12 * RATE_HZ, np.float32))
    assert canary.is_running
    canary.reset()
    assert not canary.is_running
    assert len(run(canary, np.zeros(25 * RATE_HZ, np.float32))) == 1


def test_none_is_none(scorer):
    assert run(Canary(scorer, DecideConfig(), 0.0), np.zeros(30 * RATE_HZ, np.float32)) == []


def test_canaries_that_would_overlap_are_refused(scorer):
    with pytest.raises(ValueError, match="cannot come every 3 s"):
        Canary(scorer, DecideConfig(), 3.0)
