"""A session ends at once, from wherever it is ended, and what it held is free."""

from __future__ import annotations

import json

import pytest
from tests.review.callers import PASSWORD, field_of
from typer.testing import CliRunner

from earmark_review.accounts import Role
from earmark_review.cli import app


@pytest.fixture
def elsewhere(house, ada, one_case):
    """Ada's second browser, in which she holds a case."""
    browser = house.browser("ada")
    assert browser.claim(one_case).status_code == 303
    assert browser.client.get(f"/cases/{one_case}/clip").status_code == 200
    return browser


def is_over(browser, case_id):
    """Nothing is shown, played, renewed or decided any more."""
    answers = [
        browser.client.get("/queue", headers={"accept": "application/json"}),
        browser.client.get(f"/cases/{case_id}/clip", headers={"accept": "*/*"}),
        browser.client.get(f"/cases/{case_id}/spectrogram.png", headers={"accept": "*/*"}),
        browser.act(case_id, "heartbeat", "x"),
        browser.act(case_id, "verdict", "x", verdict="distress"),
    ]
    return {answer.status_code for answer in answers} == {401}


def states(house):
    with house.service.database.reading() as conn:
        return conn.exec_driver_sql("SELECT state FROM cases").scalars().all()


def test_one_browser_signs_the_other_out_and_goes_on(house, ada, elsewhere, one_case):
    page = ada.client.get("/account")
    assert page.text.count("Sign out there") == 1
    assert ada.client.post("/account/sessions", data={"csrf": ada.csrf(), "session": "others"}).status_code == 303
    assert is_over(elsewhere, one_case)
    assert states(house) == ["ready"]
    assert ada.client.get("/queue").status_code == 200
    assert [house.actions()[-2], house.actions()[-1]] == ["lease.released", "session.ended"]
    assert "Sign out there" not in ada.client.get("/account").text


def test_a_single_session_is_ended_by_its_number_and_only_ones_own(house, ada, bea, elsewhere, one_case):
    with house.service.database.reading() as conn:
        rows = conn.exec_driver_sql("SELECT session_id, user_id FROM sessions ORDER BY session_id").all()
    theirs = next(session_id for session_id, user_id in rows if user_id == 2)
    hers = [session_id for session_id, user_id in rows if user_id == 1]
    for given in (str(theirs), "0", "99999", "x", "", "9" * 40, "-1"):
        assert ada.client.post("/account/sessions", data={"csrf": ada.csrf(), "session": given}).status_code == 422
    assert bea.client.get("/queue").status_code == 200
    assert ada.client.post("/account/sessions", data={"csrf": ada.csrf(), "session": str(hers[-1])}).status_code == 303
    assert is_over(elsewhere, one_case)


@pytest.mark.parametrize("command", ["sign-out", "disable"])
def test_the_operator_ends_every_session_at_once(house, ada, elsewhere, one_case, command):
    answer = CliRunner().invoke(app, ["user", command, "ADA", "--data", str(house.data)])
    assert answer.exit_code == 0, answer.output
    assert "2 sessions" in answer.output
    for browser in (ada, elsewhere):
        assert is_over(browser, one_case)
    assert states(house) == ["ready"]
    again = type(ada)(house.app).sign_in("ada")
    assert again.status_code == (303 if command == "sign-out" else 401)


def test_a_closed_account_is_opened_again_and_decided_cases_keep_its_name(house, ada, one_case):
    ada.decide(one_case)
    for command, code in (("disable", 0), ("disable", 1), ("enable", 0), ("enable", 1)):
        assert CliRunner().invoke(app, ["user", command, "ada", "--data", str(house.data)]).exit_code == code
    assert CliRunner().invoke(app, ["user", "sign-out", "eve", "--data", str(house.data)]).exit_code == 1
    browser = type(ada)(house.app)
    assert browser.sign_in("ada").status_code == 303
    assert "distress" in browser.client.get(f"/cases/{one_case}").text.lower()
    assert [entry.action for entry in house.log() if entry.action.startswith("user.")] == ["user.added", "user.disabled", "user.enabled"]


def test_another_password_ends_every_session_and_the_old_one_opens_nothing(house, ada, elsewhere, one_case):
    words = ["user", "password", "Ada", "--password-stdin", "--data", str(house.data)]
    assert "expected 8 to 256" in CliRunner().invoke(app, words, input="short\n").stderr
    assert not is_over(ada, one_case)
    answer = CliRunner().invoke(app, words, input="another long one\n")
    assert (answer.exit_code, "2 sessions" in answer.stdout) == (0, True), answer.output
    assert is_over(ada, one_case)
    assert is_over(elsewhere, one_case)
    assert states(house) == ["ready"]
    browser = type(ada)(house.app)
    assert [browser.sign_in("ada", password).status_code for password in (PASSWORD, "another long one")] == [401, 303]
    assert house.actions().count("user.password_set") == 1


def test_another_role_counts_at_once_and_for_one_signed_in_anew(house, ada, elsewhere, one_case):
    words = ["user", "role", "ada", "auditor", "--data", str(house.data)]
    answer = CliRunner().invoke(app, words)
    assert (answer.exit_code, "2 sessions" in answer.stdout) == (0, True), answer.output
    assert is_over(elsewhere, one_case)
    assert states(house) == ["ready"]
    again = house.browser("ada")
    assert (again.client.get("/log").status_code, again.claim(one_case).status_code) == (200, 403)
    [entry] = [entry for entry in house.log() if entry.action == "user.role_changed"]
    assert (entry.subject, entry.detail) == ("user:ada", {"from": "reviewer", "to": "auditor"})
    assert "is auditor already" in CliRunner().invoke(app, words).stderr
    assert CliRunner().invoke(app, ["user", "role", "eve", "senior", "--data", str(house.data)]).exit_code == 1
    assert CliRunner().invoke(app, ["user", "role", "ada", "device", "--data", str(house.data)]).exit_code == 2


def test_the_accounts_are_listed_with_no_word_of_their_passwords(house, ada):
    house.user("Bea", Role.SENIOR)
    CliRunner().invoke(app, ["user", "disable", "bea", "--data", str(house.data)])
    answer = CliRunner().invoke(app, ["user", "list", "--json", "--data", str(house.data)])
    found = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [(one["name"], one["role"], one["disabled_at"] is None) for one in found] == [
        ("ada", "reviewer", True),
        ("Bea", "senior", False),
    ]
    assert found[0]["last_seen_at"] == house.clock().isoformat()
    assert set(found[0]) == {"name", "role", "queues", "created_at", "last_seen_at", "disabled_at"}
    table = CliRunner().invoke(app, ["user", "list", "--data", str(house.data)]).stdout
    assert all(words in table for words in ("ada", "Bea", "senior", "never"))


def test_every_account_has_the_page_and_it_names_no_one_else(house):
    quinn = house.user("quinn")  # not ada, whom a token in hexadecimal may spell
    for role in (Role.AUDITOR, Role.PRIVACY_OFFICER, Role.SUPERVISOR):
        page = house.user(f"the {role}", role).client.get("/account")
        assert page.status_code == 200
        assert "quinn" not in page.text
    assert field_of(quinn.client.get("/account"), "csrf") == quinn.csrf()
