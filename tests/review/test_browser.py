"""One reviewer's work in a real browser, by keyboard alone."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher
from tests.review.callers import Browser
from tests.review.house import enrolled, write_identity
from tests.review.sendings import signature_field, wrapped_field

from earmark_model.contract import Reason
from earmark_review.accounts import Role
from earmark_review.service import open_service
from earmark_review.settings import ReviewSettings
from earmark_review.web.app import create_app
from earmark_review.web.serving import running

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PASSWORD = "long enough for a test"

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program `chromium`, which is not installed")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def server(tmp_path):
    write_identity(tmp_path / "data")
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    service = open_service(ReviewSettings(data=tmp_path / "data", port=0, second_review_share=0), hasher=hasher)
    service.add_user("ada", PASSWORD)
    with running(service) as started:
        yield started
    service.close()


@pytest.fixture
def page(browser, server):
    context = browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    requested = []
    opened.on("request", lambda request: requested.append(request.url))
    opened.complaints, opened.requested = complaints, requested
    yield opened
    context.close()


def send(server, one, token, device="kitchen"):
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json", **signature_field(one.payload, device=device)}
    answers = [httpx.post(f"{server.url}/api/v1/events", content=one.payload, headers=headers)]
    for tier, payload in one.objects.items():
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(payload).digest()).decode()}:"
        url = f"{server.url}/api/v1/events/{one.event.event_id}/clips/{tier}"
        given = {"authorization": f"Bearer {token}", "content-digest": digest, **wrapped_field(payload)}
        answers.append(httpx.put(url, content=payload, headers=given))
    assert [answer.status_code for answer in answers] == [201] * (1 + len(one.objects))


@pytest.fixture
def two_cases(server, make_sending):
    token = enrolled(server.service)
    for event_id, label in (("event-1", "cry"), ("event-2", "scream")):
        send(server, make_sending(event_id, label, Reason.ROUTED_UNVERIFIED, masked=True, pictured=True), token)


def sign_in(page, name="ada"):
    page.goto("/queue")
    until(page, "document.activeElement.id === 'name'")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Queue").wait_for()
    page.wait_for_load_state("load")


def claim_next(page):
    page.keyboard.press("c")
    page.get_by_role("heading", name="Your verdict").wait_for()
    page.wait_for_load_state("load")


def until(page, condition):
    """Wait for a condition; playwright's own way needs `eval` inside the page, which our policy forbids."""
    for _ in range(400):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


def test_a_reviewer_works_the_queue_by_keyboard_alone(page, server, two_cases):
    sign_in(page)
    assert page.locator("[data-row]").all_inner_texts() == ["Scream", "Cry"]
    claim_next(page)
    assert page.get_by_role("heading", name="Scream").is_visible()
    assert page.evaluate("document.querySelector('audio').muted && document.querySelector('audio').paused")
    assert not any(url.endswith("/clip") for url in page.requested)

    page.keyboard.press("p")
    until(page, "document.querySelector('audio').currentTime > 0.1")
    assert page.evaluate("document.querySelector('audio').volume") == pytest.approx(0.15)
    assert not page.evaluate("document.querySelector('audio').muted")
    until(page, "parseFloat(document.querySelector('[data-playhead]').getAttribute('x1')) > 5")

    page.keyboard.press("n")
    page.keyboard.type("a child, p and d are only letters here")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    assert page.get_by_role("radio", name="Confirmed").is_checked()
    page.keyboard.press("d")
    page.get_by_text("is recorded").wait_for()
    assert page.locator("[data-row]").all_inner_texts() == ["Cry"]
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.includes('draft'))") == []

    with server.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT verdict, note FROM verdicts").one() == ("distress", "a child, p and d are only letters here")
        actions = conn.exec_driver_sql("SELECT action FROM audit_log").scalars().all()
    for action in ("case.claimed", "case.viewed", "evidence.served", "case.decided"):
        assert action in actions
    assert page.complaints == []
    assert all(url.startswith(server.url) for url in page.requested)


