from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from earmark_model.contract import Reason
from earmark_review import audit
from earmark_review.accounts import Role
from earmark_review.web.rendering import age_words, length_words

UNVERIFIED = "Unverified thresholds"


def words(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_queue_goes_by_severity_then_age(sender, ada, clock, make_sending):
    for number, label in enumerate(("laughter", "cry", "scream", "baby_cry", "scream", "cry")):
        sender.send(make_sending(f"event-{number}", label))
        clock.advance(60)
    page = ada.client.get("/queue").text
    labels = re.findall(r"data-row>([^<]+)<", page)
    assert labels == ["Scream", "Scream", "Baby cry", "Cry", "Cry", "Laughter"]
    ages = re.findall(r'<time [^>]+">([^<]+)</time>', page)
    assert ages == ["4 min", "2 min", "3 min", "5 min", "1 min", "6 min"]


def test_a_row_tells_what_when_why_and_who(sender, ada, bea, one_case, clock):
    bea.claim(one_case)
    clock.advance(3 * 3600 - 10_700)
    row = words(ada.client.get("/queue").text)
    for word in ("Highest", "Scream", "0.90", "above its threshold", "0.4 s", "1 min", "Held by bea", one_case[:8], "kitchen"):
        assert word in row, word
    assert "Held by you" in words(bea.client.get("/queue").text)


def test_a_row_says_when_its_time_is_running_out_and_the_cases_page_how_much_is_left(house, ada, one_case, clock):
    assert "Time left 3 d" in words(ada.client.get(f"/cases/{one_case}").text)
    clock.advance(48 * 3600)
    ada = house.browser("ada")
    assert " left" not in words(ada.client.get("/queue").text)
    clock.advance(1)
    assert "2 d 23 h left" in words(ada.client.get("/queue").text)


def test_severity_is_told_in_words_and_shapes(sender, ada, make_sending):
    for label in ("scream", "baby_cry", "cry", "shout"):
        sender.send(make_sending(label, label))
    page = ada.client.get("/queue").text
    marks = re.findall(r'<span class="severity[^>]*>(.*?)</span></span>', page)
    told = [(mark.count('class="on"'), re.sub(r"<[^>]+>", "", mark)) for mark in marks]
    assert told == [(4, "Highest"), (3, "High"), (2, "Raised"), (1, "Other")]


def test_a_case_without_its_clip_is_shown_and_cannot_be_claimed(sender, ada, make_sending):
    sender.post(make_sending().payload)
    [case_id] = ada.case_ids()
    assert "Waiting for its clip" in ada.client.get("/queue").text
    refused = ada.claim(case_id)
    assert refused.status_code == 409
    assert "has not arrived" in refused.text


def test_an_empty_queue_is_calm(ada):
    page = ada.client.get("/queue").text
    assert "All quiet" in page
    assert "Claim the next case" not in page


def test_the_next_case_is_the_first_ready_one(sender, ada, bea, clock, make_sending):
    for number, label in enumerate(("cry", "scream", "scream")):
        sender.send(make_sending(f"event-{number}", label))
        clock.advance(1)
    order = ada.case_ids()
    for browser, expected in ((ada, order[0]), (bea, order[1])):
        answer = browser.client.post("/queue/next", data={"csrf": browser.csrf()})
        assert answer.headers["location"] == f"/cases/{expected}"


def test_who_holds_a_case_goes_on_with_it(house, sender, ada, one_case, make_sending):
    sender.send(make_sending("event-2"))
    ada.claim(one_case)
    assert "Go on with your case" in ada.client.get("/queue").text
    answer = ada.client.post("/queue/next", data={"csrf": ada.csrf()})
    assert answer.headers["location"] == f"/cases/{one_case}"
    assert house.actions().count("case.claimed") == 1


def test_a_skipped_case_comes_last_for_whoever_skipped_it(sender, ada, bea, clock, make_sending):
    for number, label in enumerate(("scream", "cry")):
        sender.send(make_sending(f"event-{number}", label))
        clock.advance(1)
    first, second = ada.case_ids()
    ada.claim(first)
    assert ada.act(first, "skip", ada.lease_of(first)).headers["location"] == f"/queue?skipped={first}"
    assert ada.client.post("/queue/next", data={"csrf": ada.csrf()}).headers["location"] == f"/cases/{second}"
    assert bea.client.post("/queue/next", data={"csrf": bea.csrf()}).headers["location"] == f"/cases/{first}"


def test_with_nothing_ready_the_next_case_is_the_queue(ada):
    assert ada.client.post("/queue/next", data={"csrf": ada.csrf()}).headers["location"] == "/queue"


def test_a_decided_case_moves_from_the_queue_to_the_decided(ada, one_case):
    ada.decide(one_case, "other_sound")
    assert ada.case_ids() == []
    assert ada.case_ids("/decided") == [one_case]
    page = words(ada.client.get("/decided").text)
    assert "Other sound" in page
    assert "you" in page


def test_the_latest_verdict_is_listed_first(sender, ada, clock, make_sending):
    for number in range(3):
        sender.send(make_sending(f"event-{number}"))
        clock.advance(1)
    order = ada.case_ids()
    for case_id in order:
        ada.decide(case_id)
        clock.advance(1)
    assert ada.case_ids("/decided") == order[::-1]


def test_a_long_queue_has_pages(sender, ada, make_sending):
    for number in range(101):
        sender.post(make_sending(f"event-{number}", clips=()).payload)
    first, second = ada.case_ids("/queue"), ada.case_ids("/queue?page=2")
    assert (len(first), len(second), len({*first, *second})) == (100, 1, 101)
    assert "Page 2 of 2" in ada.client.get("/queue?page=2").text


@pytest.mark.parametrize("path", ["/login", "/queue", "/decided", "/cases/{case}", "/cases/nothing", "/nothing"])
def test_unverified_decisions_are_told_on_every_screen(house, sender, ada, make_sending, path):
    sender.send(make_sending("verified"))
    [case_id] = ada.case_ids()
    target = path.format(case=case_id)
    assert UNVERIFIED not in ada.client.get(target).text
    sender.send(make_sending("unverified", "cry", Reason.ROUTED_UNVERIFIED))
    assert UNVERIFIED in ada.client.get(target).text


def test_the_warning_ends_when_no_case_and_no_device_is_unverified_any_more(sender, ada, make_sending):
    sender.send(make_sending("old", "scream", Reason.ROUTED_UNVERIFIED))
    [case_id] = ada.case_ids()
    ada.decide(case_id)
    assert UNVERIFIED in ada.client.get("/queue").text  # it is the last that the device sent
    sender.send(make_sending("new"))
    assert UNVERIFIED not in ada.client.get("/queue").text


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "under 1 min"), (59, "under 1 min"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_799, "47 h"), (172_800, "2 d")],
)
def test_ages_are_told_in_one_unit(clock, seconds, age):
    then = clock()
    clock.advance(seconds)
    assert age_words(then, clock()) == age


