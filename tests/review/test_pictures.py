from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from earmark_edge.event import ScoreTrack
from earmark_model.contract import LABELS
from earmark_review.errors import SoundError
from earmark_review.figures import (
    TRACK_HEIGHT,
    TRACK_WIDTH,
    WAVE_COLUMNS,
    event_span,
    frequency_ticks,
    peak_dbfs,
    time_ticks,
    track_lines,
    waveform_path,
)
from earmark_review.sound import read_sound
from earmark_review.spectrogram import COLUMNS, ROWS, Palette, hz_to_mel, loudness_picture, mel_to_hz, spectrogram_png

RATE_HZ = 16_000


def tone(frequency_hz, seconds=2.0, amplitude=0.5, rate_hz=RATE_HZ):
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def row_of(frequency_hz, rate_hz=RATE_HZ):
    return (ROWS - 1) * (1 - float(hz_to_mel(frequency_hz)) / float(hz_to_mel(rate_hz / 2)))


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("frequency_hz", [250, 1000, 3000])
def test_a_tone_is_drawn_at_its_own_height(frequency_hz, rate_hz):
    picture = loudness_picture(tone(frequency_hz, rate_hz=rate_hz), rate_hz)
    assert np.all(np.abs(np.argmax(picture[:, 100:-100], axis=0) - row_of(frequency_hz, rate_hz)) <= 2)


def test_the_axis_marks_the_same_height_as_the_picture():
    marks = {float(tick.text): tick.percent for tick in frequency_ticks(RATE_HZ)}
    assert set(marks) == {0, 250, 500, 1000, 2000, 4000, 8000}
    for frequency_hz, percent in marks.items():
        assert percent == pytest.approx(100 * row_of(frequency_hz) / (ROWS - 1), abs=0.01)


def test_a_moment_is_drawn_at_its_own_time():
    samples = np.zeros(4 * RATE_HZ, dtype=np.float32)
    samples[3 * RATE_HZ : 3 * RATE_HZ + 1600] = tone(1000, 0.1)
    inked = np.flatnonzero(loudness_picture(samples, RATE_HZ).max(axis=0) > 0.5)
    seconds = 4 * inked / COLUMNS
    assert 2.97 < seconds.min() < 3.01
    assert 3.09 < seconds.max() < 3.13


def test_no_click_in_a_long_clip_is_lost_between_columns():
    samples = np.zeros(60 * RATE_HZ, dtype=np.float32)
    clicks = np.arange(10) * 6 * RATE_HZ + 3 * RATE_HZ + np.arange(10) * 97
    samples[clicks] = 1.0
    picture = loudness_picture(samples, RATE_HZ)
    assert picture.shape == (ROWS, COLUMNS)
    inked = np.flatnonzero(picture.mean(axis=0) > 0.5)
    for click in clicks:
        assert np.min(np.abs(inked - COLUMNS * click / len(samples))) <= 1.5


@pytest.mark.parametrize("samples", [np.zeros(RATE_HZ, np.float32), np.full(RATE_HZ, 1e-7, np.float32)])
def test_silence_is_drawn_clear(samples):
    assert loudness_picture(samples, RATE_HZ)[: ROWS - 10].max() == 0


@pytest.mark.parametrize("samples", [np.ones(1, np.float32), np.ones(63, np.float32), tone(440, 0.05), np.ones(RATE_HZ, np.float32)])
def test_any_length_makes_a_picture_of_one_size(samples):
    for palette in Palette:
        picture = Image.open(io.BytesIO(spectrogram_png(samples, RATE_HZ, palette)))
        assert picture.size == (COLUMNS, ROWS)


@given(st.floats(0, 96_000))
def test_mel_and_back_is_where_it_began(frequency_hz):
    assert float(mel_to_hz(hz_to_mel(frequency_hz))) == pytest.approx(frequency_hz, abs=1e-6 * (1 + frequency_hz))


@given(st.floats(0.05, 600))
def test_time_ticks_are_few_round_and_in_order(duration_s):
    ticks = time_ticks(duration_s)
    assert 1 <= len(ticks) <= 9
    assert (ticks[0].percent, ticks[0].text) == (0, "0")
    places = [tick.percent for tick in ticks]
    assert places == sorted(places)
    assert places[-1] <= 100 + 1e-6
    for tick in ticks:
        assert float(tick.text) == pytest.approx(tick.percent * duration_s / 100, abs=1e-6)


def points(path):
    return np.array([[float(number) for number in part.split()] for part in path.strip("MZ").split(" L")])


def test_the_waveform_spans_the_clip_and_touches_its_edge():
    drawn = points(waveform_path(tone(100, 2.0, 0.25), 2.0, RATE_HZ))
    assert len(drawn) == 2 * WAVE_COLUMNS
    assert drawn[:, 1].min() == pytest.approx(0, abs=0.01)
    assert drawn[:, 1].max() == pytest.approx(2, abs=0.01)
    assert drawn[:, 0].max() == pytest.approx(WAVE_COLUMNS, abs=1)


def test_a_clip_shorter_than_the_axis_fills_its_share():
    assert points(waveform_path(tone(100, 1.0), 2.0, RATE_HZ))[:, 0].max() == pytest.approx(WAVE_COLUMNS / 2, abs=1)


