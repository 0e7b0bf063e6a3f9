from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import event
from tests.review.conftest import ON_SQLITE


def test_a_claim_opens_the_evidence_for_its_holder_alone(ada, bea, one_case):
    assert "spectrogram.png" not in ada.client.get(f"/cases/{one_case}").text
    claimed = ada.claim(one_case)
    assert (claimed.status_code, claimed.headers["location"]) == (303, f"/cases/{one_case}")
    assert "spectrogram.png" in ada.client.get(f"/cases/{one_case}").text
    seen = bea.client.get(f"/cases/{one_case}").text
    assert "spectrogram.png" not in seen
    assert "ada holds this case" in seen


def test_the_lease_cookie_goes_to_its_case_alone(ada, one_case):
    [cookie] = ada.claim(one_case).headers.get_list("set-cookie")
    assert cookie.startswith("earmark_lease=")
    for attribute in (f"Path=/cases/{one_case}", "HttpOnly", "SameSite=strict"):
        assert attribute in cookie


def test_a_held_case_cannot_be_claimed_by_another(ada, bea, one_case):
    ada.claim(one_case)
    refused = bea.claim(one_case)
    assert refused.status_code == 409
    assert "ada holds this case" in refused.text.lower() or "Ada holds this case" in refused.text


def test_each_claim_has_a_fresh_token(house, ada, one_case):
    tokens = set()
    for _ in range(3):
        ada.claim(one_case)
        token = ada.lease_of(one_case)
        assert len(token) >= 43
        tokens.add(token)
        ada.act(one_case, "skip", token)
    assert len(tokens) == 3


def test_the_token_is_stored_as_a_hash(house, ada, one_case):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    with house.service.database.reading() as conn:
        [stored] = conn.exec_driver_sql("SELECT token_sha256 FROM leases").scalars().all()
    assert stored != token
    assert len(stored) == 64


def test_a_heartbeat_renews_until_the_limit(open_house, clock, make_sending):
    house = open_house(lease_s=100, lease_limit_s=250)
    house.device().send(make_sending())
    ada = house.user("ada")
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    began, token = clock(), ada.lease_of(case_id)
    ends = []
    for _ in range(3):
        clock.advance(80)
        answer = ada.act(case_id, "heartbeat", token).json()
        ends.append(datetime.fromisoformat(answer["expires_at"]) - began)
        assert answer["seconds_left"] == (began + ends[-1] - clock()).total_seconds()
    assert ends == [timedelta(seconds=180), timedelta(seconds=250), timedelta(seconds=250)]
    clock.advance(10)
    assert ada.act(case_id, "heartbeat", token).status_code == 409


def test_an_expired_lease_returns_the_case_and_the_late_answer_is_refused(house, ada, bea, one_case, clock):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    clock.advance(house.service.settings.lease_s)
    assert "Ready" in ada.client.get("/queue").text
    late = ada.act(one_case, "verdict", token, verdict="distress", note="late")
    assert late.status_code == 409
    assert "Your claim has ended" in late.text
    assert "stays in this browser" in late.text
    assert bea.claim(one_case).status_code == 303
    assert "lease.expired" in house.actions()
    assert ada.act(one_case, "verdict", token, verdict="distress").status_code == 409
    assert ada.case_ids("/decided") == []


def test_who_lost_a_claim_is_told_on_the_cases_page(house, ada, one_case, clock):
    ada.claim(one_case)
    clock.advance(house.service.settings.lease_s + 1)
    page = ada.client.get(f"/cases/{one_case}").text
    assert "Your claim on this case has ended" in page
    assert "Claim this case" in page
    assert "spectrogram.png" not in page


@pytest.mark.parametrize("action", ["heartbeat", "skip", "verdict"])
def test_every_action_needs_the_leases_own_token(house, ada, one_case, action):
    ada.claim(one_case)
    before = house.actions()
    for token in ("", "wrong", "\x00", "é"):
        assert ada.act(one_case, action, token, verdict="distress").status_code == 409, token
    assert house.actions() == before


@pytest.mark.parametrize("action", ["heartbeat", "skip", "verdict"])
def test_a_stolen_token_is_worthless_in_another_session(house, ada, bea, one_case, action):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    second = house.browser("ada")
    for thief in (bea, second):
        assert thief.act(one_case, action, token, verdict="distress").status_code == 409


def test_a_token_opens_its_own_case_alone(house, sender, ada, make_sending):
    for number in range(2):
        sender.send(make_sending(f"event-{number}"))
    first, second = ada.case_ids()
    ada.claim(first)
    token = ada.lease_of(first)
    assert ada.act(second, "verdict", token, verdict="distress").status_code == 409


def test_one_case_at_a_time(sender, ada, one_case, make_sending):
    sender.send(make_sending("event-2"))
    other = next(case_id for case_id in ada.case_ids() if case_id != one_case)
    ada.claim(one_case)
    refused = ada.claim(other)
    assert refused.status_code == 409
    assert f"decide or skip case {one_case[:8]}" in refused.text


