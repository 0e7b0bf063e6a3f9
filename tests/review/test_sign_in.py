from __future__ import annotations

import pytest

from earmark_review.accounts import Role
from earmark_review.errors import SettingsError
from earmark_review.tokens import csrf_token


@pytest.fixture
def visitor(house, ada):
    """A browser that is not signed in, at a server where ada has an account."""
    return type(ada)(house.app)


def test_a_stranger_is_led_to_sign_in_and_back(house, visitor, one_case):
    answer = visitor.client.get(f"/cases/{one_case}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next=/cases/{one_case}")
    page = visitor.client.get(answer.headers["location"])
    assert f'name="next" value="/cases/{one_case}"' in page.text


@pytest.mark.parametrize("spelling", ["ada", "Ada", " ADA "])
def test_the_right_password_opens_a_session_in_whatever_spelling_of_the_name(visitor, spelling):
    answer = visitor.sign_in(spelling)
    assert (answer.status_code, answer.headers["location"]) == (303, "/queue")
    assert visitor.client.get("/queue").status_code == 200


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong password"), ("ada", ""), ("eve", "wrong password"), ("", "")])
def test_anything_else_does_not_and_the_answers_are_alike(house, visitor, name, password):
    answer = visitor.sign_in(name, password)
    assert answer.status_code == 401
    assert "do not belong together" in answer.text
    assert "earmark_session" not in visitor.client.cookies
    assert house.log()[-1].action == "sign_in.refused"
    assert password not in str(house.log()[-1]) or not password


def test_a_mistyped_name_which_may_be_a_password_stays_out_of_the_log(house, visitor):
    visitor.sign_in("MySecretPassword", "x")
    assert "mysecretpassword" not in str(house.log()).lower()


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor):
    cookies = visitor.sign_in("ada").headers.get_list("set-cookie")
    [session] = [cookie for cookie in cookies if cookie.startswith("earmark_session=")]
    assert "HttpOnly" in session
    assert "SameSite=lax" in session
    assert "Secure" not in session


def test_over_https_cookies_are_secure_and_transport_is_pinned(visitor):
    visitor.client.base_url = "https://review.test"
    answer = visitor.sign_in("ada")
    assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie") if "Max-Age=0" not in cookie)
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_only_a_hash_of_the_token_is_stored(house, visitor):
    visitor.sign_in("ada")
    token = visitor.client.cookies["earmark_session"]
    house.service.close()
    stored = b"".join(path.read_bytes() for path in house.data.iterdir() if path.is_file())
    assert token.encode() not in stored
    house.open()


def test_passwords_are_argon2id_hashes(house, ada):
    with house.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT password_hash FROM users").scalar().startswith("$argon2id$")


def test_each_sign_in_gets_a_session_of_its_own_and_ignores_a_planted_one(house, visitor):
    visitor.client.cookies.set("earmark_session", "planted", domain="review.test", path="/")
    visitor.sign_in("ada")
    first = visitor.client.cookies.get("earmark_session", domain="review.test")
    second = house.browser("ada").client.cookies["earmark_session"]
    assert len({"planted", first, second}) == 3


def test_signing_out_ends_the_session_on_the_server(house, ada):
    stolen = ada.client.cookies["earmark_session"]
    assert ada.client.post("/logout", data={"csrf": ada.csrf()}).headers["location"] == "/login"
    ada.client.cookies.set("earmark_session", stolen, domain="review.test", path="/")
    assert ada.client.get("/queue").status_code == 303
    assert house.actions()[-1] == "session.ended"


def test_an_idle_session_ends(open_house, clock):
    ada = open_house(session_idle_s=600).user("ada")
    for _ in range(3):
        clock.advance(599)
        assert ada.client.get("/queue").status_code == 200
    clock.advance(660)
    assert ada.client.get("/queue").status_code == 303


def test_a_page_that_refreshes_itself_does_not_keep_a_session_awake(open_house, clock):
    ada = open_house(session_idle_s=600).user("ada")
    for _ in range(2):
        clock.advance(250)
        assert ada.client.get("/queue", headers={"x-earmark-background": "1"}).status_code == 200
    clock.advance(101)
    assert ada.client.get("/queue", headers={"x-earmark-background": "1"}).status_code == 303


def test_a_session_ends_at_its_limit_however_busy(open_house, clock):
    ada = open_house(session_idle_s=600, session_s=1000).user("ada")
    clock.advance(599)
    assert ada.client.get("/queue").status_code == 200
    clock.advance(402)
    assert ada.client.get("/queue").status_code == 303


