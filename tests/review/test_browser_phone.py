"""The verdict's form on a phone: in reach from the first look on, and in nothing's way."""

from __future__ import annotations

# ruff: noqa: F401, F811 - imported fixtures
import pytest
from tests.review.test_browser import browser, check_screen, claim_next, page, pytestmark, server, sign_in, two_cases, until
from tests.review.test_browser_interrupted import verdicts_in

PHONE = {"width": 390, "height": 844}
SMALL = {"width": 360, "height": 640}
SEEN = """(one) => {
    const box = one.getBoundingClientRect();
    const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return box.height > 0 && there !== null && (one.closest('label') ?? one).contains(there);
}"""
"""Whether an element's middle is on the screen with nothing over it."""


@pytest.fixture(params=[PHONE, SMALL], ids=["phone", "small phone"])
def held(page, two_cases, request):
    """A case that was just claimed on a phone."""
    page.set_viewport_size(request.param)
    sign_in(page)
    claim_next(page)
    return page


def test_a_verdict_is_given_without_scrolling(held, server):
    controls = held.locator("[data-verdict] input[type=radio], [data-verdict] .actions button")
    assert controls.count() == 8
    assert all(controls.evaluate_all(f"(all) => all.map({SEEN})"))
    held.get_by_role("radio", name="Tantrum").check()
    held.get_by_role("button", name="Record verdict").click()
    held.get_by_text("is recorded").wait_for()
    assert held.evaluate("scrollY") == 0
    assert verdicts_in(server) == [("play", "")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_folded_or_not_the_form_is_named_and_read_and_what_has_the_focus_is_not_behind_it(held, scheme):
    held.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for is_open in (False, True):
        held.evaluate(f"document.querySelector('[data-more]').open = {str(is_open).lower()}")
        check_screen(held, held.viewport_size["width"])
        held.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        stops = []
        while True:
            held.keyboard.press("Tab")
            if held.evaluate("document.activeElement === document.body"):
                break
            stops.append(
                (held.evaluate("document.activeElement.outerHTML.slice(0, 80)"), held.evaluate(f"({SEEN})(document.activeElement)"))
            )
        assert len(stops) > 15
        assert [stop for stop, is_seen in stops if not is_seen] == []


def test_the_end_of_the_page_is_not_behind_the_form(held):
    top, bottom = (f"document.querySelector('{name}').getBoundingClientRect()" for name in (".decision", ".event-details"))
    is_free = f"scrollTo(0, document.documentElement.scrollHeight), {top}.top >= {bottom}.bottom"
    until(held, is_free)
    held.locator("[data-more] summary").click()
    until(held, is_free)


def test_what_is_folded_away_unfolds_when_it_is_wanted(held):
    note = held.get_by_label("Note")
    assert not note.is_visible()
    held.keyboard.press("n")
    held.keyboard.type("a thought")
    assert note.input_value() == "a thought"
    assert held.evaluate(f"({SEEN})(document.activeElement)")
    held.reload()
    assert note.input_value() == "a thought"
    assert note.is_visible()


def test_a_span_that_cannot_be_is_shown_where_it_was_folded_away(held, server):
    held.locator("[data-more] summary").click()
    held.locator("[data-span-from]").fill("0.9")
    held.locator("[data-span-to]").fill("0.2")
    held.locator("[data-more] summary").click()
    held.get_by_role("radio", name="Tantrum").check()
    held.get_by_role("button", name="Record verdict").click()
    until(held, "document.activeElement.matches('[data-span-to]')")
    assert verdicts_in(server) == []


def test_on_a_phone_held_sideways_the_form_stands_beside_the_pictures(page, two_cases):
    page.set_viewport_size({"width": 844, "height": 390})
    sign_in(page)
    claim_next(page)
    page.evaluate("scrollTo(0, 600)")
    form, pictures = (page.locator(name).bounding_box() for name in (".decision", ".stack"))
    assert form["x"] >= pictures["x"] + pictures["width"]
    assert form["y"] >= 0
    assert form["y"] + form["height"] <= 390
    check_screen(page, 844)
