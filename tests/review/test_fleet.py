from __future__ import annotations

import re

import pytest

from earmark_review.accounts import Role
from earmark_review.store.devices import revoke_device
from earmark_review.store.fleet import fleet
from earmark_review.store.service_figures import exposition


@pytest.fixture
def sam(house):
    return house.user("sam", Role.SUPERVISOR).client


def standings(house):
    with house.service.database.reading() as conn:
        return {one.device.name: one for one in fleet(conn, house.clock())}


def test_a_device_in_order_has_no_troubles(house, sender, clock, sam):
    sender.beat(sent_at="2026-03-01T19:55:01+00:00")  # which is within what a slow way or a small drift makes
    assert standings(house)["kitchen"].troubles == []
    assert "1 device, none in trouble" in sam.get("/devices").text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"canary": "missed"}, "missed its canary"),
        ({"next_seq": 3}, "3 possibly lost"),
        ({"set_aside": 2}, "2 refused here"),
        ({"sent_at": "2026-03-01T20:05:00+00:00"}, "clock 5 min ahead"),
        ({"sent_at": "2026-03-01T17:00:01+00:00"}, "clock 2 h behind"),
        ({"sent_at": "1970-01-01T00:00:00+00:00"}, "clock 20513 days behind"),
        ({"dropped_objects": 4}, "4 clips dropped for want of space"),
    ],
)
def test_every_trouble_is_told_on_both_pages(house, sender, clock, sam, changes, words):
    sender.beat(**changes)
    assert standings(house)["kitchen"].troubles == [words]
    for where in ("/devices", "/devices/1", "/figures"):
        assert f'<span class="alert-word">{words}</span>' in sam.get(where).text


def test_a_device_that_says_nothing_for_an_hour_is_silent(house, sender, clock):
    sender.beat()
    clock.advance(3599)
    assert standings(house)["kitchen"].troubles == []
    clock.advance(3600)
    assert standings(house)["kitchen"].troubles == ["silent"]


def test_possible_loss_is_what_never_came_less_what_still_waits_there(house, sender, clock, sam, make_sending):
    sender.post(make_sending("event-1", seq=0, clips=()).payload)
    sender.post(make_sending("event-2", seq=5, clips=()).payload)
    sender.beat(next_seq=8, waiting_events=2)
    assert standings(house)["kitchen"].lost == 4  # 1 to 4, 6 and 7 never came; two of them wait
    page = sam.get("/devices/1").text
    [row] = re.findall(r'<tr><th scope="row" class="id breaks">boot-1</th>(.*?)</tr>', page)
    assert re.sub(r"<[^>]+>", " ", row).split()[:3] == ["6", "2", "4"]
    assert "2 in all, at most 2 a day" in page


def test_canaries_that_newly_went_unheard_are_counted_once_each(house, sender, clock, sam):
    for canary in ("missed", "missed", "passed", "missed"):
        sender.beat(canary=canary)
        clock.advance(60)
    page = sam.get("/devices/1").text
    assert "2 times a canary newly went unheard" in page
    assert "2026-03-01 20:03:00 UTC" in page


DAY_S = 86_400


def test_supervisors_see_how_canaries_fared_day_by_day(house, sender, clock):
    porch, revoked = house.device("porch"), house.device("shed")
    for told in (("missed", "passed", "missed"), ("passed", "passed", ""), ("missed", "missed", "")):
        for device, canary in zip((sender, porch, revoked), told, strict=True):
            for _ in range(2):
                device.beat(canary=canary)
        sender.beat()
        clock.advance(DAY_S)
    with house.service.database.writing() as conn:
        revoke_device(conn, "shed", clock())
    sam = house.user("sam", Role.SUPERVISOR).client
    assert "2026-03-01: 2 of 3; 2026-03-03: 2 of 3; nothing is known of 25 days" in sam.get("/devices/1").text
    assert "2026-03-03: 2 of 2; nothing is known of 25 days" in sam.get("/devices/2").text
    assert "2026-03-01: 1 of 2; 2026-03-03: 2 of 2; nothing is known of 25 days" in sam.get("/devices").text
    with house.service.database.reading() as conn:
        figures = exposition(conn, house.service.settings.limits, clock())
    assert 'earmark_review_canary_reports_total{canary="passed"} 9' in figures
    assert 'earmark_review_canary_reports_total{canary="missed"} 8' in figures
    clock.advance(40 * DAY_S)
    assert "none; nothing is known of 28 days" in house.browser("sam").client.get("/devices").text


def test_a_device_that_is_not_there_is_told_kindly(sam):
    answer = sam.get("/devices/77")
    assert answer.status_code == 404
    assert "No such device" in answer.text


def test_devices_in_trouble_come_first(house, sender, clock):
    for name in ("attic", "porch"):
        house.device(name).beat(canary="missed" if name == "porch" else "passed")
    sender.beat()
    assert list(standings(house)) == ["porch", "attic", "kitchen"]
