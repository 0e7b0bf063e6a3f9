"""What a reviewer keeps when the network, the session or another tab comes between: an answer half given, and the way back to it."""

from __future__ import annotations

# ruff: noqa: F401, F811 - imported fixtures
from tests.review.test_browser import PASSWORD, browser, claim_next, page, pytestmark, server, sign_in, two_cases, until


def answered(page, note="half a thought", key="1"):
    page.keyboard.press("n")
    page.keyboard.type(note)
    page.keyboard.press("Escape")
    page.keyboard.press(key)


def verdicts_in(server):
    with server.service.database.reading() as conn:
        return [tuple(row) for row in conn.exec_driver_sql("SELECT verdict, note FROM verdicts")]


def sign_everyone_out(server):
    with server.service.database.writing() as conn:
        conn.exec_driver_sql("UPDATE sessions SET ended_at = '2000-01-01 00:00:00.000000'")


def test_a_verdict_sent_without_a_network_stays_on_the_page_and_goes_when_it_is_back(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    answered(page)
    where = page.url
    page.context.set_offline(True)
    page.keyboard.press("d")
    page.get_by_text("The server cannot be reached").wait_for()
    assert page.url == where
    assert page.get_by_label("Note").input_value() == "half a thought"
    assert verdicts_in(server) == []
    page.context.set_offline(False)
    page.keyboard.press("d")
    page.get_by_text("is recorded").wait_for()
    assert verdicts_in(server) == [("distress", "half a thought")]


def test_a_verdict_that_the_server_cannot_take_now_stays_on_the_page(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    answered(page)
    page.route("**/verdict", lambda route: route.fulfill(status=503, content_type="application/json", body="{}"))
    page.keyboard.press("d")
    page.get_by_text("The server cannot be reached").wait_for()
    page.unroute("**/verdict")
    page.keyboard.press("d")
    page.get_by_text("is recorded").wait_for()
    assert verdicts_in(server) == [("distress", "half a thought")]


def test_a_skip_without_a_network_says_so_too(page, two_cases):
    sign_in(page)
    claim_next(page)
    page.context.set_offline(True)
    page.keyboard.press("s")
    page.get_by_text("The server cannot be reached").wait_for()
    page.context.set_offline(False)
    page.keyboard.press("s")
    page.get_by_text("is back in the queue").wait_for()


def test_a_claim_without_a_network_leaves_the_queue_where_it_is_and_goes_when_it_is_back(page, two_cases):
    sign_in(page)
    page.context.set_offline(True)
    page.keyboard.press("c")
    page.get_by_text("The server cannot be reached").wait_for()
    assert page.locator("[data-row]").all_inner_texts() == ["Scream", "Cry"]
    page.context.set_offline(False)
    claim_next(page)
    assert page.get_by_role("heading", name="Scream").is_visible()


def test_a_claim_on_a_cases_own_page_waits_for_the_network_too_and_so_does_taking_it_over(page, server, two_cases):
    sign_in(page)
    page.locator("[data-row]").last.click()
    page.get_by_role("button", name="Claim this case").wait_for()
    where = page.url
    page.wait_for_load_state("load")
    for name in ("Claim this case", "Go on here"):
        page.route("**/claim", lambda route: route.fulfill(status=503, content_type="application/json", body="{}"))
        page.get_by_role("button", name=name).click()
        page.get_by_text("The server cannot be reached").wait_for()
        assert page.url == where
        page.unroute("**/claim")
        claim_next(page)
        page.context.clear_cookies(name="earmark_lease")
        page.goto(where)


def test_a_claim_whose_answer_is_lost_on_the_way_is_gone_on_with(page, server, two_cases):
    sign_in(page)

    def lose_the_answer(route):
        route.fetch(max_redirects=0)
        route.abort("connectionreset")

    page.route("**/queue/next", lose_the_answer)
    page.keyboard.press("c")
    page.get_by_text("The server cannot be reached").wait_for()
    page.unroute("**/queue/next")
    page.context.clear_cookies(name="earmark_lease")  # came with the answer
    page.keyboard.press("c")
    page.get_by_role("heading", name="You hold this case already").wait_for()
    page.wait_for_load_state("load")
    claim_next(page)


def test_who_was_signed_out_before_a_claim_is_told_so(page, server, two_cases):
    sign_in(page)
    sign_everyone_out(server)
    page.keyboard.press("c")
    page.get_by_role("heading", name="You were signed out").wait_for()


def test_who_was_signed_out_in_the_middle_of_a_note_signs_in_and_goes_on(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    case_url = page.url
    answered(page, key="2")
    sign_everyone_out(server)
    page.keyboard.press("d")
    page.get_by_text("You were signed out.").wait_for()
    assert page.locator("audio").get_attribute("src") is None
    page.get_by_role("link", name="Sign in and go on").click()
    until(page, "document.activeElement?.id === 'name'")
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="You hold this case already").wait_for()
    page.wait_for_load_state("load")
    assert page.url == case_url
    assert page.get_by_text("Your claim on this case has ended").count() == 0
    claim_next(page)
    assert page.get_by_label("Note").input_value() == "half a thought"
    page.keyboard.press("d")
    page.get_by_text("is recorded").wait_for()
    assert verdicts_in(server) == [("play", "half a thought")]


def test_a_heartbeat_that_finds_the_session_ended_says_that_and_not_that_the_claim_ran_out(page, server, two_cases):
    sign_in(page)
    page.clock.install()
    claim_next(page)
    sign_everyone_out(server)
    page.clock.fast_forward(70_000)
    page.keyboard.press("Shift")
    page.clock.run_for(2_000)
    page.get_by_text("You were signed out.").wait_for()
    assert page.locator("[data-picture]").get_attribute("href") is None


def test_two_tabs_on_one_case_share_the_draft_and_the_second_verdict_says_what_became_of_the_first(page, server, two_cases):
    sign_in(page)
    claim_next(page)
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_label("Note").fill("from the other tab")
    other.get_by_role("radio", name="Other sound").check()
    until(page, "document.getElementById('note').value === 'from the other tab'")
    page.get_by_label("Note").fill("from the other tab, and this one")
    until(other, "document.getElementById('note').value === 'from the other tab, and this one'")
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    page.get_by_text("is recorded").wait_for()
    assert verdicts_in(server) == [("other_sound", "from the other tab, and this one")]
    other.get_by_role("button", name="Record verdict").click()
    other.get_by_text("You recorded a verdict under this claim already").wait_for()
    assert len(verdicts_in(server)) == 1


def test_a_note_tells_how_much_of_it_is_left_before_it_is_full(page, two_cases):
    sign_in(page)
    claim_next(page)
    page.get_by_label("Note").fill("x" * 3900)
    assert page.locator("[data-draft]").inner_text() == "100 characters left."
    page.get_by_label("Note").fill("x" * 4000)
    assert page.locator("[data-draft]").inner_text() == "The note is full."


def test_the_page_is_not_made_anew_under_the_hands_of_someone_who_writes(page, two_cases):
    sign_in(page)
    page.clock.install()
    claim_next(page)
    answer = '{"seconds_left": 300, "expires_at": "", "original": "open"}'  # as when a second person has agreed
    page.route("**/heartbeat", lambda route: route.fulfill(status=200, content_type="application/json", body=answer))
    page.evaluate("document.body.dataset.before = 'yes'")
    page.keyboard.press("n")
    with page.expect_response("**/heartbeat"):
        page.keyboard.type("s")
        page.clock.fast_forward(61_000)
        page.clock.run_for(1_000)
    page.keyboard.type("kids")
    page.wait_for_timeout(300)
    assert page.get_by_label("Note").input_value() == "skids"
    assert page.evaluate("document.body.dataset.before") == "yes"
    page.keyboard.press("Escape")
    with page.expect_navigation():
        page.clock.fast_forward(61_000)
        page.clock.run_for(1_000)
    assert page.get_by_label("Note").input_value() == "skids"
