from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from tests.review.sendings import RATE_HZ, picture_bytes

from earmark_edge.picture import ThirdOctavePicture, third_octave_picture
from earmark_review.bands import SHADES, inked, lay_out

RUN = re.compile(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z")


@pytest.fixture
def picture():
    return ThirdOctavePicture.from_bytes(picture_bytes())


def drawn(figure):
    """Which cells the paths cover, and how dark; `[columns, bands]`, the highest band first, as an eye sees it."""
    cells = np.zeros((figure.columns, figure.bands))
    for shade in figure.shades:
        assert RUN.sub("", shade.path) == ""
        for column, row, width, back in RUN.findall(shade.path):
            assert width == back
            part = cells[int(column) : int(column) + int(width), int(row)]
            assert len(part) == int(width)
            assert not part.any()
            part[:] = shade.ink
    return cells


def test_the_paths_are_the_levels_cell_by_cell():
    rng = np.random.default_rng(3)
    noise = (rng.standard_normal(3 * RATE_HZ) * np.linspace(0, 0.3, 3 * RATE_HZ)).astype(np.float32)
    made = third_octave_picture(noise, RATE_HZ, 0.0)
    ink = inked(np.array(made.levels_db, float))
    assert len(set(ink.flat)) > 5
    assert drawn(lay_out(made, 0.0, 3.0)) == pytest.approx(ink[:, ::-1] / SHADES)


def test_a_tone_is_darkest_in_its_band_and_silence_is_clear(picture):
    cells = drawn(lay_out(picture, 10.0, 1.0))
    row = len(picture.bands_hz) - 1 - picture.bands_hz.index(500)
    assert (cells[:4, row] == 1).all()
    assert not cells[5:].any()


def test_digital_silence_stays_clear_and_says_so():
    figure = lay_out(third_octave_picture(np.zeros(RATE_HZ, np.float32), RATE_HZ, 0.0), 0.0, 1.0)
    assert not figure.shades
    assert figure.words.endswith("silence")


def test_the_words_tell_where_it_is_loudest(picture):
    assert re.fullmatch(r"bands from 100 to 6300 Hz, loudest at 0\.[0-4] s around 500 Hz", lay_out(picture, 10.0, 1.0).words)


def test_the_axis_has_octaves_in_hertz_from_the_bottom_up(picture):
    ticks = lay_out(picture, 10.0, 1.0).frequency_ticks
    assert [tick.text for tick in ticks] == ["125", "250", "500", "1000", "2000", "4000"]
    heights = [tick.percent for tick in ticks]
    assert heights == sorted(heights, reverse=True)
    assert np.diff(heights) == pytest.approx(np.diff(heights)[0])  # an octave is an octave


def test_the_picture_lies_on_the_streams_clock(picture):
    figure = lay_out(replace(picture, start_s=11.0), 10.0, 4.0)
    assert (figure.start_percent, figure.width_percent) == (25.0, 25.0)


@pytest.fixture
def pictured(ada, sender, make_sending):
    sender.send(make_sending(masked=True, pictured=True))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    return case_id


def test_a_case_begins_with_the_devices_picture(ada, pictured):
    page = ada.client.get(f"/cases/{pictured}").text
    titles = re.findall(r"<h3>([\w-]+)", page)
    assert titles == ["Third-octave", "Scores", "Spectrogram", "Waveform"]
    [words] = re.findall(r'aria-label="(Third-octave picture [^"]+)"', page)
    assert "around 500 Hz" in words
    assert "the event is marked from 0.2 to 0.6 s" in words
    [drawing] = re.findall(r'<svg class="bands".*?</svg>', page)
    assert len(ET.fromstring(drawing).findall("path")) > 1


def test_without_audio_the_picture_and_the_scores_are_the_case(ada, sender, make_sending):
    whole = make_sending(masked=True, pictured=True)
    kept = {0: ("application/json", whole.plain[0]), 1: ("application/json", whole.plain[1])}
    sender.send(make_sending("quiet-event", plain=kept))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    assert 'class="bands"' in page
    assert "data-play " not in page
    assert "Begin here" in page  # the span can still be corrected


@pytest.mark.parametrize("payload", [b"\x89PNG\r\n", b"{}", b'{"schema":1,"start_s":0,"column_s":0.01,"bands_hz":[100],"levels_db":[[0]]}'])
def test_a_picture_that_cannot_be_read_is_told_and_the_rest_is_shown(ada, sender, make_sending, payload):
    whole = make_sending(masked=True)
    sender.send(make_sending("odd", plain={0: ("application/json", whole.plain[0]), 1: ("application/json", payload)}))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    assert "picture cannot be read" in page
    assert 'class="bands"' not in page
    assert "<h3>Scores" in page


def test_a_deleted_case_says_so_to_whoever_had_it_open(house, ada, pictured):
    token = ada.lease_of(pictured)
    house.service.delete_event("kitchen", "event-1")
    answer = ada.act(pictured, "verdict", token, verdict="distress", note="half a thought")
    assert answer.status_code == 404
    assert "was deleted" in answer.text
    assert f'data-finished="{pictured}"' in answer.text  # by which the browser drops its draft
