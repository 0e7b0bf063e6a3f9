import numpy as np
import pytest

from earmark_edge.listen.health import ADVICE, HealthConfig, Problem, SignalHealth

RATE_HZ = 16_000
NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 100 * RATE_HZ).astype(np.float32)


def changes(samples, *, pace=1.0, health=None, block=1_600, began_s=0.0):
    health = health or SignalHealth(RATE_HZ)
    found, given = [], 0
    for start in range(0, len(samples), block):
        part = samples[start : start + block]
        given += len(part)
        fit, changed = health.feed(part, began_s + given / RATE_HZ / pace)
        assert np.isfinite(fit).all()
        assert np.abs(fit).max() <= 1
        found += [(change.problem, change.is_on) for change in changed]
    return found


def test_sound_is_in_good_health():
    assert changes(NOISE) == []


def test_silence_is_told_after_its_time_once_and_ends_with_the_first_sound():
    silence = np.zeros(70 * RATE_HZ, np.float32)
    assert changes(silence[: 59 * RATE_HZ]) == []
    assert changes(np.concatenate([silence, silence, NOISE[:RATE_HZ]])) == [(Problem.SILENT, True), (Problem.SILENT, False)]


def test_the_quietest_noise_is_no_silence():
    assert changes(np.tile(np.array([0, 1 / 32_768], np.float32), 40 * RATE_HZ)) == []


def test_clipping_is_told_and_a_single_peak_is_not():
    loud = np.clip(NOISE * 20, -1, 1)
    assert changes(loud[: 20 * RATE_HZ]) == [(Problem.CLIPPED, True)]
    peak = NOISE[: 20 * RATE_HZ].copy()
    peak[5] = 1
    assert changes(peak) == []


def test_an_offset_is_told():
    assert changes(NOISE[: 20 * RATE_HZ] + 0.3) == [(Problem.DC, True)]
    assert (Problem.DC, True) in changes(np.full(20 * RATE_HZ, 0.9, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_no_sample_is_survived(value):
    bad = NOISE[: 5 * RATE_HZ].copy()
    bad[7] = value
    expected = [] if np.isfinite(value) else [(Problem.NOT_FINITE, True), (Problem.NOT_FINITE, False)]
    assert changes(np.concatenate([bad, NOISE])) == expected


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_a_wrong_rate_is_told_by_name(rate_hz):
    health = SignalHealth(RATE_HZ, HealthConfig(rate_span_s=10))
    assert changes(np.tile(NOISE, 2), pace=rate_hz / RATE_HZ, health=health) == [(Problem.WRONG_RATE, True)]


def test_a_wrong_rate_is_told_though_samples_had_waited_for_the_device_to_start():
    health = SignalHealth(RATE_HZ)
    for _ in range(3):  # seconds of sound at once
        assert health.feed(NOISE[: 3 * RATE_HZ], 0.0)[1] == []
    assert changes(np.tile(NOISE, 3)[: 3 * 70 * RATE_HZ], pace=3.0, health=health) == [(Problem.WRONG_RATE, True)]


def test_missing_samples_are_told_and_a_file_read_fast_is_not():
    health = HealthConfig(rate_span_s=10)
    assert changes(NOISE, pace=0.8, health=SignalHealth(RATE_HZ, health)) == [(Problem.GAPS, True)]
    assert changes(NOISE, pace=9.1, health=SignalHealth(RATE_HZ, health)) == []


@pytest.mark.parametrize(
    ("knob", "signal", "problem"),
    [
        ({"silent_s": 5.0}, np.zeros(8 * RATE_HZ, np.float32), Problem.SILENT),
        ({"span_s": 1.0}, np.clip(NOISE[: 2 * RATE_HZ] * 20, -1, 1), Problem.CLIPPED),
        ({"clipped_share": 5e-6}, np.concatenate([[1], NOISE[: 11 * RATE_HZ]]).astype(np.float32), Problem.CLIPPED),
        ({"dc_level": 0.01}, NOISE[: 11 * RATE_HZ] + np.float32(0.05), Problem.DC),
    ],
)
def test_every_knob_reaches_what_it_turns(knob, signal, problem):
    assert problem not in {found for found, _ in changes(signal)}
    assert (problem, True) in changes(signal, health=SignalHealth(RATE_HZ, HealthConfig(**knob)))


def test_every_problem_has_advice():
    assert set(ADVICE) == set(Problem)
