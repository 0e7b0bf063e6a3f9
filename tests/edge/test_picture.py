"""The third-octave picture: its levels are the bands', it says no more than its resolution, and a wrong one is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark_edge.picture import COLUMN_S, NOMINAL_HZ, SILENCE_DB, ThirdOctavePicture, third_octave_picture
from earmark_edge.wire import WireError

RATE_HZ = 16_000
FULL_SINE_DB = -3


def tone(hertz, seconds=1.0, level=1.0):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def picture_of(audio, rate_hz=RATE_HZ):
    return third_octave_picture(audio, rate_hz, 1.5)


def middle(picture):
    return np.array(picture.levels_db)[len(picture.levels_db) // 2]


def exact_hz(band):
    return 1_000 * 10 ** (0.1 * (band - 10))


@pytest.mark.parametrize("band", range(len(NOMINAL_HZ)))
def test_a_tone_at_a_midband_frequency_has_its_level_there_and_lives_nowhere_else(band):
    levels = middle(picture_of(tone(exact_hz(band))))
    assert levels[band] == FULL_SINE_DB
    away = np.abs(np.arange(len(levels)) - band)
    assert (levels[away == 1] <= FULL_SINE_DB - 16).all()
    assert (levels[away >= 3] <= FULL_SINE_DB - 40).all()


def test_a_tone_on_the_border_of_two_bands_is_three_decibels_down_in_both():
    levels = middle(picture_of(tone(exact_hz(10) * 10**0.05, level=10 ** (-17 / 20))))
    assert abs(int(levels[10]) - (-23)) <= 1
    assert abs(int(levels[10]) - int(levels[11])) <= 1


def test_the_nominal_frequencies_are_those_of_the_base_ten_series():
    assert all(abs(exact_hz(i) / nominal - 1) < 0.02 for i, nominal in enumerate(NOMINAL_HZ))


def test_white_noise_rises_by_a_decibel_a_band_and_adds_up_to_its_power():
    noise = (0.1 * np.random.default_rng(0).standard_normal(20 * RATE_HZ)).astype(np.float32)
    power = np.mean(10 ** (np.array(picture_of(noise).levels_db) / 10), axis=0)
    slope = np.polyfit(np.arange(len(power)), 10 * np.log10(power), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)
    covered = (exact_hz(18) * 10**0.05 - exact_hz(0) * 10**-0.05) / (RATE_HZ / 2)
    assert power.sum() == pytest.approx(0.01 * covered, rel=0.1)


def test_silence_is_the_lowest_level_and_an_impulse_lies_in_its_column():
    assert set(np.array(picture_of(np.zeros(8_000, np.float32)).levels_db).flat) == {SILENCE_DB}
    click = np.zeros(16_000, np.float32)
    click[9_000] = 1.0
    levels = np.array(picture_of(click).levels_db)[:, 8:]  # low bands ring for longer than a column
    assert set(levels.argmax(axis=0)) == {4}


@pytest.mark.parametrize(("samples", "columns"), [(1, 1), (1_999, 1), (2_000, 1), (2_001, 2), (16_000, 8)])
def test_there_is_a_column_for_every_eighth_of_a_second_begun(samples, columns):
    picture = picture_of(np.full(samples, 0.5, np.float32))
    assert (len(picture.levels_db), picture.column_s, picture.start_s) == (columns, 0.125, 1.5)
    assert picture.duration_s == columns * COLUMN_S


def test_at_a_lower_rate_there_are_fewer_bands():
    assert picture_of(tone(500), 8_000).bands_hz == NOMINAL_HZ[:16]


def test_the_picture_says_the_same_of_sounds_that_differ_only_below_its_resolution():
    """Noise of one spectrum, whatever its samples: nothing but 19 numbers for each eighth of a second is in the object."""
    audio = tone(440, 2.0, 0.3)
    assert picture_of(audio).to_bytes() == picture_of(-audio).to_bytes()
    numbers = sum(len(column) for column in json.loads(picture_of(audio).to_bytes())["levels_db"])
    assert numbers == 16 * len(NOMINAL_HZ)


@settings(max_examples=50)
@given(levels=st.lists(st.lists(st.integers(-120, 20), min_size=3, max_size=3), min_size=1, max_size=20), start_s=st.floats(0, 1e6))
def test_from_bytes_undoes_to_bytes(levels, start_s):
    picture = ThirdOctavePicture(start_s, COLUMN_S, NOMINAL_HZ[:3], tuple(map(tuple, levels)))
    assert ThirdOctavePicture.from_bytes(picture.to_bytes()) == picture


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schema": 2}, "schema"),
        ({"start_s": -1}, "start_s"),
        ({"start_s": "1"}, "start_s"),
        ({"column_s": 0.01}, "column_s"),
        ({"bands_hz": [100, 126]}, "bands_hz"),
        ({"bands_hz": []}, "bands_hz"),
        ({"bands_hz": 100}, "bands_hz"),
        ({"levels_db": []}, "levels_db"),
        ({"levels_db": 5}, "levels_db"),
        ({"levels_db": [[1, 2], [3]]}, "levels_db"),
        ({"levels_db": [[1, 2.5]]}, "levels_db"),
        ({"levels_db": [[1, True]]}, "levels_db"),
        ({"levels_db": [[1, 21]]}, "levels_db"),
        ({"levels_db": [[1, -121]]}, "levels_db"),
        ({"levels_db": ["ab"]}, "levels_db"),
        ({"more": 1}, "more"),
    ],
)
def test_a_picture_of_another_form_is_refused_by_the_field(change, named):
    good = {"schema": 1, "start_s": 0.0, "column_s": 0.125, "bands_hz": [100, 125], "levels_db": [[-3, -4]]}
    assert ThirdOctavePicture.from_bytes(json.dumps(good).encode()).levels_db == ((-3, -4),)
    with pytest.raises(WireError, match=named):
        ThirdOctavePicture.from_bytes(json.dumps(good | change).encode())


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"\xff", b"null", b'{"schema": 1}'])
def test_what_is_no_picture_at_all_is_refused(payload):
    with pytest.raises(WireError, match="picture"):
        ThirdOctavePicture.from_bytes(payload)
