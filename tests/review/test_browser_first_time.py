"""What someone meets who sits here for the first time: times of their own place, keys that can be read at a glance."""

from __future__ import annotations

# ruff: noqa: F401, F811 - imported fixtures
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select
from tests.review.test_browser import browser, claim_next, page, pytestmark, server, sign_in, two_cases, until

from earmark_review.store.schema import exposures, users


def have_had_an_hour(server):
    ended = datetime.now(UTC) - timedelta(minutes=1)
    with server.service.database.writing() as conn:
        [user_id] = conn.scalars(select(users.c.user_id))
        conn.execute(insert(exposures).values(user_id=user_id, lease_id=0, began_at=ended - timedelta(hours=1), ended_at=ended))


def test_a_break_says_when_it_ends_on_the_readers_own_clock_too(browser, server, two_cases):
    context = browser.new_context(base_url=server.url, timezone_id="Asia/Kathmandu")  # 5 h 45 min ahead
    page = context.new_page()
    sign_in(page)
    have_had_an_hour(server)
    for where in ("/queue", "/you"):
        page.goto(where)
        until(page, "document.querySelector('time[data-moment]')?.innerText.endsWith('here)')")
        told = page.locator("time[data-moment]")
        hours, minutes = map(int, told.inner_text()[:5].split(":"))
        there = (60 * hours + minutes + 345) % 1440
        assert told.inner_text() == f"{hours:02}:{minutes:02} UTC ({there // 60:02}:{there % 60:02} here)"
    context.close()


def test_a_reader_in_utc_is_told_the_time_once(browser, server, two_cases):
    context = browser.new_context(base_url=server.url, timezone_id="UTC")
    page = context.new_page()
    sign_in(page)
    have_had_an_hour(server)
    page.goto("/you")
    page.wait_for_load_state("load")
    assert page.locator("time[data-moment]").inner_text().endswith(" UTC")
    context.close()


def test_the_keys_of_a_case_are_all_seen_at_once_and_begin_at_the_top(page, two_cases):
    sign_in(page)
    claim_next(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    assert page.evaluate("(() => { const d = document.getElementById('keys'); return d.scrollHeight - d.clientHeight })()") <= 0
    page.set_viewport_size({"width": 390, "height": 700})
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.evaluate("document.getElementById('keys').scrollTop") == 0
    assert dialog.get_by_role("heading").is_visible()
