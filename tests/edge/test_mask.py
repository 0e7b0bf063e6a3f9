"""The physics of masked audio: what stays, what goes, and that what goes is gone."""

import numpy as np
import pytest

from earmark_edge.mask import MASK, MaskError, MaskSpec, _drawn_by_lot, mask, rng_for

RATE_HZ = 16_000
LIMIT = 0.97
"""How alike (normalised cross-correlation) a mask may be to any 30 ms of what was said; one formant alone is nearly a tone, and all tones
of a pitch are alike."""


def noise(seconds, seed=0, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def sine(seconds, hertz=1_000.0, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def babble(seconds, seed=0):
    """Speech-like: a buzz of a moving pitch through two formants that jump five times a second, with hiss between, as words have."""
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(round(seconds * 5)):
        count = RATE_HZ // 5
        pitch = rng.uniform(100, 220) * np.linspace(1, rng.uniform(0.8, 1.25), count)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
        formants, loudness = rng.uniform((300, 900), (800, 2_600)), rng.uniform(0.05, 1)
        spoken = sum(
            np.sin(k * phase + rng.uniform(0, 6)) * sum(np.exp(-(((k * pitch.mean() - f) / 120) ** 2)) for f in formants)
            for k in range(1, 30)
        )
        hiss = rng.standard_normal(count) * (np.arange(count) < rng.uniform(0, count / 2))
        pieces.append(loudness * spoken / np.abs(spoken).max() + 0.2 * hiss)
    whole = np.concatenate(pieces)
    return (0.5 * whole / np.abs(whole).max()).astype(np.float32)


def masked(audio, spec=MASK):
    return mask(audio, RATE_HZ, rng_for(audio), spec)


def rms(audio):
    return float(np.sqrt(np.mean(audio.astype(float) ** 2)))


def band_levels_db(audio, bands=((100, 400), (400, 1_600), (1_600, 7_000))):
    power, hertz = np.abs(np.fft.rfft(audio.astype(float))) ** 2, np.fft.rfftfreq(len(audio), 1 / RATE_HZ)
    return [10 * np.log10(power[(hertz >= low) & (hertz < high)].sum()) for low, high in bands]


def most_alike(original, made, piece_s=0.03):
    """Over non-overlapping pieces of the original that hold sound, the largest absolute normalised cross-correlation with any part of
    `made`, forwards or backwards: `[pieces]`."""
    count = round(piece_s * RATE_HZ)
    length = 1 << (len(made) + count).bit_length()
    found = []
    energy = np.concatenate([[0.0], np.cumsum(made.astype(float) ** 2)])
    norms = np.sqrt(np.maximum(energy[count:] - energy[:-count], 1e-9))
    spectrum = np.fft.rfft(made.astype(float), length)
    for start in range(0, len(original) - count + 1, count):
        piece = original[start : start + count].astype(float)
        if rms(piece) < 0.1 * rms(original):
            continue
        ways = [np.fft.irfft(spectrum * np.conj(np.fft.rfft(way, length)), length)[: len(norms)] for way in (piece, piece[::-1])]
        found.append(max(np.abs(likeness / norms).max() for likeness in ways) / np.linalg.norm(piece))
    assert found
    return np.array(found)


SIGNALS = {
    "noise": noise(3),
    "sine": sine(3),
    "babble": babble(3),
    "full scale": np.sign(sine(2, 440.0)),
    "impulse": np.eye(1, 32_000, 16_000, dtype=np.float32)[0],
    "constant": np.full(32_000, 0.25, np.float32),
    "one sample": np.ones(1, np.float32),
    "short": noise(0.2),
    "just too short for grains": noise(2 * MASK.grain_s[1])[:-1],
    "just long enough for grains": noise(2 * MASK.grain_s[1]),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_length_is_kept_loudness_is_kept_or_lower_and_nothing_exceeds_full_scale(name):
    given = SIGNALS[name]
    made = masked(given)
    assert (made.shape, made.dtype) == (given.shape, np.float32)
    assert np.isfinite(made).all()
    peak = float(np.abs(made).max())
    assert peak <= 1.0
    if peak < 0.999:
        assert rms(made) == pytest.approx(rms(given), rel=1e-4)
    else:
        assert 0 < rms(made) <= rms(given) * (1 + 1e-6)


@pytest.mark.parametrize("count", [1, 999, 40_000])
def test_silence_stays_silence(count):
    assert not masked(np.zeros(count, np.float32)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_and_named(bad):
    given = noise(1)
    given[17] = bad
    with pytest.raises(MaskError, match="sample 17 is not a finite number"):
        mask(given, RATE_HZ, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "rate_hz"), [(np.zeros(0, np.float32), RATE_HZ), (np.zeros((2, 9), np.float32), RATE_HZ), (noise(1), 4_000)]
)
def test_what_is_no_mono_clip_at_a_usable_rate_is_refused(given, rate_hz):
    with pytest.raises(MaskError, match=r"expected \[samples\]"):
        mask(given, rate_hz, np.random.default_rng(0))


def test_the_same_clip_gives_the_same_mask_and_masks_of_it_cannot_be_collected():
    given = babble(2)
    np.testing.assert_array_equal(masked(given), masked(given.copy()))


def test_another_clip_another_secret_or_other_lots_give_another_mask():
    given = babble(2)
    nudged = given.copy()
    nudged[0] += 1e-3
    first = masked(given)
    for rng in (rng_for(nudged), rng_for(given, b"device"), np.random.default_rng(1)):
        assert abs(np.corrcoef(first, mask(given, RATE_HZ, rng))[0, 1]) < 0.3


def test_a_steady_tone_keeps_its_pitch():
    spectrum = np.abs(np.fft.rfft(masked(sine(3, 1_000.0))))
    assert np.argmax(spectrum) * RATE_HZ / 48_000 == pytest.approx(1_000.0, abs=4)
    at = np.fft.rfftfreq(48_000, 1 / RATE_HZ)
    assert (spectrum[np.abs(at - 1_000) < 60] ** 2).sum() > 0.95 * (spectrum**2).sum()


def test_steady_noise_keeps_its_spectrum():
    np.testing.assert_allclose(band_levels_db(masked(noise(4))), band_levels_db(noise(4)), atol=1.5)


def test_what_moves_in_the_spectrum_faster_than_a_second_is_averaged_away():
    """A band that comes and goes four times a second, as formants do, is as loud in its pauses as in its beats, give or take chance."""
    beat = (np.arange(4 * RATE_HZ) // (RATE_HZ // 8)) % 2
    given = np.where(beat == 0, sine(4, 600.0), sine(4, 2_400.0)).astype(np.float32)

    def swing_db(audio):
        pieces = audio[: 32 * RATE_HZ // 8].reshape(32, -1)
        power = np.abs(np.fft.rfft(pieces * np.hanning(pieces.shape[1]), axis=1)) ** 2
        hertz = np.fft.rfftfreq(pieces.shape[1], 1 / RATE_HZ)
        low, high = (power[:, np.abs(hertz - at) < 100].sum(axis=1) for at in (600, 2_400))
        return float(np.std(10 * np.log10((low + 1e-9) / (high + 1e-9))))

    order_kept = masked(given, MaskSpec(reach_s=0.0, seek_s=0.0, backwards=0.0))
    assert swing_db(given) > 40
    assert swing_db(order_kept) < swing_db(given) - 2 * 15  # the bound on gain, 20 dB, keeps pauses from being filled to the brim


def test_about_a_fifth_of_each_band_is_never_drawn_and_so_gone():
    """Lots are drawn over samples that hold their own place, so that the result says where each came from."""
    count, fade = 20 * RATE_HZ, round(MASK.fade_s * RATE_HZ)
    laid = _drawn_by_lot(np.arange(1.0, count + 1), RATE_HZ, np.random.default_rng(1), MASK)
    is_alone = np.abs(np.abs(np.diff(laid)) - 1) < 1e-6  # between fades, neighbours of a grain are neighbours
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_alone.astype(int), [0]])))
    drawn, grains = np.zeros(count + 1, bool), 0
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start > 100:
            low, high = sorted((round(laid[start]), round(laid[end])))
            drawn[max(0, low - fade) : high + fade] = True
            grains += 1
    assert grains > 60
    assert 0.1 < 1 - drawn.mean() < 0.35


def test_no_thirty_milliseconds_of_speech_survive_unaltered():
    given = babble(4)
    alike = most_alike(given, given)
    assert alike.min() > 0.999  # the measure finds what is there
    found = most_alike(given, masked(given))
    assert found.max() < LIMIT
    assert np.median(found) < 0.7  # a buzz is much like any other: to the mask of another clip the median is 0.5


def test_a_mask_of_a_short_clip_holds_nothing_of_it_but_its_spectrum():
    given = babble(0.4, seed=3)
    made = masked(given)
    other = masked(babble(0.4, seed=4))
    assert np.median(most_alike(given, made)) < 1.15 * np.median(most_alike(given, other)) + 0.1


@pytest.mark.parametrize(
    "change",
    [
        {"grain_s": (0.3, 0.2)},
        {"grain_s": (0.05, 0.2)},
        {"fade_s": 0.0},
        {"reach_s": -0.1},
        {"seek_s": -0.1},
        {"backwards": 1.5},
        {"shape_s": 0.0},
        {"level_s": 0.01},
        {"bands_per_octave": 0.0},
        {"crossover_hz": 0.0},
    ],
)
def test_a_mask_that_could_not_work_is_refused(change):
    with pytest.raises(ValueError, match="a mask needs"):
        MaskSpec(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"shape_s": 0.2},
        {"level_s": 0.4},
        {"bands_per_octave": 4.0},
        {"crossover_hz": 2_000.0},
        {"grain_s": (0.2, 0.25)},
        {"reach_s": 0.1},
        {"backwards": 0.0},
        {"fade_s": 0.02},
        {"seek_s": 0.0},
    ],
)
def test_every_knob_reaches_what_it_turns(change):
    given = babble(2)
    assert not np.allclose(masked(given), masked(given, MaskSpec(**change)), atol=1e-3)
