from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from earmark_data.augment import SpectrogramAugment, coloured_noise, gain, mix_at_snr, mixup, reverberate, rms

RNG = np.random.default_rng(11)
NOISE = RNG.standard_normal(16_000).astype(np.float32) * 0.1
TONE = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32) * 0.1


@given(st.floats(-40, 40))
def test_mixing_reaches_the_asked_ratio_of_powers(snr_db: float) -> None:
    added = mix_at_snr(TONE, NOISE, snr_db) - TONE
    assert 20 * math.log10(rms(TONE) / rms(added)) == pytest.approx(snr_db, abs=0.1)


def test_mixing_with_silence_changes_nothing() -> None:
    np.testing.assert_array_equal(mix_at_snr(TONE, np.zeros_like(TONE), 0), TONE)
    np.testing.assert_array_equal(mix_at_snr(np.zeros_like(TONE), NOISE, 0), np.zeros_like(TONE))


def test_mixing_other_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        mix_at_snr(TONE, NOISE[:-1], 0)


def test_gain_is_in_decibels_and_clips_at_full_scale() -> None:
    assert rms(gain(TONE, -20)) == pytest.approx(rms(TONE) / 10)
    assert np.abs(gain(TONE, 60)).max() == 1.0


def test_mixup_shares_out_the_two_sounds() -> None:
    np.testing.assert_allclose(mixup(TONE, NOISE, 0.25), 0.25 * TONE + 0.75 * NOISE, atol=1e-7)


def test_a_room_keeps_level_length_and_the_time_of_the_direct_sound() -> None:
    response = np.zeros(4_000, np.float32)
    response[100], response[1_300] = 1.0, 0.5
    click = np.zeros(16_000, np.float32)
    click[5_000] = 1.0
    wet = reverberate(click, response)
    assert wet.shape == click.shape
    assert np.argsort(np.abs(wet))[-2:].tolist() == [6_200, 5_000]
    assert rms(wet) == pytest.approx(rms(click), rel=1e-3)


@pytest.mark.parametrize(("exponent", "fall_db"), [(0, 0), (1, 3), (2, 6)])
def test_noise_falls_by_its_exponent_per_octave(exponent: float, fall_db: float) -> None:
    power = np.abs(np.fft.rfft(coloured_noise(160_000, exponent, np.random.default_rng(0)))) ** 2
    low, high = power[5_000:10_000].mean(), power[20_000:40_000].mean()  # two octaves apart
    assert 10 * math.log10(low / high) / 2 == pytest.approx(fall_db, abs=0.3)


def make(**changes: float) -> SpectrogramAugment:
    return SpectrogramAugment(-2.4, 0.046, **{"response_db": 0.0, "low_pass": 0.0, "mix_style": 0.0, **changes})


def without_masks(augment: SpectrogramAugment) -> SpectrogramAugment:
    augment.masks = torch.nn.Sequential()
    return augment


def test_spec_augment_masks_bands_and_times_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    log_mel = torch.rand(8, 64, 198) + 0.5
    masked = make()(log_mel) == 0.0
    assert masked.any()
    assert masked.float().mean() < 0.5
    torch.testing.assert_close(make()(log_mel).amax(), log_mel.amax(), atol=1e-3, rtol=0)


def test_each_knob_of_the_spectrogram_augmentation_reaches_what_it_turns() -> None:
    torch.manual_seed(0)
    log_mel = torch.rand(8, 64, 198) + 0.3 * torch.arange(8)[:, None, None]
    same = without_masks(make())(log_mel)
    torch.testing.assert_close(same, log_mel, atol=1e-3, rtol=0)
    for knob in ({"response_db": 8.0}, {"low_pass": 1.0}, {"mix_style": 1.0}):
        assert (without_masks(make(**knob))(log_mel) - log_mel).abs().max() > 0.05, knob


def test_a_low_pass_takes_high_bands_to_the_floor_and_not_below() -> None:
    torch.manual_seed(1)
    filtered = without_masks(make(low_pass=1.0))(torch.ones(32, 64, 50))
    assert filtered.min() >= -2.4 - 1e-5
    assert filtered[:, :30].min() > 0.99
    assert filtered[:, -1].median() < 0.5
