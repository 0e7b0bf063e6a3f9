from __future__ import annotations

import html
import inspect
import json
import re

import pytest
from bench import security_headers

from earmark_review import errors
from earmark_review.accounts import Role
from earmark_review.tokens import csrf_token
from earmark_review.web.problems import STATUSES

HOSTILE = """</textarea><script>alert(1)</script><img src=x onerror="alert('2')">{{ 7*7 }} =cmd|' /C calc'!A0 \u202e"""
FORM = {"content-type": "application/x-www-form-urlencoded"}


def test_what_a_reviewer_writes_stays_text(ada, bea, one_case):
    ada.decide(one_case, "media", HOSTILE)
    page = bea.client.get(f"/cases/{one_case}").text
    [shown] = re.findall(r"<blockquote>(.*?)</blockquote>", page, re.DOTALL)
    assert html.unescape(shown) == HOSTILE
    assert "<" not in shown
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "49 " not in page


def test_what_a_device_writes_stays_text(house, sender, make_sending):
    aud = house.user("aud", Role.AUDITOR)
    hostile = "<script>alert(1)</script>"
    house.consent(consent_id=hostile)
    sender.send(make_sending(event_id=hostile.replace("/", "|"), boot_id=hostile, consent_id=hostile))
    [case_id] = aud.case_ids()
    page = aud.client.get(f"/cases/{case_id}").text
    assert html.escape(hostile) in page
    assert hostile not in page


def test_control_signs_in_a_note_are_replaced_and_lines_kept(house, ada, one_case):
    ada.decide(one_case, "cannot_tell", "a\x00b\x1bc\nd\te")
    with house.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT note FROM verdicts").scalar() == "a\ufffdb\ufffdc\nd\te"


@pytest.mark.parametrize("path", ["/login", "/queue", "/decided", "/cases/{case}", "/nothing"])
def test_no_page_holds_anything_inline_or_from_elsewhere(ada, one_case, path):
    ada.claim(one_case)
    page = ada.client.get(path.format(case=one_case))
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:", page.text)
    addresses = re.findall(r'(?:src|href|action)="([^"]+)"', page.text)
    assert addresses
    assert all(re.match(r"/(?!/)|#", address) for address in addresses)


def test_every_asset_that_a_page_names_is_there(ada, one_case):
    ada.claim(one_case)
    pages = "".join(ada.client.get(path).text for path in ("/queue", f"/cases/{one_case}"))
    assets = set(re.findall(r'"(/static/[^"]+)"', pages))
    assert len(assets) >= 5
    scripts = {ada.client.get(asset).text for asset in assets if asset.endswith(".js")}
    assets |= set(re.findall(r'"(/static/[^"]+)"', "".join(scripts)))
    for asset in assets:
        answer = ada.client.get(asset)
        assert answer.status_code == 200, asset
        assert "http://" not in answer.text.replace("http://www.w3.org/", "")
        assert "https://" not in answer.text


@pytest.mark.parametrize("path", ["/queue", "/static/earmark.css", "/api/v1/events", "/cases/x", "/nothing", "/healthz", "/readyz"])
def test_every_answer_carries_the_security_headers(ada, path):
    headers = ada.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "content-security-policy" in headers
    assert headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert "server" not in headers


def test_the_headers_that_the_docs_tell_are_those_that_every_page_sends():
    told, asked = security_headers.PAGE.read_text(encoding="utf-8"), dict(security_headers.answers())
    assert len(asked) > 15
    for path, answer in asked.items():
        for name in security_headers.SAID:
            assert f"| `{name}` | `{answer.headers[name]}` |" in told, (path, name)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/v1/docs"])
def test_no_page_of_documentation_loads_scripts_from_elsewhere(ada, path):
    assert ada.client.get(path).status_code == 404


def test_the_wire_is_described(ada):
    described = ada.client.get("/api/v1/openapi.json").json()
    paths = (
        "events",
        "events/{event_id}/clips/{tier}",
        "events/{event_id}/dropped",
        "enrolments",
        "heartbeat",
        "consent",
        "policy",
        "bundle",
        "bundles/{version}/{name}",
        "statuses",
    )
    assert set(described["paths"]) == {f"/api/v1/{path}" for path in paths}


