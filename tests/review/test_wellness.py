from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_review.accounts import Role
from earmark_review.settings import read_settings
from earmark_review.wellness import Limits, exposure

HOUSE = Limits(day_s=5 * 3600, run_s=3600, break_s=600)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes(*spans):
    """Claims that began and ended so many minutes before noon."""
    return [(NOON - timedelta(minutes=begin), NOON - timedelta(minutes=end)) for begin, end in spans]


@pytest.mark.parametrize(
    ("spans", "run_min", "rest_min"),
    [
        ([], 0, None),
        ([(59, 0)], 59, None),
        ([(60, 0)], 60, 10),
        ([(65, 5)], 60, 5),
        ([(80, 50), (45, 15), (14, 13)], 61, None),  # a minute, after 13 of rest
        ([(70, 40), (30, 0)], 30, None),  # ten minutes between are a break
        ([(70, 40), (31, 0)], 61, 10),  # nine are none
        ([(40, 0), (40, 0)], 40, None),  # two windows at once count once
    ],
)
def test_a_break_is_due_after_an_hour_without_one(spans, run_min, rest_min):
    had = exposure(minutes(*spans), HOUSE, NOON)
    if spans and spans[-1][1] >= 10:
        run_min, rest_min = 0, None
    assert had.run_s == pytest.approx(60 * run_min)
    assert had.rest_until == (None if rest_min is None else NOON + timedelta(minutes=rest_min))


def test_after_five_hours_the_day_is_over_until_midnight():
    spans = minutes(*[(begin, begin - 50) for begin in range(420, 0, -70)])  # six times 50 minutes
    had = exposure(spans, HOUSE, NOON)
    assert (had.today_s, had.is_day_over) == (5 * 3600, True)
    assert had.rest_until == datetime(2026, 3, 2, tzinfo=UTC)
    assert not exposure(spans, HOUSE, NOON + timedelta(hours=12)).is_day_over


SPANS = st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 120)), max_size=20)


@given(SPANS, st.floats(60, 18_000), st.floats(60, 3600))
def test_nobody_goes_on_past_a_limit_and_own_limits_only_narrow(spans, day_s, run_s):
    claims = [(NOON - timedelta(minutes=begin), NOON - timedelta(minutes=max(0, begin - length))) for begin, length in spans]
    had, narrower = exposure(claims, HOUSE, NOON), exposure(claims, HOUSE.lowered(day_s, run_s), NOON)
    for one, limits in ((had, HOUSE), (narrower, HOUSE.lowered(day_s, run_s))):
        assert (one.left_s > 0) is (one.rest_until is None)
        assert one.today_s + one.left_s <= max(limits.day_s, one.today_s) + 1e-6
        assert one.run_s + one.left_s <= max(limits.run_s, one.run_s) + 1e-6
    assert narrower.left_s <= had.left_s


def work(browser, clock, case_id, seconds):
    """Hold a case for so long, with a heartbeat each minute."""
    assert browser.claim(case_id).status_code == 303
    token = browser.lease_of(case_id)
    while seconds > 0:
        clock.advance(min(60, seconds))
        seconds -= 60
        answer = browser.act(case_id, "heartbeat", token)
        if answer.status_code != 200:
            return answer.status_code
    return browser.act(case_id, "skip", token).status_code


def test_the_server_ends_the_claim_when_the_hour_is_over_and_gives_none_before_the_break_is(open_house, make_sending, clock):
    house = open_house(lease_limit_s=10 * 3600, session_idle_s=12 * 3600)
    house.device().send(make_sending(masked=True))
    ada = house.user("ada")
    [case_id] = ada.case_ids()
    assert work(ada, clock, case_id, 3 * 3600) == 409
    clock.advance(1)
    for answer in (ada.claim(case_id), ada.client.post("/queue/next", data={"csrf": ada.csrf()})):
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) <= 600
        assert "Time to rest" in answer.text
    assert "Time for a break" in ada.client.get("/queue").text
    clock.advance(600)
    assert ada.claim(case_id).status_code == 303


def test_a_deletion_gives_nobody_more_hours(house, ada, one_case, clock):
    assert work(ada, clock, one_case, 1200) == 303
    house.service.delete_event("kitchen", "event-1")
    assert "20</span> of 300 min" in ada.client.get("/you").text


def test_ones_own_time_is_ones_own(house, ada, one_case, clock):
    work(ada, clock, one_case, 600)
    assert "10</span> of 300 min" in ada.client.get("/you").text
    sam = house.user("sam", Role.SUPERVISOR)
    assert "0</span> of 300 min" in sam.client.get("/you?user=ada").text


def limit(browser, day, run):
    return browser.client.post("/you", data={"csrf": browser.csrf(), "day_min": day, "run_min": run})


def test_ones_own_limits_go_down_at_once_and_up_tomorrow_and_never_above_the_houses(house, ada, clock):
    assert limit(ada, "120", "30").status_code == 303
    assert "of 120 min" in ada.client.get("/you").text
    limit(ada, "200", "30")
    assert "of 120 min" in ada.client.get("/you").text
    for wider in (("301", "30"), ("100", "61"), ("0", "1"), ("x", "1"), ("nan", "1"), ("inf", "1")):
        assert limit(ada, *wider).status_code == 422
    clock.advance(5 * 3600)
    ada = house.browser("ada")
    assert "of 200 min" in ada.client.get("/you").text


@pytest.mark.parametrize("knob", [{"day_s": 5 * 3600 + 1}, {"run_s": 3601}, {"break_s": 60}])
def test_the_house_cannot_widen_the_limits_either(knob):
    with pytest.raises(ValueError, match=next(iter(knob)).upper()):
        read_settings(**knob)