@pytest.mark.parametrize("samples", [np.zeros(100, np.float32), np.ones(1, np.float32)])
def test_silence_and_a_single_sample_are_drawn_too(samples):
    assert np.isfinite(points(waveform_path(samples, len(samples) / RATE_HZ, RATE_HZ))).all()


def test_the_peak_is_told_in_decibels():
    assert peak_dbfs(np.array([0.5, -1.0], np.float32)) == 0
    assert peak_dbfs(np.array([0.1], np.float32)) == pytest.approx(-20)
    assert peak_dbfs(np.zeros(3, np.float32)) is None


def test_the_event_is_placed_by_the_streams_clock(make_sending):
    event = make_sending(onset_s=10.5, offset_s=12.0).event
    span = event_span(event, 10.0, 4.0)
    assert (span.start_percent, span.width_percent) == (12.5, 37.5)
    cut = event_span(event, 11.0, 0.5)
    assert (cut.start_percent, cut.width_percent) == (0, 100)
    assert event_span(event, 20.0, 4.0) is None


def track_of(**peaks):
    scores = {label: (0.0, peaks.get(label, 0.05), 0.0) for label in LABELS}
    return ScoreTrack(0.0, 0.5, scores, {"scream": 0.6, "cry": 0.5})


def test_the_flagged_line_comes_first_then_the_sensitive_then_what_was_heard():
    lines = track_lines(track_of(laughter=0.9, speech=0.4, cry=0.3, scream=0.2), 1.5, "laughter")
    assert [line.label for line in lines] == ["laughter", "cry", "scream", "baby_cry", "speech"]
    assert [line.is_flagged for line in lines] == [True, False, False, False, False]
    assert [line.threshold for line in lines] == [None, 0.5, 0.6, None, None]


def test_a_line_runs_through_the_middle_of_its_hops():
    [line] = [line for line in track_lines(track_of(scream=0.75), 1.5, "scream") if line.label == "scream"]
    expected = [[TRACK_WIDTH / 6, TRACK_HEIGHT], [TRACK_WIDTH / 2, TRACK_HEIGHT / 4], [5 * TRACK_WIDTH / 6, TRACK_HEIGHT]]
    assert points(line.path) == pytest.approx(np.array(expected), abs=0.1)
    assert line.threshold_percent == pytest.approx(40)


def test_a_single_score_is_still_a_line():
    track = ScoreTrack(0.0, 1.0, {"scream": (0.5,)}, {})
    [line] = track_lines(track, 1.0, "scream")
    assert points(line.path).tolist() == [[0, 50], [1000, 50]]


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_every_kind_of_clip_that_is_taken_is_decoded(tmp_path, kind, subtype):
    path = tmp_path / "0123"
    soundfile.write(path, np.stack([tone(440, 1.0), tone(440, 1.0)], axis=1), RATE_HZ, format=kind, subtype=subtype)
    sound = read_sound(path, 10)
    assert abs(len(sound.samples) - RATE_HZ) < 1000
    assert (sound.rate_hz, sound.is_cut) == (RATE_HZ, False)
    assert float(np.abs(sound.samples[4000:12_000]).max()) == pytest.approx(0.5, abs=0.05)


def test_decoding_stops_at_the_cap(tmp_path):
    path = tmp_path / "a"
    soundfile.write(path, tone(440, 2.0), RATE_HZ, format="WAV")
    assert (read_sound(path, 1.5).duration_s, read_sound(path, 1.5).is_cut) == (1.5, True)
    assert (read_sound(path, 2.0).duration_s, read_sound(path, 2.0).is_cut) == (2.0, False)


def test_impossible_samples_are_made_drawable(tmp_path):
    path = tmp_path / "a"
    soundfile.write(path, np.array([np.nan, np.inf, -np.inf, 7.0, 0.5]), RATE_HZ, format="WAV", subtype="FLOAT")
    assert read_sound(path, 1).samples.tolist() == [0, 1, -1, 1, 0.5]


@pytest.mark.parametrize("payload", [b"", b"RIFF", b"OggS" * 100, b"\x00" * 1000, b"<html>" * 50])
def test_what_is_no_sound_is_one_clear_error(tmp_path, payload):
    path = tmp_path / "a"
    path.write_bytes(payload)
    with pytest.raises(SoundError, match="cannot be decoded"):
        read_sound(path, 1)


def test_a_header_without_samples_is_one_clear_error(tmp_path):
    path = tmp_path / "a"
    soundfile.write(path, np.zeros(0), RATE_HZ, format="WAV")
    with pytest.raises(SoundError, match="no samples"):
        read_sound(path, 1)


def test_many_channels_are_mixed_down_block_by_block(tmp_path):
    path = tmp_path / "a"
    channels = np.zeros((70_000, 8))
    channels[:, 3] = 0.8
    soundfile.write(path, channels, RATE_HZ, format="WAV")
    sound = read_sound(path, 60)
    assert sound.samples.shape == (70_000,)
    assert sound.samples == pytest.approx(0.1, abs=1e-4)


def test_an_absurd_rate_is_refused(tmp_path):
    path = tmp_path / "a"
    soundfile.write(path, np.zeros(10), 7, format="WAV")
    with pytest.raises(SoundError, match="7 samples per second"):
        read_sound(path, 1)