@pytest.mark.parametrize(
    ("seconds", "length"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 0 s"), (61.4, "1 min 1 s"), (125, "2 min 5 s")]
)
def test_lengths_are_told_to_a_tenth_and_never_as_sixty_seconds(seconds, length):
    assert length_words(seconds) == length


def test_the_log_is_read_back_to_its_first_entry_page_by_page(house):
    with house.service.database.writing() as conn:
        for _ in range(230):
            audit.append(conn, house.clock(), "operator", audit.Action.LOG_READ, "log")
    auditor = house.user("aud", Role.AUDITOR)
    seen, where = [], "/log"
    while where:
        page = auditor.client.get(where).text
        seen += [int(seq) for seq in re.findall(r'data-head="Entry" class="number">(\d+)<', page)]
        earlier = re.search(r'href="(/log\?before=\d+)"', page)
        where = earlier and earlier[1]
        assert len(seen) < 1000
    assert seen == list(range(seen[0], 0, -1))
    assert seen[0] > 230


def test_the_log_leaves_out_what_an_entry_has_nothing_of(house, ada, one_case):
    ada.decide(one_case)
    page = words(house.user("aud", Role.AUDITOR).client.get("/log").text)
    assert "verdict distress" in page
    assert "None" not in page


def test_figures_of_nothing_say_so_and_draw_no_share(house):
    page = house.user("sue", Role.SUPERVISOR).client.get("/figures").text
    assert "No case is closed yet" in words(page)
    assert "0 of 0" not in page


def test_a_role_is_told_in_words(house):
    refused = house.user("pia", Role.PRIVACY_OFFICER).client.get("/figures")
    assert "The role privacy officer cannot" in refused.text


@pytest.mark.parametrize("bound", ["after", "before"])
def test_the_log_refuses_a_number_that_no_entry_can_have(house, bound):
    auditor = house.user("aud", Role.AUDITOR)
    assert auditor.client.get(f"/log?{bound}={2**31}").status_code == 422
    assert auditor.client.get(f"/log?{bound}={2**31 - 1}").status_code == 200


def test_a_page_past_the_end_says_so_and_not_that_nothing_waits(ada, one_case):
    assert "The list ends before page 9" in ada.client.get("/queue?page=9").text
    assert "All quiet" not in ada.client.get("/queue?page=9").text
    ada.decide(one_case)
    assert "The list ends before page 9" in ada.client.get("/decided?page=9").text
    assert "All quiet" in ada.client.get("/queue?page=9").text


def test_pages_look_through_the_open_cases_once_and_then_at_what_came_since(house, sender, ada, clock, make_sending):
    sender.send(make_sending("verified", "cry"))
    asked = []
    event.listen(house.service.database._engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    def asks():
        return sum("FROM devices" in one and "EXISTS" in one for one in asked)

    ada.client.get("/decided")
    assert asks() == 1
    ada.client.get("/decided")
    assert asks() == 1
    sender.send(make_sending("also verified", "cry"))
    assert UNVERIFIED not in ada.client.get("/decided").text
    assert asks() == 1
    clock.advance(61)
    ada.client.get("/decided")
    assert asks() == 2
    sender.send(make_sending("unverified", "cry", Reason.ROUTED_UNVERIFIED))
    assert UNVERIFIED in ada.client.get("/decided").text
