from __future__ import annotations

import re

import pytest
from tests.review.conftest import signature_field

from earmark_edge.messages import Heartbeat
from earmark_edge.signature import Purpose
from earmark_review.accounts import Role
from earmark_review.store.fleet import fleet


@pytest.fixture
def sam(house):
    return house.user("sam", Role.SUPERVISOR).client


def beat(sender, clock, **changes):
    told = {
        "sent_at": clock().isoformat(),
        "boot_id": "boot-1",
        "next_seq": 0,
        "waiting_events": 0,
        "waiting_bytes": 0,
        "dropped_objects": 0,
        "set_aside": 0,
        "is_muted": False,
        "canary": "passed",
        "config_sha256": "b" * 64,
        "model_sha256": "a" * 64,
        "consent_id": "consent-1",
        "policy_version": 0,
    }
    payload = Heartbeat(**{**told, **changes}).to_bytes()
    headers = {"content-type": "application/json", **signature_field(payload, Purpose.HEARTBEAT, sender.name)}
    assert sender.client.post("/api/v1/heartbeat", content=payload, headers=headers).status_code == 204


def standings(house):
    with house.service.database.reading() as conn:
        return {one.device.name: one for one in fleet(conn, house.clock())}


def test_a_device_in_order_has_no_troubles(house, sender, clock, sam):
    beat(sender, clock)
    assert standings(house)["kitchen"].troubles == []
    assert "1 device, none in trouble" in sam.get("/devices").text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"canary": "missed"}, "missed its canary"),
        ({"next_seq": 3}, "3 possibly lost"),
        ({"set_aside": 2}, "2 refused here"),
        ({"dropped_objects": 4}, "4 clips dropped for want of space"),
    ],
)
def test_every_trouble_is_told_on_both_pages(house, sender, clock, sam, changes, words):
    beat(sender, clock, **changes)
    assert standings(house)["kitchen"].troubles == [words]
    for where in ("/devices", "/devices/1", "/figures"):
        assert f'<span class="alert-word">{words}</span>' in sam.get(where).text


def test_a_device_that_says_nothing_for_an_hour_is_silent(house, sender, clock):
    beat(sender, clock)
    clock.advance(3599)
    assert standings(house)["kitchen"].troubles == []
    clock.advance(3600)
    assert standings(house)["kitchen"].troubles == ["silent"]


def test_possible_loss_is_what_never_came_less_what_still_waits_there(house, sender, clock, sam, make_sending):
    sender.post(make_sending("event-1", seq=0, clips=()).payload)
    sender.post(make_sending("event-2", seq=5, clips=()).payload)
    beat(sender, clock, next_seq=8, waiting_events=2)
    assert standings(house)["kitchen"].lost == 4  # 1 to 4, 6 and 7 never came; two of them wait
    page = sam.get("/devices/1").text
    [row] = re.findall(r'<tr><th scope="row" class="id breaks">boot-1</th>(.*?)</tr>', page)
    assert re.sub(r"<[^>]+>", " ", row).split()[:3] == ["6", "2", "4"]
    assert "2 in all, at most 2 a day" in page


def test_canaries_that_went_unheard_are_counted_once_each(house, sender, clock, sam):
    for canary in ("missed", "missed", "passed", "missed"):
        beat(sender, clock, canary=canary)
        clock.advance(60)
    page = sam.get("/devices/1").text
    assert "2 went unheard" in page
    assert "2026-03-01 20:03:00 UTC" in page


def test_a_device_that_is_not_there_is_told_kindly(sam):
    answer = sam.get("/devices/77")
    assert answer.status_code == 404
    assert "No such device" in answer.text


def test_devices_in_trouble_come_first(house, sender, clock):
    for name in ("attic", "porch"):
        beat(house.device(name), clock, canary="missed" if name == "porch" else "passed")
    beat(sender, clock)
    assert list(standings(house)) == ["porch", "attic", "kitchen"]
