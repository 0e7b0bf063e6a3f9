"""Passkeys in headless Chromium with a virtual authenticator, and what is refused."""

from __future__ import annotations

import json
import shutil
from urllib.parse import parse_qs, urlencode

import pytest
from argon2 import PasswordHasher
from tests.review.callers import PASSWORD, field_of
from tests.review.house import write_identity
from tests.review.test_browser import browser  # noqa: F401 - a fixture

from earmark_review import audit
from earmark_review.errors import SettingsError
from earmark_review.service import open_service
from earmark_review.settings import ReviewSettings, read_settings
from earmark_review.web.serving import listen, running

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs the program `chromium`, which is not installed")


def opened(tmp_path, **knobs):
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    write_identity(tmp_path / "data")
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    settings = {"origin": f"http://localhost:{port}", "passkeys": True, **knobs}
    service = open_service(ReviewSettings(data=tmp_path / "data", port=port, **settings), hasher=hasher)
    for name in ("ada", "bea"):
        service.add_user(name, PASSWORD)
    return service


@pytest.fixture
def server(tmp_path):
    service = opened(tmp_path)
    with running(service) as started:
        yield started
    service.close()


@pytest.fixture
def page(browser, server):  # noqa: F811 - the imported fixture
    context = browser.new_context(base_url=server.service.settings.origin)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.posted = []
    page.on("request", lambda request: page.posted.append((request.url, request.post_data)) if request.method == "POST" else None)
    page.devtools = context.new_cdp_session(page)
    page.devtools.send("WebAuthn.enable")
    page.authenticator = new_authenticator(page)
    yield page
    context.close()


def new_authenticator(page):
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    return page.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]


def sign_in_by_password(page, name="ada"):
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Queue").wait_for()


def register(page, password=PASSWORD, name="my laptop"):
    page.goto("/account")
    page.get_by_label("Name of the new passkey").fill(name)
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Add a passkey").click()


def sign_out(page):
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.get_by_role("heading", name="Sign in").wait_for()


def actions(server):
    with server.service.database.reading() as conn:
        return audit.read(conn)


def fetch(page, path, body):
    """As a script of the page would send it; the status and what came."""
    script = """async ([path, body]) => {
      const headers = { "content-type": "application/x-www-form-urlencoded", accept: "application/json" };
      const answer = await fetch(path, { method: "POST", body, headers });
      return [answer.status, await answer.text()];
    }"""
    return tuple(page.evaluate(script, [path, body]))


@needs_chromium
def test_a_passkey_is_registered_used_and_removed(page, server):
    sign_in_by_password(page)
    register(page, "not my password")
    page.get_by_text("do not belong together").wait_for()
    register(page)
    page.get_by_role("rowheader", name="my laptop").wait_for()
    sign_out(page)
    page.goto("/login?next=/decided")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_role("heading", name="Decided", exact=True).wait_for()
    assert page.locator(".who-name").inner_text() == "ada"
    started = [entry.detail["by"] for entry in actions(server) if entry.action == "session.started"]
    assert started == ["password", "passkey"]
    page.goto("/account")
    page.get_by_role("button", name="Remove the passkey my laptop").click()
    page.get_by_text("None yet").wait_for()
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_text("no account here has this passkey").wait_for()
    assert [entry.action for entry in actions(server)][-1] == "sign_in.refused"


@needs_chromium
def test_an_answer_is_worth_something_once_and_to_one_challenge(page, server):
    sign_in_by_password(page)
    register(page)
    page.get_by_role("rowheader", name="my laptop").wait_for()
    sign_out(page)
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_role("heading", name="Queue").wait_for()
    [(_, used)] = [(url, body) for url, body in page.posted if url.endswith("/login/passkey")]
    credential = parse_qs(used)["credential"][0]
    sign_out(page)
    csrf = page.locator("input[name=csrf]").get_attribute("value")
    assert fetch(page, "/login/passkey", urlencode({"csrf": csrf, "credential": credential}))[0] == 401  # nothing was asked
    assert fetch(page, "/login/passkey/options", urlencode({"csrf": csrf}))[0] == 200
    assert fetch(page, "/login/passkey", urlencode({"csrf": csrf, "credential": credential}))[0] == 401  # another was
    with server.service.database.writing() as conn:  # a copy's count does not rise
        conn.exec_driver_sql("UPDATE passkeys SET sign_count = 1000")
    page.reload()
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_text("does not answer as it should").wait_for()


