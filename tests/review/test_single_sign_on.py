"""Single sign-on against providers on the loopback address, and everything that it must not be taken in by."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey
from tests.review.callers import PASSWORD, Browser
from tests.review.provider import CLIENT_ID, CLIENT_SECRET, running_other_provider, running_provider

from earmark_review.accounts import Role
from earmark_review.errors import SettingsError
from earmark_review.settings import read_settings


@pytest.fixture
def provider():
    with running_provider() as started:
        yield started


@pytest.fixture
def sso(open_house, provider):
    knobs = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET, "oidc_name": "Example ID"}
    return open_house(origin="http://localhost", **knobs)


@pytest.fixture
def visitor(sso):
    """A browser that is not signed in, where ada has an account."""
    ada = sso.user("ada")
    return type(ada)(sso.app)


def through(browser, start, at_provider=httpx.get):
    """Follow a browser from our redirect over the provider back to our door; what it is answered there."""
    assert start.status_code == 303, start.text
    return back(browser, at_provider(start.headers["location"]).headers["location"])


def back(browser, address):
    parts = urlsplit(address)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "http://localhost/login/provider/back"
    return browser.client.get(f"{parts.path}?{parts.query}")


def sign_in(browser, to="/queue", at_provider=httpx.get):
    return through(browser, browser.client.get("/login/provider", params={"next": to}), at_provider)


def link(browser, password=PASSWORD, at_provider=httpx.get):
    page = browser.client.post("/account/identity", data={"csrf": browser.csrf(), "password": password})
    assert page.status_code == 200, page.text
    address = page.text.split('<a class="button" href="')[1].split('"')[0].replace("&amp;", "&")
    return back(browser, at_provider(address).headers["location"])


@pytest.fixture
def linked(sso, visitor):
    """Ada's identity is linked; a browser of hers that is not signed in."""
    assert link(sso.browser("ada")).headers["location"] == "/account"
    return visitor


def test_an_identity_is_linked_used_and_unlinked(sso, linked):
    assert "Sign in at Example ID" in linked.client.get("/login").text
    answer = sign_in(linked, "/decided")
    assert (answer.status_code, answer.headers["location"]) == (303, "/decided")
    assert "ada" in linked.client.get("/queue").text
    assert [entry.detail["by"] for entry in sso.log() if entry.action == "session.started"][-1] == "provider"
    assert "Linked to http://127.0.0.1" in linked.client.get("/account").text
    form = {"csrf": linked.csrf(), "issuer": sso.service.settings.oidc_issuer}
    assert linked.client.post("/account/identity/remove", data=form).status_code == 303
    assert sign_in(type(linked)(sso.app)).status_code == 401
    assert [entry.action for entry in sso.log() if entry.action.startswith("identity.")] == ["identity.linked", "identity.unlinked"]


def test_the_request_has_state_nonce_and_a_challenge_and_asks_for_no_address(provider, visitor):
    for _ in range(2):
        sign_in(visitor)
    first, second = provider.asked
    assert first["scope"] == "openid"
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name]) >= 43
        assert first[name] != second[name]
    cookie = visitor.client.get("/login/provider").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert first["state"] not in cookie
    assert first["nonce"] not in cookie


@pytest.mark.parametrize(
    "claims", [{"email": "ada", "email_verified": False}, {"email": "ada@x.example", "email_verified": True, "name": "ada"}]
)
def test_an_address_or_a_name_links_nobody(provider, visitor, claims):
    provider.claims = {**claims, "preferred_username": "ada"}
    answer = sign_in(visitor)
    assert answer.status_code == 401
    assert "linked to this identity" in answer.text
    assert "earmark_session" not in visitor.client.cookies


def test_roles_are_the_services_own(sso, provider, linked):
    provider.claims = {"role": "supervisor", "roles": ["supervisor"], "groups": ["supervisor", "auditor"]}
    assert sign_in(linked).status_code == 303
    assert linked.client.get("/log").status_code == 403
    with sso.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT role FROM users").scalars().all() == [Role.REVIEWER]


BENT = {
    "another issuer": {"iss": "http://127.0.0.1:1"},
    "another audience": {"aud": "another service"},
    "another party of two": {"aud": [CLIENT_ID, "another"], "azp": "another"},
    "another nonce": {"nonce": "replayed"},
    "no nonce": {"nonce": None},
    "run out": {"exp": 1_000_000_000},
    "no end": {"exp": None},
    "no subject": {"sub": None},
    "a subject that is none": {"sub": 7},
    "an empty subject": {"sub": ""},
    "made in the future": {"iat": 9_999_999_999},
}


