from __future__ import annotations

import io
import re

import pytest
import soundfile
from PIL import Image

MEDIA = ("clip", "spectrogram.png")


@pytest.fixture
def held(ada, one_case):
    ada.claim(one_case)
    return one_case


def break_the_log(house):
    with house.service.database.writing() as conn:
        conn.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'disk full'); END")


def test_the_clip_is_the_devices_bytes(sender, ada, held, make_sending):
    answer = ada.client.get(f"/cases/{held}/clip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/flac")
    assert answer.content == make_sending().plain[3]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_player_may_ask_for_a_part(ada, held, make_sending):
    answer = ada.client.get(f"/cases/{held}/clip", headers={"range": "bytes=100-199"})
    assert answer.status_code == 206
    assert answer.content == make_sending().plain[3][100:200]


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
    ada.act(held, "verdict", ada.lease_of(held), verdict="confirmed")
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
    find = house.service.blobs.find
    monkeypatch.setattr(type(house.service.blobs), "find", lambda _self, key: (seen.append(house.log()[-1].action), find(key))[1])
    assert ada.client.get(f"/cases/{held}/{what}").status_code == 200
    assert seen == ["evidence.served"]


@pytest.mark.parametrize("what", MEDIA)
def test_with_the_log_down_nothing_is_played(house, ada, held, what):
    break_the_log(house)
    answer = ada.client.get(f"/cases/{held}/{what}")
    assert answer.status_code == 503
    assert b"fLaC" not in answer.content
    assert "audit log" in answer.text


def test_with_the_log_down_no_evidence_is_drawn_and_nothing_is_decided(house, ada, held):
    token = ada.lease_of(held)
    break_the_log(house)
    assert ada.client.get(f"/cases/{held}").status_code == 503
    assert ada.act(held, "verdict", token, verdict="confirmed").status_code == 503
    with house.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM verdicts").scalar() == 0
        assert conn.exec_driver_sql("SELECT state FROM cases").scalar() == "leased"


def test_each_kind_of_evidence_is_entered_once_under_a_lease(house, ada, held):
    for _ in range(3):
        for what in MEDIA:
            ada.client.get(f"/cases/{held}/{what}")
    served = [entry.detail["evidence"] for entry in house.log() if entry.action == "evidence.served"]
    assert served == ["audio of tier 3", "spectrogram of tier 3"]
    ada.act(held, "skip", ada.lease_of(held))
    ada.claim(held)
    ada.client.get(f"/cases/{held}/clip")
    again = [entry.detail["evidence"] for entry in house.log() if entry.action == "evidence.served"]
    assert again == [*served, "waveform and scores", "audio of tier 3"]


def test_a_missing_blob_is_told_and_raises_an_alert(house, ada, held):
    for path in house.service.blobs.objects.glob("*/*"):
        path.unlink()
    page = ada.client.get(f"/cases/{held}")
    assert page.status_code == 200
    assert "not in the store" in page.text
    assert ada.client.get(f"/cases/{held}/clip").status_code == 503
    assert house.log()[-1].action == "evidence.missing"
    assert house.log()[-1].is_alert


@pytest.mark.parametrize("payload", [b"RIFF\x00\x00\x00\x00WAVEjunk", b"fLaC" + b"\x00" * 400, b"<script>alert(1)</script>"])
def test_a_clip_that_cannot_be_decoded_is_told_and_can_still_be_decided(house, sender, ada, make_sending, payload):
    track = ("application/json", make_sending().plain[0])
    sender.send(make_sending(plain={0: track, 3: ("audio/flac", payload)}))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}")
    assert "No picture of the clip" in page.text
    assert "Scores" in page.text
    assert ada.client.get(f"/cases/{case_id}/spectrogram.png").status_code == 422
    assert ada.act(case_id, "verdict", ada.lease_of(case_id), verdict="unsure").status_code == 303


def test_a_damaged_score_track_is_told_and_the_rest_is_shown(sender, ada, make_sending):
    payload = b'{"scores":{"scream":[NaN]},"thresholds":{},"start_s":0,"hop_s":1}'
    sender.send(make_sending(plain={0: ("application/json", payload), 3: ("audio/flac", make_sending().plain[3])}))
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
    assert "sent no audio" in page
    assert "<audio" not in page
    assert ada.client.get(f"/cases/{case_id}/clip").status_code == 404


def test_masked_audio_is_played_before_the_original(sender, ada, make_sending):
    stream = io.BytesIO()
    soundfile.write(stream, [0.0] * 16_000, 16_000, format="WAV")
    masked = stream.getvalue()
    sender.send(make_sending(plain={2: ("audio/wav", masked), 3: ("audio/flac", make_sending().plain[3])}))
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    assert ada.client.get(f"/cases/{case_id}/clip").content == masked


def test_the_player_starts_quiet_and_never_by_itself(open_house, make_sending):
    house = open_house(starting_volume=0.05)
    house.device().send(make_sending())
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
    house.device().send(make_sending())
    ada = house.user("ada")
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    page = ada.client.get(f"/cases/{case_id}").text
    assert "The clip goes on" in page
    assert 'width="50.000%" height="100%" preserveAspectRatio="none" data-picture' in page
