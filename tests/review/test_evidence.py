from __future__ import annotations

import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from earmark_review.sound import Sound, quiet_wav

MEDIA = ("clip", "spectrogram.png")


@pytest.fixture
def held(ada, one_case):
    ada.claim(one_case)
    return one_case


def break_the_log(house):
    with house.service.database.writing() as conn:
        conn.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'disk full'); END")


def test_the_clip_is_the_masked_one_at_its_length_and_rate(ada, held):
    answer = ada.client.get(f"/cases/{held}/clip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    samples, rate_hz = soundfile.read(io.BytesIO(answer.content))
    assert (len(samples), rate_hz) == (16_000, 16_000)
    assert abs(np.argmax(np.abs(np.fft.rfft(samples))) - 500) <= 1  # the masked tone; the original's is at 1000 Hz
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_player_may_ask_for_a_part(ada, held):
    whole = ada.client.get(f"/cases/{held}/clip").content
    for given, part in (("100-199", whole[100:200]), ("-50", whole[-50:]), ("30000-", whole[30_000:])):
        answer = ada.client.get(f"/cases/{held}/clip", headers={"range": f"bytes={given}"})
        assert (answer.status_code, answer.content) == (206, part)
    assert ada.client.get(f"/cases/{held}/clip", headers={"range": "bytes=999999-"}).status_code == 416
    assert ada.client.get(f"/cases/{held}/clip", headers={"range": "bytes=a-b"}).content == whole


@pytest.mark.parametrize("amplitude", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("limit_dbfs", [-26, -40])
def test_a_loud_clip_is_turned_down_to_the_limit_and_a_quiet_one_is_left(amplitude, limit_dbfs):
    times = np.arange(32_000) / 16_000
    sound = Sound((amplitude * np.sin(2 * np.pi * 440 * times)).astype(np.float32), 16_000, is_cut=False)
    samples, _ = soundfile.read(io.BytesIO(quiet_wav(sound, limit_dbfs)))
    level_dbfs = 20 * np.log10(np.sqrt(np.mean(samples[8000:] ** 2)))
    assert level_dbfs == pytest.approx(min(limit_dbfs, 20 * np.log10(amplitude / np.sqrt(2))), abs=0.1)
    assert samples[0] == 0
    assert np.max(np.abs(samples[:160])) < 0.1 * np.max(np.abs(samples))


def test_a_click_is_held_to_twelve_decibels_above_the_limit():
    click = np.zeros(16_000, dtype=np.float32)
    click[8000] = 1
    samples, _ = soundfile.read(io.BytesIO(quiet_wav(Sound(click, 16_000, is_cut=False), -26)))
    assert 0 < np.max(np.abs(samples)) <= 4 * 10 ** (-26 / 20) + 1e-4


def test_the_picture_is_a_grey_png_and_coloured_on_request(ada, held):
    pictures = {}
    for palette in ("grey", "colour"):
        answer = ada.client.get(f"/cases/{held}/spectrogram.png", params={"palette": palette})
        assert answer.headers["content-type"] == "image/png"
        pictures[palette] = Image.open(io.BytesIO(answer.content)).convert("RGBA")
    assert pictures["grey"].size == (1200, 320)
    grey, colour = ({pixel[:3] for _, pixel in picture.getcolors(1_000_000)} for picture in pictures.values())
    assert all(len(set(pixel)) == 1 for pixel in grey)
    assert any(len(set(pixel)) == 3 for pixel in colour)
    assert ada.client.get(f"/cases/{held}/spectrogram.png?palette=neon").status_code == 422


@pytest.mark.parametrize("what", MEDIA)
def test_nothing_is_served_without_a_lease(ada, bea, one_case, house, what):
    assert ada.client.get(f"/cases/{one_case}/{what}").status_code == 409
    ada.claim(one_case)
    assert ada.client.get(f"/cases/{one_case}/{what}").status_code == 200
    assert bea.client.get(f"/cases/{one_case}/{what}").status_code == 409


@pytest.mark.parametrize("what", MEDIA)
def test_a_link_dies_with_its_lease(house, ada, held, clock, what):
    clock.advance(house.service.settings.lease_s)
    assert ada.client.get(f"/cases/{held}/{what}").status_code == 409


@pytest.mark.parametrize("what", MEDIA)
def test_a_link_dies_with_the_verdict(ada, held, what):
    cookies = dict(ada.client.cookies)
    ada.act(held, "verdict", ada.lease_of(held), verdict="distress")
    ada.client.cookies.update(cookies)
    assert ada.client.get(f"/cases/{held}/{what}").status_code == 409


@pytest.mark.parametrize("what", MEDIA)
def test_a_stolen_lease_cookie_plays_nothing_in_another_session(house, ada, bea, held, what):
    token = ada.lease_of(held)
    bea.client.cookies.set("earmark_lease", token, domain="review.test", path=f"/cases/{held}")
    assert bea.client.get(f"/cases/{held}/{what}").status_code == 409
    bea.client.cookies.clear()
    assert bea.client.get(f"/cases/{held}/{what}", headers={"accept": "*/*"}).status_code == 401


@pytest.mark.parametrize("what", MEDIA)
def test_the_log_has_it_in_writing_before_a_byte_is_read(house, ada, held, monkeypatch, what):
    seen = []
    read = house.service.blobs.read
    monkeypatch.setattr(type(house.service.blobs), "read", lambda _self, key: (seen.append(house.log()[-1].action), read(key))[1])
    assert ada.client.get(f"/cases/{held}/{what}").status_code == 200
    assert seen == ["evidence.served"]


@pytest.mark.parametrize("what", MEDIA)
def test_with_the_log_down_nothing_is_played(house, ada, held, what):
    break_the_log(house)
    answer = ada.client.get(f"/cases/{held}/{what}")
    assert answer.status_code == 503
    assert b"RIFF" not in answer.content
    assert "audit log" in answer.text


def test_with_the_log_down_no_evidence_is_drawn_and_nothing_is_decided(house, ada, held):
    token = ada.lease_of(held)
    break_the_log(house)
    assert ada.client.get(f"/cases/{held}").status_code == 503
    assert ada.act(held, "verdict", token, verdict="distress").status_code == 503
    with house.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM verdicts").scalar() == 0
        assert conn.exec_driver_sql("SELECT state FROM cases").scalar() == "leased"


def test_each_kind_of_evidence_is_entered_once_under_a_lease(house, ada, held):
    for _ in range(3):
        for what in MEDIA:
            ada.client.get(f"/cases/{held}/{what}")
    served = [entry.detail["evidence"] for entry in house.log() if entry.action == "evidence.served"]
    assert served == ["audio of tier 2", "spectrogram of tier 2"]
    ada.act(held, "skip", ada.lease_of(held))
    ada.claim(held)
    ada.client.get(f"/cases/{held}/clip")
    again = [entry.detail["evidence"] for entry in house.log() if entry.action == "evidence.served"]
    assert again == [*served, "pictures and scores", "audio of tier 2"]


def test_a_missing_blob_is_told_and_raises_an_alert(house, ada, held):
    for key in house.service.blobs.list_keys():
        house.service.blobs.remove(key)
    page = ada.client.get(f"/cases/{held}")
    assert page.status_code == 200
    assert "not in the store" in page.text
    assert ada.client.get(f"/cases/{held}/clip").status_code == 503
    assert house.log()[-1].action == "evidence.missing"
    assert house.log()[-1].is_alert


@pytest.mark.parametrize("payload", [b"RIFF\x00\x00\x00\x00WAVEjunk", b"fLaC" + b"\x00" * 400, b"<script>alert(1)</script>"])
def test_a_clip_that_cannot_be_decoded_is_told_and_can_still_be_decided(house, sender, ada, make_sending, payload):
    track = ("application/json", make_sending().plain[0])
    sender.send(make_sending(plain={0: track, 2: ("audio/flac", payload)}))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}")
    assert "No picture of the clip" in page.text
    assert "Scores" in page.text
    assert ada.client.get(f"/cases/{case_id}/spectrogram.png").status_code == 422
    assert ada.act(case_id, "verdict", ada.lease_of(case_id), verdict="cannot_tell").status_code == 303


def test_a_damaged_score_track_is_told_and_the_rest_is_shown(sender, ada, make_sending):
    payload = b'{"scores":{"scream":[NaN]},"thresholds":{},"start_s":0,"hop_s":1}'
    sender.send(make_sending(plain={0: ("application/json", payload), 2: ("audio/flac", make_sending().plain[3])}))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    assert "The score track cannot be read" in page
    assert "spectrogram.png" in page


def test_an_event_without_audio_has_no_player(sender, ada, make_sending):
    sender.post(make_sending(clips=()).payload)
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    assert "sent no masked sound" in page
    assert "<audio" not in page
    assert ada.client.get(f"/cases/{case_id}/clip").status_code == 404


def test_the_player_starts_quiet_and_never_by_itself(open_house, make_sending):
    house = open_house(starting_volume=0.05)
    house.device().send(make_sending(masked=True))
    ada = house.user("ada")
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    [audio] = re.findall(r"<audio [^>]*data-audio>", page)
    assert "autoplay" not in page
    assert 'preload="none"' in audio
    assert 'value="0.05" data-volume' in page


def test_the_page_marks_the_event_on_the_clips_time_axis(ada, held):
    page = ada.client.get(f"/cases/{held}").text
    assert "the event is marked from 0.2 to 0.6 s" in page
    assert '<rect class="span" x="20.000%" width="40.000%"' in page
    assert "threshold 0.60" in page
    assert re.search(r"<text [^>]+>8000</text>", page)


def test_a_long_clip_is_drawn_up_to_the_cap(open_house, make_sending):
    house = open_house(clip_seconds_cap=0.5)
    house.device().send(make_sending(masked=True))
    ada = house.user("ada")
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    assert "The clip goes on" in page
    assert 'width="50.000%" height="100%" preserveAspectRatio="none" data-picture' in page