@pytest.mark.parametrize("claims", BENT.values(), ids=BENT)
def test_a_word_that_does_not_hold_signs_nobody_in(sso, provider, linked, claims):
    provider.claims = claims
    answer = sign_in(linked)
    assert answer.status_code == 401
    assert "earmark_session" not in linked.client.cookies
    assert sso.log()[-1].action == "sign_in.refused"
    provider.claims = {}
    assert sign_in(linked).status_code == 303


def by_the_public_key(provider, code):
    """An HMAC whose key is the provider's public key, which everybody has: some libraries once took that (CVE-2015-9235)."""
    claims = {"iss": provider.issuer, "aud": CLIENT_ID, "sub": "subject-1", "nonce": provider.codes[code]["nonce"], "iat": time.time()}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "k1"}, claims | {"exp": time.time() + 300})]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    tag = hmac.new(provider.published.as_pem(private=False), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(tag).rstrip(b"=")).decode()


@pytest.mark.parametrize("forgery", ["another key", "unsigned", "by the public key"])
def test_a_forged_signature_signs_nobody_in(provider, linked, forgery):
    if forgery == "another key":
        provider.key = ECKey.generate_key("P-256", {"kid": "k1"})
    elif forgery == "unsigned":
        provider.token = lambda *_: {
            "access_token": "x",
            "token_type": "Bearer",
            "id_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdWJqZWN0LTEifQ.",
        }
    else:
        provider.token = lambda form, _: {
            "access_token": "x",
            "token_type": "Bearer",
            "id_token": by_the_public_key(provider, form["code"]),
        }
    assert sign_in(linked).status_code == 401


def test_an_answer_is_taken_once_by_the_browser_that_asked(sso, provider, linked):
    start = linked.client.get("/login/provider")
    address = httpx.get(start.headers["location"]).headers["location"]
    thief = type(linked)(sso.app)
    assert back(thief, address).status_code == 401  # the code alone
    other = thief.client.get("/login/provider")
    assert other.status_code == 303
    assert back(thief, address).status_code == 401  # another state than this browser's
    cookies = dict(linked.client.cookies)
    assert back(linked, address).status_code == 303
    replay = type(linked)(sso.app)
    replay.client.cookies.update(cookies)
    assert back(replay, address).status_code == 401


def test_an_answer_that_comes_late_is_none(linked, clock):
    start = linked.client.get("/login/provider")
    address = httpx.get(start.headers["location"]).headers["location"]
    clock.advance(601)
    assert back(linked, address).status_code == 401


def test_a_code_without_the_right_verifier_is_worth_nothing(sso, provider, linked):
    start = linked.client.get("/login/provider")
    address = httpx.get(start.headers["location"]).headers["location"]
    [code] = parse_qs(urlsplit(address).query)["code"]
    provider.codes[code]["code_challenge"] = "A" * 43
    assert back(linked, address).status_code == 401


def test_a_refusal_and_another_issuer_in_the_answer_are_told(provider, linked):
    provider.refusal = "access_denied"
    answer = sign_in(linked)
    assert (answer.status_code, "access_denied" in answer.text) == (401, True)
    provider.refusal = ""
    start = linked.client.get("/login/provider")
    address = httpx.get(start.headers["location"]).headers["location"]
    assert back(linked, address.replace("iss=http%3A%2F%2F127", "iss=http%3A%2F%2F128")).status_code == 401


def test_a_provider_that_is_away_or_another_is_told_and_the_password_works(sso, provider, linked):
    provider.is_down = True
    answer = linked.client.get("/login/provider")
    assert (answer.status_code, "sign in with your password" in answer.text) == (502, True)
    provider.is_down, provider.issuer_told = False, "http://127.0.0.1:1"
    assert linked.client.get("/login/provider").status_code == 502
    assert linked.sign_in("ada").status_code == 303


