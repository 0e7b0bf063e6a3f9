"""With the audit store down there is no playback: no tier, no picture, no second look, however it is down."""

from __future__ import annotations

import pytest
from tests.review.sendings import picture_bytes, tone_bytes

from earmark_review.access import RULES
from earmark_review.accounts import Role

EVIDENCE = [path.split(" ")[1] for path in RULES if path.startswith("GET /cases/{case_id}")]
FULL = {
    "sqlite": ["CREATE TRIGGER no_room BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'disk full'); END"],
    "postgresql": [
        (
            "CREATE FUNCTION refuse_for_want_of_room() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = 'disk_full'; END $$"
        ),
        "CREATE TRIGGER no_room BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_for_want_of_room()",
    ],
}
DOWN = {
    "its disk is full": FULL,
    "its table is gone": ["ALTER TABLE audit_log RENAME TO elsewhere"],
    "it takes other columns": ["ALTER TABLE audit_log RENAME COLUMN sha256 TO gone"],
}


@pytest.fixture
def broken_glass(house, sender, make_sending):
    """A case with every tier, held by ada, its original open; everything was seen once."""
    track, tone = make_sending().plain[0], tone_bytes()
    plain = {
        0: ("application/json", track),
        1: ("application/json", picture_bytes()),
        2: ("audio/flac", tone_bytes(frequency_hz=500)),
        3: ("audio/flac", tone),
    }
    sender.send(make_sending("all-tiers", plain=plain))
    ada, sam = house.user("ada"), house.user("sam", Role.SENIOR)
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    ada.act(case_id, "original", ada.lease_of(case_id), reason="the masked sound does not tell")
    assert sam.client.post("/originals/1", data={"csrf": sam.csrf(), "answer": "yes"}).status_code == 303
    return ada, case_id


def look(browser, path, case_id):
    return browser.client.get(path.replace("{case_id}", case_id), headers={"accept": "*/*"})


@pytest.mark.parametrize("is_second_look", [False, True], ids=["first look", "second look"])
@pytest.mark.parametrize("down", DOWN)
def test_no_tier_is_served_and_no_key_is_touched(house, broken_glass, monkeypatch, down, is_second_look):
    ada, case_id = broken_glass
    assert {"/cases/{case_id}", "/cases/{case_id}/clip", "/cases/{case_id}/original", "/cases/{case_id}/spectrogram.png"} <= set(EVIDENCE)
    if is_second_look:
        for path in EVIDENCE:
            look(ada, path, case_id)
        assert look(ada, "/cases/{case_id}/original", case_id).content[:4] == b"RIFF"
    with house.service.database.writing() as conn:
        for statement in DOWN[down][house.engine] if DOWN[down] is FULL else DOWN[down]:
            conn.exec_driver_sql(statement)
    touched = []
    monkeypatch.setattr(type(house.service.keys), "find", lambda *words: touched.append(words))
    for path in EVIDENCE:
        answer = look(ada, path, case_id)
        assert answer.status_code == 503, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert b"RIFF" not in answer.content
        assert b"PNG" not in answer.content
    assert touched == []


def test_the_log_is_as_it_was_after_a_second_look(house, broken_glass):
    ada, case_id = broken_glass
    look(ada, "/cases/{case_id}/original", case_id)
    before = house.log()
    assert look(ada, "/cases/{case_id}/original", case_id).status_code == 200
    assert house.log() == before