@pytest.mark.parametrize(
    "path", ["/logout", "/queue/next", "/cases/{case}/claim", "/cases/{case}/heartbeat", "/cases/{case}/skip", "/cases/{case}/verdict"]
)
def test_a_form_from_another_session_or_none_does_nothing(house, ada, bea, one_case, path):
    ada.claim(one_case)
    lease, before = ada.lease_of(one_case), house.actions()
    for token in ("", "wrong", "é", bea.csrf(), csrf_token("")):
        form = {"csrf": token, "lease": lease, "verdict": "distress"}
        refused = ada.client.post(path.format(case=one_case), data=form)
        assert refused.status_code == 403
        assert "out of date" in refused.text
    assert house.actions() == before


def test_pages_carry_the_token_that_their_forms_need(ada, one_case):
    for path in ("/queue", f"/cases/{one_case}"):
        assert f'name="csrf" value="{ada.csrf()}"' in ada.client.get(path).text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2fsettings.py",
        "/static/%2e%2e%2f%2e%2e%2fcli.py",
        "/static//etc/passwd",
        "/static/..\\settings.py",
        "/cases/..%2f..%2fetc%2fpasswd",
        "/cases/../queue%00",
        "/cases/%00",
        "/cases/" + "0" * 31,
        "/cases/" + "0" * 32 + "/clip",
        "/cases/" + "A" * 32,
    ],
)
def test_no_path_leads_out_of_the_house(ada, path):
    answer = ada.client.get(path)
    assert answer.status_code in {404, 409}
    assert "pydantic" not in answer.text
    assert "root:" not in answer.text


def test_an_oversized_form_is_refused(open_house):
    house = open_house(form_bytes_cap=2048)
    ada = house.user("ada")
    for path in ("/login", "/queue/next"):
        assert ada.client.post(path, content=b"note=" + b"x" * 2048, headers=FORM).status_code == 413


def test_an_oversized_form_without_a_length_is_refused(open_house):
    house = open_house(form_bytes_cap=2048)
    ada = house.user("ada")
    request = ada.client.build_request("POST", "/login", content=b"note=" + b"x" * 4096, headers=FORM)
    del request.headers["content-length"]
    assert ada.client.send(request).status_code == 413


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=b", "text/plain", 415),
        (b"", "", 415),
        (b"--x", "multipart/form-data; boundary=x", 415),
        (b"\xff=\xff", FORM["content-type"], 422),
        (b"a=%ff", FORM["content-type"], 422),
        (b"&".join(b"f%d=1" % i for i in range(50)), FORM["content-type"], 422),
    ],
)
def test_what_is_no_form_is_refused(ada, content, kind, status):
    answer = ada.client.post("/queue/next", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert "Traceback" not in answer.text


def test_programs_get_problem_documents_and_people_get_pages(ada, one_case):
    for accept, kind in (("text/html", "text/html"), ("application/json", "application/problem+json"), ("*/*", "application/problem+json")):
        answer = ada.client.get("/cases/nothing", headers={"accept": accept})
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/events", 405), ("GET", "/api/v1/none", 404), ("DELETE", "/api/v1/events/x/clips/3", 405)],
)
def test_the_frameworks_own_refusals_are_problems_too(sender, method, path, status):
    answer = sender.client.request(method, path, headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert set(answer.json()) == {"type", "title", "status", "detail", "instance"}


def test_a_defect_is_a_problem_without_a_traceback(house, sender, make_sending, monkeypatch):
    monkeypatch.setattr("earmark_review.web.device_api.take_event", lambda *_: 1 / 0)
    answer = sender.post(make_sending().payload)
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:earmark:problem:defect"
    assert "ZeroDivisionError" not in answer.text


def test_a_locked_database_is_unavailable_not_broken(house, sender, make_sending, monkeypatch):
    with house.service.database.writing():
        monkeypatch.setattr("earmark_review.store.engines.BUSY_TIMEOUT_MS", 1)
        house.service.database._engine.dispose()
        answer = sender.post(make_sending().payload)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert sender.post(make_sending().payload).status_code == 201


def test_every_refusal_that_a_request_can_meet_has_a_status():
    never_met = {errors.ReviewError, errors.SettingsError, errors.DatabaseError, errors.AnchorError}
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ReviewError)}
    assert len(kinds) > 20
    assert set(STATUSES) == kinds - never_met


@pytest.mark.parametrize("version", [0, -1, 10**30])
def test_no_number_in_an_address_is_too_large_for_the_database(sender, version):
    assert sender.client.get(f"/api/v1/bundles/{version}/model.onnx").status_code in {404, 422}


def test_a_problem_survives_whatever_was_sent(sender):
    answer = sender.client.get("/api/v1/%ff%00<script>")
    assert answer.status_code == 404
    json.loads(answer.content)