def test_linking_needs_the_password_and_the_same_account_all_the_way(sso, provider, visitor):
    ada, bea = sso.browser("ada"), sso.user("bea")
    assert ada.client.post("/account/identity", data={"csrf": ada.csrf(), "password": "wrong password"}).status_code == 401
    assert ada.client.post("/account/identity", data={"csrf": bea.csrf(), "password": PASSWORD}).status_code == 403
    page = ada.client.post("/account/identity", data={"csrf": ada.csrf(), "password": PASSWORD})
    address = page.text.split('<a class="button" href="')[1].split('"')[0].replace("&amp;", "&")
    arrived = httpx.get(address).headers["location"]
    ada.client.cookies.set("earmark_session", bea.client.cookies["earmark_session"], domain="review.test", path="/")
    assert back(ada, arrived).status_code == 401
    assert link(bea).status_code == 303
    assert link(sso.browser("ada")).status_code == 422  # the identity is bea's now
    provider.subject = "subject-2"
    assert link(bea).status_code == 422  # and bea has one there


def test_a_closed_account_is_not_let_in_by_its_identity(sso, linked):
    with sso.service.database.writing() as conn:
        conn.exec_driver_sql("UPDATE users SET disabled_at = '2026-01-01'")
    assert sign_in(linked).status_code == 401


def test_attempts_without_end_are_paused(open_house, provider):
    knobs = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET}
    house = open_house(origin="http://localhost", sign_in_failures=2, **knobs)
    browser = type(house.user("ada"))(house.app)
    answers = [browser.client.get("/login/provider/back", params={"state": "x", "code": "y"}).status_code for _ in range(3)]
    assert answers == [401, 401, 429]


@pytest.fixture(scope="module")
def other_provider():
    with running_other_provider() as issuer:
        yield issuer


def test_a_provider_that_others_wrote_is_understood(open_house, other_provider):
    words = {"redirect_uris": ["http://localhost/login/provider/back"]}
    registered = httpx.post(f"{other_provider}/oauth2/clients", json=words).json()
    knobs = {"oidc_issuer": other_provider, "oidc_client_id": registered["client_id"]}
    house = open_house(origin="http://localhost", oidc_client_secret=registered["client_secret"], **knobs)

    def there(**form):
        return lambda address: httpx.post(address, data=form)

    assert link(house.user("ada"), at_provider=there(sub="ada@there")).headers["location"] == "/account"
    browsers = [Browser(house.app) for _ in range(3)]
    assert sign_in(browsers[0], "/decided", there(sub="ada@there")).headers["location"] == "/decided"
    assert "ada" in browsers[0].client.get("/queue").text
    assert sign_in(browsers[1], at_provider=there(sub="somebody else")).status_code == 401
    assert sign_in(browsers[2], at_provider=there(action="deny")).status_code == 401

    other = open_house(origin="http://localhost", oidc_client_secret="not what was registered", **knobs)
    other.user("ada")
    answer = sign_in(Browser(other.app), at_provider=there(sub="ada@there"))
    assert (answer.status_code, "did not confirm the sign-in" in answer.text) == (401, True)


@pytest.mark.parametrize("target", ["//evil.test", "https://evil.test", "/\\evil.test"])
def test_nobody_is_led_to_another_site_afterwards(linked, target):
    assert sign_in(linked, target).headers["location"] == "/queue"


def test_it_is_off_unless_set_up(house):
    ada = house.user("ada")
    assert ada.client.get("/login/provider").status_code == ada.client.get("/login/provider/back").status_code == 404
    assert ada.client.post("/account/identity", data={"csrf": ada.csrf()}).status_code == 404
    assert "/login/provider" not in ada.client.get("/login").text


@pytest.mark.parametrize(
    "given",
    [
        {"oidc_issuer": "https://id.example"},
        {"oidc_client_secret": "x"},
        {"oidc_issuer": "http://id.example", "oidc_client_id": "a", "oidc_client_secret": "b"},
        {"oidc_issuer": "https://id.example?x", "oidc_client_id": "a", "oidc_client_secret": "b"},
    ],
)
def test_half_a_provider_is_refused_and_the_secret_is_never_repeated(given):
    with pytest.raises(SettingsError, match=r"single sign-on|oidc_issuer"):
        read_settings(origin="https://review.example", **given)
    assert "hidden words" not in repr(read_settings(oidc_issuer=None, data="x")) + repr(
        read_settings(
            origin="https://review.example", oidc_issuer="https://id.example", oidc_client_id="a", oidc_client_secret="hidden words"
        )
    )