def test_the_limit_is_the_settings(open_house, make_sending):
    house = open_house(leases_per_reviewer=2)
    sender, ada = house.device(), house.user("ada")
    for number in range(3):
        sender.send(make_sending(f"event-{number}"))
    statuses = [ada.claim(case_id).status_code for case_id in ada.case_ids()]
    assert statuses == [303, 303, 409]


def test_ones_own_case_can_be_taken_over_from_another_window(house, ada, one_case):
    ada.claim(one_case)
    old = ada.lease_of(one_case)
    second = house.browser("ada")
    assert "another window" in second.client.get(f"/cases/{one_case}").text
    assert second.claim(one_case).status_code == 409
    assert second.claim(one_case, takeover="yes").status_code == 303
    assert ada.act(one_case, "verdict", old, verdict="distress").status_code == 409
    assert second.act(one_case, "verdict", second.lease_of(one_case), verdict="distress").status_code == 303


def test_nobody_elses_case_can_be_taken_over(ada, bea, one_case):
    ada.claim(one_case)
    assert bea.claim(one_case, takeover="yes").status_code == 409
    assert ada.act(one_case, "heartbeat", ada.lease_of(one_case)).status_code == 200


def test_signing_out_hands_the_case_back(house, ada, bea, one_case):
    ada.claim(one_case)
    ada.client.post("/logout", data={"csrf": ada.csrf()})
    assert "lease.released" in house.actions()
    assert bea.claim(one_case).status_code == 303


@pytest.mark.parametrize(
    ("verdict", "state"),
    [("distress", "shredded"), ("other_sound", "shredded"), ("cannot_tell", "second_review"), ("escalate", "second_review")],
)
def test_each_verdict_leads_on_and_is_kept_with_its_note(house, ada, bea, one_case, verdict, state):
    answer = ada.decide(one_case, verdict, "  a note\r\nin two lines ")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/queue?decided={one_case}")
    with house.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT state FROM cases").scalar() == state
        assert conn.exec_driver_sql("SELECT verdict, note FROM verdicts").one() == (verdict, "a note\nin two lines")
    entry = house.log()[-1] if house.actions()[-1] == "case.decided" else house.log()[house.actions().index("case.decided")]
    assert (entry.actor, entry.subject, entry.detail["verdict"]) == ("user:ada", f"case:{one_case}", verdict)
    assert ("a note" in bea.client.get(f"/cases/{one_case}").text) is (state == "shredded")


@pytest.mark.parametrize("verdict", ["", "guilty", "CONFIRMED", "confirmed "])
def test_anything_else_is_no_verdict(ada, one_case, verdict):
    refused = ada.decide(one_case, verdict)
    assert refused.status_code == 422
    assert "one of distress, play, media, other_sound, cannot_tell, escalate" in refused.text
    assert "Held by you" in ada.client.get("/queue").text


def test_a_decided_case_cannot_be_claimed_or_decided_again(ada, bea, one_case):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    assert ada.act(one_case, "verdict", token, verdict="distress").status_code == 303
    assert ada.act(one_case, "verdict", token, verdict="other_sound").status_code == 409
    assert bea.claim(one_case).status_code == 409
    assert ada.act(one_case, "skip", token).status_code == 409


def test_a_note_fits_to_the_letter(open_house, make_sending):
    house = open_house(note_chars_cap=10)
    house.device().send(make_sending())
    ada = house.user("ada")
    [case_id] = ada.case_ids()
    ada.claim(case_id)
    token = ada.lease_of(case_id)
    assert ada.act(case_id, "verdict", token, verdict="cannot_tell", note="x" * 11).status_code == 422
    assert ada.act(case_id, "verdict", token, verdict="cannot_tell", note="x" * 10).status_code == 303


def test_every_look_at_a_case_is_in_the_log(house, ada, bea, one_case):
    bea.client.get(f"/cases/{one_case}")
    ada.claim(one_case)
    ada.client.get(f"/cases/{one_case}")
    views = [(entry.actor, entry.detail["shown"]) for entry in house.log() if entry.action == "case.viewed"]
    assert views == [("user:bea", "metadata"), ("user:ada", "evidence")]


@ON_SQLITE
def test_the_next_case_is_read_off_the_front_of_an_index_however_long_the_queue_is(house, sender, ada, one_case, clock):
    asked = []
    event.listen(house.service.database._engine, "before_cursor_execute", lambda _c, _cursor, *words: asked.append(words[:2]))
    ada.client.post("/queue/next", data={"csrf": ada.csrf()})
    ada.case_ids()
    reads = [words for words in asked if words[0].startswith(("SELECT", "UPDATE")) and "audit_log" not in words[0]]
    with house.service.database.reading() as conn:
        steps = [row[3] for query, values in reads for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)]
    whole = [step for step in steps if step.startswith(("SCAN cases", "SCAN leases", "SCAN verdicts", "SCAN events"))]
    assert whole
    assert {step for step in whole if "ix_cases_open" not in step} == set()
