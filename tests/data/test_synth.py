from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark_data import synth
from earmark_data.synth.contour import FRAME_SAMPLES, finish, frames_in, smooth, wander
from earmark_data.synth.noise import BIN_HZ, CENTRES_HZ, band, shaped_noise
from earmark_data.synth.voice import Phonation, neutral_formants, phonate, tract_gain

RATE = synth.SAMPLE_RATE_HZ
VOICES = (synth.babble, synth.scream, synth.shout, synth.cry, synth.baby_cry, synth.laughter)
HOUSEHOLD = (
    synth.dishes,
    synth.dog_bark,
    synth.door_knock,
    synth.fan,
    synth.footsteps,
    synth.kettle,
    synth.running_water,
    synth.television_music,
)
ALL = pytest.mark.parametrize("make", VOICES + HOUSEHOLD, ids=lambda make: make.__name__)
SEEDS = range(6)


def made(make, seed, duration_s=3.0):
    return make(np.random.default_rng(seed), duration_s)


def loud_blocks(sound, samples):
    """Blocks `[blocks, samples]`, half overlapping, whose level is within 12 dB of the loudest."""
    blocks = np.lib.stride_tricks.sliding_window_view(sound.astype(float), samples)[:: samples // 2]
    power = (blocks**2).mean(axis=1)
    return blocks[power > power.max() / 16]


def pitches_hz(sound, low_hz, high_hz):
    """f0 of each loud 40 ms block that is periodic, by the first strong peak of the normalised autocorrelation."""
    found = []
    for block in loud_blocks(sound, 640):
        windowed = block * np.hanning(640)
        spectrum = np.abs(np.fft.rfft(windowed, 4 * 2048)) ** 2
        correlation = np.fft.irfft(spectrum)[:1024] / np.maximum(
            np.fft.irfft(np.abs(np.fft.rfft(np.hanning(640), 4 * 2048)) ** 2)[:1024], 1
        )
        correlation /= correlation[0]
        lags = np.arange(int(RATE / high_hz), int(RATE / low_hz))
        peaks = [lag for lag in lags if correlation[lag] > max(correlation[lag - 1], correlation[lag + 1])]
        best = max((correlation[lag] for lag in peaks), default=0)
        if best > 0.5:
            found.append(RATE / next(lag for lag in peaks if correlation[lag] > 0.85 * best))
    assert len(found) >= 5, "a voice has periodic blocks"
    return np.array(found)


def roughness(sound):
    """Share of the envelope's fluctuation (4 to 150 Hz) that lies at 30 to 150 Hz, over loud half seconds."""
    magnitude = np.fft.fft(sound, len(sound))
    magnitude[len(sound) // 2 :] = 0
    envelope = np.abs(np.fft.ifft(2 * magnitude))
    shares = []
    for block, level in zip(loud_blocks(envelope, RATE // 2), loud_blocks(envelope, RATE // 2).mean(axis=1), strict=True):
        fluctuation = np.abs(np.fft.rfft((block / level - 1) * np.hanning(len(block)))) ** 2
        hertz = np.fft.rfftfreq(len(block), 1 / RATE)
        shares.append(fluctuation[(hertz >= 30) & (hertz <= 150)].sum() / fluctuation[(hertz >= 4) & (hertz <= 150)].sum())
    return float(np.mean(shares))


@ALL
def test_a_sound_has_the_length_level_and_type_that_are_promised(make):
    for duration_s in (0.3, 1.0, 2.35):
        sound = made(make, 1, duration_s)
        assert sound.dtype == np.float32
        assert sound.shape == (round(duration_s * RATE),)
        assert np.isfinite(sound).all()
        assert np.abs(sound).max() == pytest.approx(synth.PEAK, abs=1e-6)


@ALL
def test_the_same_generator_gives_the_same_sound_and_another_gives_another(make):
    np.testing.assert_array_equal(made(make, 0), made(make, 0))
    assert np.abs(made(make, 0) - made(make, 1)).max() > 0.01


@ALL
def test_nothing_clips_carries_dc_or_starts_with_a_click(make):
    for seed in SEEDS:
        sound = made(make, seed)
        assert (np.abs(sound) > 0.999 * synth.PEAK).sum() <= 2, "a peak, not a plateau"
        assert abs(sound.mean()) < 1e-3 * sound.std()
        assert sound[0] == 0
        assert sound[-1] == pytest.approx(0, abs=1e-6)


@ALL
def test_energy_lies_where_microphones_and_phones_hear_it(make):
    power = np.abs(np.fft.rfft(made(make, 2))) ** 2
    hertz = np.fft.rfftfreq(3 * RATE, 1 / RATE)
    assert power[hertz < 25].sum() < 1e-3 * power.sum()
    assert power[hertz > 7_900].sum() < 0.01 * power.sum()


def test_screams_are_high():
    medians = [float(np.median(pitches_hz(made(synth.scream, seed), 400, 2_000))) for seed in SEEDS]
    assert all(600 <= median <= 1_800 for median in medians), medians


def test_baby_cries_stay_in_an_infants_range():
    medians = [float(np.median(pitches_hz(made(synth.baby_cry, seed), 250, 1_300))) for seed in SEEDS]
    assert all(320 <= median <= 620 for median in medians), medians


def test_adult_cries_and_laughter_lie_between_talk_and_screams():
    for make in (synth.cry, synth.laughter):
        medians = [float(np.median(pitches_hz(made(make, seed), 120, 1_000))) for seed in SEEDS]
        assert all(160 <= median <= 680 for median in medians), (make.__name__, medians)


@pytest.mark.parametrize("f0_hz", [100.0, 150.0, 210.0, 280.0])
def test_babble_is_spoken_at_the_speakers_pitch_and_moves(f0_hz):
    sound = synth.babble(np.random.default_rng(3), 4.0, synth.Speaker(f0_hz, 17.5 if f0_hz < 160 else 14.5))
    found = pitches_hz(sound, 60, 500)
    assert np.median(found) == pytest.approx(f0_hz, rel=0.2)
    assert 0.03 < np.std(np.log2(found)) < 0.6, "an intonation, of some semitones"


def test_screams_are_rougher_than_talk_and_than_laughter():
    scream = np.mean([roughness(made(synth.scream, seed)) for seed in SEEDS])
    talk = np.mean([roughness(synth.babble(np.random.default_rng(seed), 3.0, synth.Speaker(220, 14.8))) for seed in SEEDS])
    baby = np.mean([roughness(made(synth.baby_cry, seed)) for seed in SEEDS])
    assert scream > 5 * talk
    assert scream > 2 * baby


def test_roughness_measured_is_the_modulation_put_in():
    time_s = np.arange(3 * RATE) / RATE
    tone = np.sin(2 * np.pi * 1_000 * time_s)
    slow = 1 + 0.5 * np.sin(2 * np.pi * 5 * time_s)
    assert roughness(tone * slow) < 0.05
    assert roughness(tone * slow * (1 + 0.5 * np.sin(2 * np.pi * 70 * time_s))) > 0.4


def test_talk_pauses_and_screams_hardly_do():
    def silent_share(sound):
        level = np.sqrt((sound[: len(sound) // 160 * 160].reshape(-1, 160) ** 2).mean(axis=1))
        return float((level < 0.03 * level.max()).mean())

    talk = [silent_share(made(synth.babble, seed, 8.0)) for seed in SEEDS]
    assert all(0.05 < share < 0.6 for share in talk), talk
    assert np.mean([silent_share(made(synth.scream, seed, 1.5)) for seed in SEEDS]) < 0.15


def test_talk_and_laughter_pulse_at_about_five_syllables_a_second():
    def strongest_hz(sound):
        envelope = np.convolve(np.abs(sound), np.hanning(800) / 400, "same")[::80]
        spectrum = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope))))
        hertz = np.fft.rfftfreq(len(envelope), 80 / RATE)
        inside = (hertz > 2) & (hertz < 12)
        return float((hertz[inside] * spectrum[inside] ** 2).sum() / (spectrum[inside] ** 2).sum())

    for make in (synth.babble, synth.laughter):
        rates = [strongest_hz(made(make, seed, 6.0)) for seed in SEEDS]
        assert 3.5 < np.mean(rates) < 7, (make.__name__, rates)


def test_a_tube_closed_at_one_end_resonates_at_odd_quarter_waves():
    np.testing.assert_allclose(neutral_formants(17.5)[:4], [500, 1_500, 2_500, 3_500])


def test_the_tract_peaks_at_its_formants_and_passes_the_lowest_frequencies_unchanged():
    hertz = np.arange(10.0, 4_000, 10)[None]
    gain = np.abs(tract_gain(hertz, neutral_formants(17.5)[None], 1.0))[0]
    peaks = hertz[0, 1:-1][(gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])]
    np.testing.assert_allclose(peaks, [500, 1_500, 2_500, 3_500], atol=60)
    assert gain[0] == pytest.approx(1, abs=0.01)


def test_a_steady_voice_has_exactly_the_harmonics_of_its_pitch():
    frames = frames_in(1.0)
    formants = np.broadcast_to(neutral_formants(17.5), (frames, len(neutral_formants(17.5))))
    still = Phonation(np.full(frames, 200.0), np.ones(frames), np.zeros(frames), formants)
    sound = phonate(still, np.random.default_rng(0))
    assert sound.shape == (frames * FRAME_SAMPLES,)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    near = np.abs(hertz - 200 * np.round(hertz / 200)) < 20
    assert power[near].sum() > 0.95 * power.sum()


def test_shaped_noise_has_the_spectrum_and_the_level_that_it_is_given():
    frames = 400
    flat = shaped_noise(np.ones((frames, len(CENTRES_HZ))), np.random.default_rng(0))
    assert flat.shape == (frames * FRAME_SAMPLES,)
    assert flat.std() == pytest.approx(1, rel=0.1)
    power = (
        np.abs(np.fft.rfft(shaped_noise(np.broadcast_to(band(2_000, 3_000, 60), (frames, len(CENTRES_HZ))), np.random.default_rng(1)))) ** 2
    )
    hertz = np.fft.rfftfreq(frames * FRAME_SAMPLES, 1 / RATE)
    inside = (hertz > 2_000 - 2 * BIN_HZ) & (hertz < 3_000 + 2 * BIN_HZ)
    assert power[inside].sum() > 0.9 * power.sum()


def test_silence_stays_silent_when_finished():
    assert not finish(np.zeros(1_000)).any()


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(2, 400), width_s=st.floats(0.005, 0.5), seed=st.integers(0, 100))
def test_smoothing_keeps_the_length_and_the_range(frames, width_s, seed):
    curve = wander(np.random.default_rng(seed), frames, 0.1)
    softened = smooth(curve, width_s)
    assert softened.shape == curve.shape
    assert softened.max() <= curve.max() + 1e-9
    assert softened.min() >= curve.min() - 1e-9
