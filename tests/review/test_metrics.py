"""What is exported for those who run the service: the right numbers, to the right callers, and never a name."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.review.callers import client_of

from earmark_edge.signature import SIGNATURE_HEADER
from earmark_review.accounts import Role
from earmark_review.store.leases import end_expired

TOKEN = "a token of the test's own"
NAMES = {"household-7": "consent", "nursery-cam": "device", "grandmother": "device", "adalovelace": "reviewer", "beatrix": "reviewer"}


@pytest.fixture
def busy(open_house, make_sending):
    """Two devices, two reviewers, and some of everything: held, decided, expired, refused, resting, an original asked for."""
    house = open_house(metrics_token=TOKEN, run_s=600, lease_s=600, lease_limit_s=3600)
    nursery, other = house.device("nursery-cam"), house.device("grandmother")
    ada, bea = house.user("adalovelace", Role.SUPERVISOR), house.user("beatrix")
    house.consent("nursery-cam", "household-7")
    nursery.send(make_sending("late", device="nursery-cam", consent_id="household-7"))
    house.clock.advance(72 * 3600)
    house.service.shred_due()
    for name in ("adalovelace", "beatrix"):
        browser = house.browser(name)
        ada, bea = (browser, bea) if name == "adalovelace" else (ada, browser)
    for number in range(3):
        nursery.send(make_sending(f"e{number}", "cry", masked=True, device="nursery-cam", consent_id="household-7"))
    nursery.post(make_sending("e0", "cry", seq=99, clips=(), device="nursery-cam", consent_id="household-7").payload)
    nursery.post(b"{}", **{SIGNATURE_HEADER: ""})
    nursery.beat(canary="missed", consent_id="")
    other.beat(consent_id="")
    first, second, _ = ada.case_ids()
    ada.decide(first, "play", "the note of adalovelace on household-7")
    ada.claim(second)
    ada.act(second, "original", ada.lease_of(second), reason="adalovelace asks about household-7")
    bea.claim(bea.case_ids()[-1])
    return house


def fetched(house):
    answer = client_of(house.app, authorization=f"Bearer {TOKEN}").get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.text


def samples(text):
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type in {"gauge", "counter"}
        for sample in family.samples:
            found[sample.name.removeprefix("earmark_review_"), *sample.labels.values()] = sample.value
    return found


def test_every_figure_is_what_happened(busy):
    found = samples(fetched(busy))
    assert found["events_received_total",] == 4
    assert found["objects_held_total",] == 2 + 3 * 3
    assert found["event_conflicts_total",] == 1
    assert found["signatures_refused_total",] == 1
    assert found["verdicts_total",] == 1
    assert found["deadline_misses_total",] == 1
    assert found["canary_alarms_total",] == found["canaries_missed",] == 1
    assert found["devices",] == 2
    assert found["holds",] == 2
    assert found["originals_waiting",] == 1
    assert found["exposure_stops",] == 0
    assert found["waiting", "first"] == 0
    busy.clock.advance(600)
    with busy.service.database.writing() as conn:
        end_expired(conn, busy.clock())
    found = samples(fetched(busy))
    assert found["exposure_stops",] == 2  # both had their ten minutes
    assert found["holds",] == 0
    assert found["waiting", "first"] == 2
    assert found["oldest_seconds", "first"] == 600


def test_no_name_is_in_anything_that_is_exported(busy):
    text = fetched(busy)
    with busy.service.database.reading() as conn:
        known = [row[0] for table in ("users", "devices") for row in conn.exec_driver_sql(f"SELECT name FROM {table}")]
        ids = [row[0] for row in conn.exec_driver_sql("SELECT case_id FROM cases")]
    assert set(known) == set(NAMES) - {"household-7"}
    assert [name for name in (*NAMES, *ids, "e0", "boot-1", "late") if re.search(rf"\b{name}\b", text)] == []
    labels = set(re.findall(r'="([^"]*)"', text))
    assert labels <= {
        "first",
        "second",
        "adjudication",
        "estimate",
        "low",
        "high",
        "passed",
        "missed",
        *("cry", "scream", "baby_cry", "shout"),
    }


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer \xe4"])
def test_where_a_token_is_set_up_nothing_else_opens_the_figures(busy, given):
    headers = {} if given is None else {"authorization": given.encode("latin-1")}
    for address in ("192.0.2.1", "127.0.0.1"):
        answer = client_of(busy.app, address).get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert "earmark_review_" not in answer.text


def test_without_one_they_are_for_this_machine_alone(house):
    assert client_of(house.app, "127.0.0.1").get("/metrics").status_code == 200
    assert client_of(house.app, "::1").get("/metrics").status_code == 200
    assert client_of(house.app, "192.0.2.1").get("/metrics").status_code == 401
    for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
        assert client_of(house.app, "127.0.0.1").get("/metrics", headers={header: "192.0.2.1"}).status_code == 401
    assert house.user("sam", Role.SUPERVISOR).client.get("/metrics").status_code == 401