def test_after_some_failures_even_the_right_password_waits(open_house, clock):
    house = open_house(sign_in_failures=3, sign_in_window_s=600)
    house.user("ada")
    visitor = house.browser("ada")
    visitor.client.cookies.clear()
    for _ in range(3):
        assert visitor.sign_in("ada", "wrong password").status_code == 401
    paused = visitor.sign_in("ada")
    assert paused.status_code == 429
    assert int(paused.headers["retry-after"]) == 600
    assert "sign-in is paused" in paused.text.lower()
    visitor.sign_in("ada", "wrong password")
    alerts = [entry for entry in house.log() if entry.is_alert]
    assert [(entry.action, entry.subject, entry.detail) for entry in alerts] == [("sign_in.paused", "user:ada", {"address": "192.0.2.1"})]
    clock.advance(601)
    assert visitor.sign_in("ada").status_code == 303


def test_failures_elsewhere_do_not_lock_the_owner_out(open_house):
    house = open_house(sign_in_failures=2)
    ada = house.user("ada")
    far = type(ada)(house.app, address="198.51.100.9")
    for _ in range(2):
        far.sign_in("ada", "wrong password")
    assert far.sign_in("ada").status_code == 429
    assert type(ada)(house.app).sign_in("ada").status_code == 303


def test_one_address_cannot_try_name_after_name(open_house):
    house = open_house(sign_in_failures=2)
    visitor = type(house.user("ada"))(house.app)
    statuses = [visitor.sign_in(f"guess {i}", "wrong password").status_code for i in range(13)]
    assert statuses == [401] * 12 + [429]
    assert [(entry.action, entry.subject) for entry in house.log() if entry.is_alert] == [("sign_in.paused", "user:?")]


def test_many_addresses_cannot_try_one_name_for_ever(open_house):
    house = open_house(sign_in_failures=1)
    browser = type(house.user("ada"))
    statuses = [browser(house.app, address=f"198.51.100.{i}").sign_in("ada", "wrong password").status_code for i in range(9)]
    assert statuses == [401] * 6 + [429] * 3
    assert [(entry.action, entry.subject) for entry in house.log() if entry.is_alert] == [("sign_in.paused", "user:ada")]


def test_success_is_not_counted_as_failure(open_house):
    house = open_house(sign_in_failures=1)
    house.user("ada")
    for _ in range(4):
        house.browser("ada")


@pytest.mark.parametrize("token", ["", "wrong", csrf_token("")])
@pytest.mark.parametrize("cookie", [None, ""])
def test_a_sign_in_form_from_elsewhere_is_refused(visitor, token, cookie):
    if cookie is not None:
        visitor.client.cookies.set("earmark_login", cookie, domain="review.test", path="/login")
    form = {"csrf": token, "name": "ada", "password": "long enough for a test"}
    answer = visitor.client.post("/login", data=form)
    assert answer.status_code == 403
    assert "earmark_session" not in visitor.client.cookies


@pytest.mark.parametrize(
    "target", ["//evil.test", "https://evil.test", "/\\evil.test", "evil", "/a\\b", "/\n/evil.test", "javascript:alert(1)"]
)
def test_sign_in_never_leads_to_another_site(visitor, target):
    page = visitor.client.get("/login", params={"next": target})
    assert 'name="next" value="/queue"' in page.text


def test_an_auditor_reads_and_does_not_touch(house, sender, make_sending):
    auditor = house.user("una", Role.AUDITOR)
    sender.send(make_sending())
    [case_id] = auditor.case_ids()
    assert "Claim this" not in auditor.client.get(f"/cases/{case_id}").text
    for path in (f"/cases/{case_id}/claim", "/queue/next"):
        assert auditor.client.post(path, data={"csrf": auditor.csrf()}).status_code == 403
    assert auditor.client.get("/log").status_code == 200


def test_a_reviewer_does_not_read_the_log_and_reading_it_is_logged(house, ada):
    refused = ada.client.get("/log")
    assert refused.status_code == 403
    assert "supervisor or auditor" in refused.text
    supervisor = house.user("sue", Role.SUPERVISOR)
    assert "user.added" in supervisor.client.get("/log").text
    assert (house.log()[-1].action, house.log()[-1].actor) == ("log.read", "user:sue")


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\nb", "<b>", "../x", "-ada", "a\x00"])
def test_an_unfit_name_is_refused(house, name):
    with pytest.raises(SettingsError, match="user name"):
        house.service.add_user(name, "long enough for a test")


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_an_unfit_password_is_refused_without_being_repeated(house, password):
    with pytest.raises(SettingsError, match=f"has {len(password)} characters") as refused:
        house.service.add_user("ada", password)
    assert not password or password not in str(refused.value)


def test_a_name_is_taken_in_every_spelling(house, ada):
    with pytest.raises(SettingsError, match="already"):
        house.service.add_user("ADA", "long enough for a test")