@needs_chromium
def test_a_closed_account_and_an_owner_who_was_not_asked_are_refused(page, server):
    sign_in_by_password(page)
    register(page)
    page.get_by_role("rowheader", name="my laptop").wait_for()
    sign_out(page)
    page.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": page.authenticator, "isUserVerified": False})
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_text("No passkey was used").wait_for()
    page.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": page.authenticator, "isUserVerified": True})
    with server.service.database.writing() as conn:
        conn.exec_driver_sql("UPDATE users SET disabled_at = '2026-01-01' WHERE name = 'ada'")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_text("no account here has this passkey").wait_for()


GARBAGE = [
    "",
    "{}",
    "[]",
    "null",
    "not json",
    '{"rawId": 5}',
    '{"rawId": "AAAA"}',
    json.dumps({"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {"clientDataJSON": "AAAA", "attestationObject": "AAAA"}}),
    json.dumps({"id": "é", "rawId": "é", "type": "x", "response": None}),
]


@pytest.fixture
def keyed(open_house):
    return open_house(origin="https://review.test", passkeys=True)


@pytest.mark.parametrize("credential", GARBAGE)
def test_what_is_no_passkey_is_refused_and_never_a_crash(keyed, credential):
    ada = keyed.user("ada")
    csrf = {"csrf": ada.csrf()}
    ada.client.headers["accept"] = "application/json"
    assert ada.client.post("/account/passkeys/options", data={**csrf, "password": PASSWORD}).status_code == 200
    assert ada.client.post("/account/passkeys", data={**csrf, "name": "key", "credential": credential}).status_code == 422
    visitor = type(ada)(keyed.app)
    visitor.client.headers["accept"] = "application/json"
    given = {"csrf": field_of(visitor.client.get("/login"), "csrf")}
    assert visitor.client.post("/login/passkey/options", data=given).status_code == 200
    assert visitor.client.post("/login/passkey", data={**given, "credential": credential}).status_code == 401


def test_guesses_at_passkeys_are_paused(open_house):
    house = open_house(origin="https://review.test", passkeys=True, sign_in_failures=2)
    visitor = type(house.user("ada"))(house.app)
    given = {"csrf": field_of(visitor.client.get("/login"), "csrf"), "credential": "{}"}
    assert [visitor.client.post("/login/passkey", data=given).status_code for _ in range(3)] == [401, 401, 429]


@pytest.mark.parametrize("path", ["/login/passkey/options", "/login/passkey", "/account/passkeys/options", "/account/passkeys"])
def test_passkeys_are_off_unless_set_up_and_no_form_from_elsewhere_counts(house, keyed, path):
    off, on = house.user("ada"), keyed.user("ada")
    assert off.client.post(path, data={"csrf": off.csrf()}).status_code == 404
    assert on.client.post(path, data={"csrf": "guessed"}).status_code == 403
    assert "passkey" not in off.client.get("/account").text.lower() + type(off)(house.app).client.get("/login").text.lower()


def test_nobody_removes_anothers_passkey(keyed):
    ada, bea = keyed.user("ada"), keyed.user("bea")
    with keyed.service.database.writing() as conn:
        conn.exec_driver_sql("INSERT INTO passkeys VALUES (1, 1, 'hers', x'01', x'02', 0, '2026-01-01', NULL)")
    assert bea.client.post("/account/passkeys/remove", data={"csrf": bea.csrf(), "passkey": "1"}).status_code == 422
    assert ada.client.post("/account/passkeys/remove", data={"csrf": ada.csrf(), "passkey": "1"}).status_code == 303


@pytest.mark.parametrize(
    "origin",
    [
        "http://review.example",
        "https://review.example/",
        "https://review.example/x",
        "review.example",
        "ftp://x",
        "https://a@b.example",
        "",
    ],
)
def test_an_origin_that_is_none_is_refused(origin):
    with pytest.raises(SettingsError, match="origin"):
        read_settings(origin=origin)


def test_passkeys_without_an_origin_are_refused():
    with pytest.raises(SettingsError, match="EARMARK_REVIEW_ORIGIN"):
        read_settings(passkeys=True)