def test_the_keys_of_a_page_are_shown_and_can_be_switched_off(page, two_cases):
    sign_in(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    assert "Claim the next case" in dialog.inner_text()
    assert "Next row" in dialog.inner_text()
    dialog.get_by_label("Listen to single keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('[data-row]')") is False
    page.keyboard.press("?")
    dialog.get_by_label("Listen to single keys").check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('[data-row]')") is True
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Claim it to look and listen").wait_for()
    assert page.complaints == []


def test_the_queue_shows_a_new_case_by_itself_and_keeps_the_focus(page, server, two_cases, make_sending):
    page.clock.install()
    sign_in(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    token = enrolled(server.service, "nursery")
    send(server, make_sending("event-3", "baby_cry", device="nursery"), token, "nursery")
    page.clock.fast_forward(21_000)
    page.get_by_role("link", name="Baby cry").wait_for()
    assert page.locator("[data-row]").all_inner_texts() == ["Scream", "Baby cry", "Cry"]
    assert page.evaluate("document.activeElement.innerText") == "Cry"
    assert "3 open cases" in page.locator("[data-announce]").inner_text()
    claim_next(page)
    assert page.complaints == []


def test_a_lost_claim_is_told_and_the_note_comes_back(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    case_url = page.url
    page.keyboard.press("n")
    page.keyboard.type("half a thought")
    with server.service.database.writing() as conn:
        conn.exec_driver_sql("UPDATE leases SET expires_at = '2000-01-01 00:00:00.000000'")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    page.keyboard.press("d")
    page.get_by_role("heading", name="Your claim has ended").wait_for()
    page.get_by_role("link", name="See where the case stands").click()
    page.get_by_role("button", name="Claim this case").wait_for()
    assert page.url == case_url
    page.wait_for_load_state("load")
    claim_next(page)
    assert page.get_by_label("Note").input_value() == "half a thought"
    assert page.get_by_text("Your draft is back").is_visible()


def test_a_claim_that_runs_out_while_one_looks_takes_the_evidence_away(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    page.route("**/heartbeat", lambda route: route.fulfill(status=409, content_type="application/json", body="{}"))
    page.clock.install()
    page.reload()
    page.clock.fast_forward(70_000)
    page.keyboard.press("Shift")
    page.clock.run_for(2_000)
    page.locator("[data-lost]").wait_for()
    assert page.locator("[data-picture]").get_attribute("href") is None
    assert page.evaluate("document.querySelector('audio').hasAttribute('src')") is False
    assert page.evaluate("document.querySelector('[data-verdict] fieldset').inert")


def test_every_screen_fits_and_can_be_read(page, server, two_cases):
    page.goto("/login")
    check_every_way(page)
    sign_in(page)
    check_every_way(page)
    page.keyboard.press("?")
    check_every_way(page)
    page.keyboard.press("Escape")
    claim_next(page)
    check_every_way(page)
    page.get_by_label("Other sound").click()
    page.get_by_role("button", name="Record verdict").click()
    page.get_by_text("is recorded").wait_for()
    page.goto("/decided")
    check_every_way(page)
    page.goto(f"/cases/{32 * '0'}")
    check_every_way(page)


def test_nothing_moves_for_whoever_wants_no_motion(page, two_cases):
    sign_in(page)
    claim_next(page)
    moving = "[...document.querySelectorAll('*')].filter((one) => parseFloat(getComputedStyle(one).transitionDuration) > 0).length"
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0


def test_tab_goes_through_a_case_as_it_is_read_and_the_focus_is_seen(page, two_cases):
    sign_in(page)
    claim_next(page)
    told = """(() => {
        const one = document.activeElement, box = one.getBoundingClientRect(), style = getComputedStyle(one.closest('label.choice') ?? one);
        return {name: (one.labels?.[0]?.innerText || one.innerText || one.ariaLabel || '').trim().split('\\n')[0],
                isSeen: style.outlineStyle !== 'none' && box.bottom > 0 && box.top < innerHeight, isPage: one === document.body};
    })()"""
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(told)
        if stop["isPage"]:
            break
        stops.append(stop)
    names = [stop["name"] for stop in stops]
    assert [stop for stop in stops if not stop["isSeen"]] == []
    order = [
        "Skip to",
        "Earmark",
        "Queue",
        "Sign out",
        "Colour",
        "Play",
        "Loop",
        "Position in",
        "Ask for",
        "Confirmed",
        "Note",
        "Record",
        "Skip",
        "Event",
    ]
    places = []
    for word in order:
        after = places[-1] + 1 if places else 0
        places.append(next(i for i, name in enumerate(names) if i >= after and name.startswith(word)))
    assert places[0] == 0


def test_two_people_at_one_case_one_wins_and_the_other_keeps_their_draft(page, browser, server, two_cases):
    server.service.add_user("bea", PASSWORD)
    context = browser.new_context(base_url=server.url)
    other = context.new_page()
    other.set_default_timeout(20_000)
    sign_in(page)
    sign_in(other, "bea")
    for one in (page, other):
        one.keyboard.press("j")
        one.keyboard.press("Enter")
        one.get_by_role("button", name="Claim this case").wait_for()
    claim_next(page)
    other.keyboard.press("c")
    other.get_by_role("heading", name="This case cannot be claimed now").wait_for()
    other.get_by_role("link", name="See where the case stands").click()
    other.get_by_text("ada holds this case").wait_for()
    page.keyboard.press("n")
    page.keyboard.type("mine")
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    with server.service.database.writing() as conn:
        conn.exec_driver_sql("UPDATE leases SET expires_at = '2000-01-01 00:00:00.000000'")
    other.reload()
    claim_next(other)
    page.keyboard.press("d")
    page.get_by_role("heading", name="Your claim has ended").wait_for()
    page.get_by_role("link", name="See where the case stands").click()
    page.get_by_text("bea holds this case").wait_for()
    drafts = "Object.entries(localStorage).filter(([key]) => key.includes('draft')).map(([, kept]) => JSON.parse(kept))"
    [kept] = page.evaluate(drafts)
    assert (kept["note"], kept["verdict"]) == ("mine", "media")
    other.keyboard.press("2")
    other.keyboard.press("d")
    other.get_by_text("is recorded").wait_for()
    with server.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT verdict FROM verdicts").scalars().all() == ["play"]
    context.close()


def test_an_answer_half_given_outlives_a_reload(page, two_cases):
    sign_in(page)
    claim_next(page)
    page.keyboard.press("n")
    page.keyboard.type("half a thought")
    page.keyboard.press("Escape")
    page.keyboard.press("4")
    page.locator("[data-span-from]").fill("0.3")
    page.reload()
    page.get_by_text("Your draft is back").wait_for()
    assert page.get_by_label("Note").input_value() == "half a thought"
    assert page.get_by_role("radio", name="Other sound").is_checked()
    assert (page.locator("[data-span-from]").input_value(), page.locator("[data-span-to]").input_value()) == ("0.3", "0.60")
    assert page.locator("rect.span").first.get_attribute("x") == "30%"


def test_the_devices_picture_is_there_and_can_be_coloured(page, two_cases):
    sign_in(page)
    claim_next(page)
    ink = "getComputedStyle(document.querySelector('[data-bands] path')).fill"
    grey = page.evaluate(ink)
    assert len(set(re.findall(r"\d+", grey)[:3])) <= 3
    assert page.locator(".panel-bands [data-playhead]").count() == 1
    page.keyboard.press("g")
    assert page.evaluate(ink) != grey
    page.keyboard.press("g")
    assert page.evaluate(ink) == grey


def test_an_original_is_opened_by_two_people_in_two_browsers(browser, server, two_cases):
    server.service.add_user("sam", PASSWORD, Role.SUPERVISOR)
    contexts = [browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 844}) for _ in range(2)]
    page, other = (context.new_page() for context in contexts)
    for one in (page, other):
        one.set_default_timeout(20_000)
    sign_in(page)
    sign_in(other, "sam")
    claim_next(page)
    assert page.locator("audio[data-audio]").get_attribute("src").endswith("/clip")
    page.keyboard.press("o")
    until(page, "document.querySelector('details.glass').open")
    page.get_by_label("Why the masked sound is not enough").fill("a voice may be saying a name")
    check_every_way(page)
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("This page opens it when a second person has agreed").wait_for()
    other.goto("/queue")
    other.get_by_role("link", name="Answer").click()
    check_every_way(other)
    other.get_by_role("button", name="Open it for").click()
    other.get_by_role("heading", name="Nothing to answer").wait_for()
    page.get_by_text("The original is open until").wait_for()
    assert page.locator("audio[data-audio]").get_attribute("src").endswith("/original")
    check_every_way(page)
    page.keyboard.press("p")
    until(page, "document.querySelector('audio').currentTime > 0.1")
    for context in contexts:
        context.close()


def test_every_page_of_a_supervisor_fits_and_can_be_read(page, server, two_cases):
    server.service.add_user("bea", PASSWORD)
    server.service.add_user("sam", PASSWORD, Role.SUPERVISOR)
    app = create_app(server.service)
    for name, verdict in (("ada", "cannot_tell"), ("bea", "play"), ("sam", "media")):  # two looks, and a dispute
        person = Browser(app)
        person.sign_in(name)
        assert all(person.decide(case_id, verdict).status_code == 303 for case_id in person.case_ids())
    sign_in(page, "sam")
    for where in ("/you", "/log", "/figures", "/devices", "/devices/1", "/account"):
        page.goto(where)
        page.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
        check_every_way(page)
        if where == "/figures":
            assert page.locator("table.stacked").count() == 3
            page.set_viewport_size({"width": 390, "height": 844})
            cut = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth).length"
            assert page.evaluate(cut) == 0  # nothing has to be pushed sideways to be read


def test_a_span_is_corrected_by_dragging_and_by_keys(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    box = page.locator(".panel-scores [data-plot]").bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20, steps=5)
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 20, steps=5)
    page.mouse.up()
    onset, offset = page.locator("[data-span-from]"), page.locator("[data-span-to]")
    assert [float(field.input_value()) for field in (onset, offset)] == [pytest.approx(0.25, abs=0.02), pytest.approx(0.75, abs=0.02)]
    page.locator("[data-seek]").fill("0.4")
    page.locator("h1").click()
    page.keyboard.press("[")
    assert onset.input_value() == "0.40"
    page.locator("[data-seek]").fill("0.6")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("]")
    assert offset.input_value() == "0.60"
    assert page.locator("rect.span").first.get_attribute("x") == "40%"
    page.keyboard.press("1")
    page.keyboard.press("d")
    page.get_by_text("is recorded").wait_for()
    with server.service.database.reading() as conn:
        spans = conn.exec_driver_sql("SELECT onset_s, offset_s FROM verdicts").one()
    assert tuple(spans) == (pytest.approx(10.4), pytest.approx(10.6))
    assert page.complaints == []


CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()


def check_every_way(page):
    """A page at both widths, light and dark, in place."""
    for scheme in ("light", "dark"):
        for width in (390, 1280):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colour half-way
            page.set_viewport_size({"width": width, "height": 844})
            check_screen(page, width)


def check_screen(page, width):
    """Nothing wider than the screen, every control named, every text at least 4.5 to 1 against its ground (WCAG 2.2, 1.4.3)."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, a, input:not([type=hidden]), textarea')]"
        ".filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).map((one) => one.outerHTML)"
    )
    assert unnamed == []
    measured = page.evaluate(CONTRASTS)
    assert len(measured) > 5
    assert [one for one in measured if one["ratio"] < 4.5] == []
    assert page.locator("h1").count() == 1
    report = axe.Axe().run(page, options={"resultTypes": ["violations"]})
    assert report.response["violations"] == [], report.generate_report()
    assert re.search(r"· Earmark$", page.title())
