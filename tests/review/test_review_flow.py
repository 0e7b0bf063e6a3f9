"""Second looks, disputes, golden cases and the broken glass, as people meet them."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from tests.review.house import House

from earmark_review.accounts import Role
from earmark_review.cases import Verdict
from earmark_review.store.golden import add_golden, golden_hits
from earmark_review.store.schema import cases


@pytest.fixture
def twice(open_house):
    """A house in which every first verdict gets a second look."""
    return open_house(second_review_share=1)


def one_case_in(house: House, make_sending, label="cry"):
    house.device().send(make_sending(label=label, masked=True))
    with house.service.database.reading() as conn:
        return conn.execute(select(cases.c.case_id)).scalar_one()


def place(house, case_id):
    with house.service.database.reading() as conn:
        return tuple(conn.execute(select(cases.c.state, cases.c.outcome).where(cases.c.case_id == case_id)).one())


def test_a_second_reviewer_is_blind_to_the_first(twice, make_sending):
    case_id = one_case_in(twice, make_sending)
    quinn, bea = twice.user("quinn"), twice.user("bea")  # not ada, whom an id in hexadecimal may spell
    fresh = bea.client.get("/queue").text
    quinn.decide(case_id, "play", "a secret thought")
    assert quinn.case_ids() == []  # not hers any more while it is open
    assert quinn.claim(case_id).status_code == 409
    page = quinn.client.get(f"/cases/{case_id}").text
    assert "Your verdict is recorded" in page
    assert "Claim this case" not in page
    assert bea.client.get("/queue").text == fresh
    bea.claim(case_id)
    page = bea.client.get(f"/cases/{case_id}").text
    for tell in ("a secret thought", "quinn", "Second", "First", "What the two"):
        assert tell not in page
    bea.act(case_id, "verdict", bea.lease_of(case_id), verdict="play")
    assert place(twice, case_id) == ("shredded", "play")
    assert "a secret thought" in bea.client.get(f"/cases/{case_id}").text


def test_two_who_differ_leave_it_to_a_senior_who_sees_both_and_no_names(twice, make_sending):
    case_id = one_case_in(twice, make_sending)
    ada, bea, cara, sam = twice.user("ada"), twice.user("bea"), twice.user("cara"), twice.user("sam", Role.SENIOR)
    ada.decide(case_id, "play", "first thought")
    bea.decide(case_id, "media", "second thought")
    assert place(twice, case_id) == ("adjudication", None)
    assert cara.case_ids() == []
    assert cara.claim(case_id).status_code == 403
    assert sam.case_ids() == [case_id]
    sam.claim(case_id)
    page = sam.client.get(f"/cases/{case_id}").text
    assert "first thought" in page
    assert "second thought" in page
    assert not any(f"{name}," in page for name in ("ada", "bea"))
    sam.act(case_id, "verdict", sam.lease_of(case_id), verdict="other_sound")
    assert place(twice, case_id) == ("shredded", "other_sound")


def test_a_scream_that_one_of_two_believes_is_escalated_and_kept_for_whoever_acts(twice, make_sending):
    case_id = one_case_in(twice, make_sending, "scream")
    twice.user("ada").decide(case_id, "distress")
    twice.user("bea").decide(case_id, "media")
    assert place(twice, case_id) == ("escalated", "escalate")
    assert twice.actions().count("case.escalated") == 1
    assert len(twice.service.blobs.list_keys()) == 3


def test_every_escalation_gets_a_second_look_and_then_a_senior(house, sender, make_sending):
    sender.send(make_sending(label="cry"))
    with house.service.database.reading() as conn:
        case_id = conn.execute(select(cases.c.case_id)).scalar_one()
    house.user("ada").decide(case_id, "escalate")
    assert place(house, case_id) == ("second_review", None)
    house.user("bea").decide(case_id, "play")
    assert place(house, case_id) == ("adjudication", None)


@pytest.mark.parametrize(("share", "state"), [(0.0, "shredded"), (0.3, "shredded"), (0.31, "second_review"), (1.0, "second_review")])
def test_the_share_of_second_looks_is_the_settings(open_house, make_sending, share, state):
    house = open_house(second_review_share=share)
    object.__setattr__(house.service, "chance", lambda: 0.3)
    case_id = one_case_in(house, make_sending)
    house.user("ada").decide(case_id, "play")
    assert place(house, case_id)[0] == state


def test_a_span_is_kept_on_the_streams_clock(house, ada, one_case):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    for onset, offset in (("0.5", "0.2"), ("a", "1"), ("0", "nan"), ("-1", "1"), ("0", "99999")):
        assert ada.act(one_case, "verdict", token, verdict="play", onset=onset, offset=offset, start="10").status_code == 422
    assert ada.act(one_case, "verdict", token, verdict="play", onset="0.25", offset="0.75", start="10").status_code == 303
    with house.service.database.reading() as conn:
        assert tuple(conn.exec_driver_sql("SELECT onset_s, offset_s FROM verdicts").one()) == (10.25, 10.75)


@pytest.fixture
def golden(open_house, make_sending):
    """A house with a golden cry of a month ago."""
    house = open_house(golden_share=1)
    case_id = one_case_in(house, make_sending)
    house.consent(may_train=True)
    house.user("sam", Role.SENIOR).decide(case_id, "play")
    assert place(house, case_id) == ("final", "play")
    house.clock.advance(86_400 * 30)
    with house.service.database.writing() as conn:
        add_golden(conn, case_id, Verdict.PLAY, house.clock())
    return house, case_id


def claim_next(browser):
    return browser.client.post("/queue/next", data={"csrf": browser.csrf()}).headers["location"].removeprefix("/cases/")


def test_a_golden_case_comes_in_its_turn_looks_like_any_other_and_goes_to_each_reviewer_once(golden, make_sending):
    house, case_id = golden
    ada, bea = house.user("ada"), house.user("bea")
    house.device("porch").send(make_sending("event-2", "cry", masked=True, device="porch"))
    [ordinary] = ada.case_ids()
    house.clock.advance(120)
    assert claim_next(ada) == case_id
    assert [*ada.case_ids(), *bea.case_ids()] == [case_id, ordinary] * 2  # held, it stands where a case that is next stands
    page = ada.client.get(f"/cases/{case_id}").text
    assert "olden" not in page
    assert "2026-03-01" not in page  # when it was really heard
    assert "2026-03-31" in page
    assert "2 min" in page  # as long as the one after it has waited
    ada.act(case_id, "verdict", ada.lease_of(case_id), verdict="media")
    assert ada.case_ids() == bea.case_ids() == [ordinary]
    assert claim_next(ada) == ordinary
    house.device("hall").send(make_sending("event-3", "cry", masked=True, device="hall"))
    assert claim_next(bea) == case_id
    bea.act(case_id, "verdict", bea.lease_of(case_id), verdict="play")
    with house.service.database.reading() as conn:
        assert golden_hits(conn) == (1, 2)
    house.clock.advance(86_400 * 10)
    house.service.shred_due()
    assert place(house, case_id)[0] == "ready"


def test_a_golden_case_does_not_come_where_it_would_give_itself_away(golden, make_sending):
    house, _ = golden
    ada = house.user("ada")
    assert "All quiet" in ada.client.get("/queue").text
    assert claim_next(ada) == "/queue"  # alone it makes no queue
    house.device("porch").send(make_sending("event-2", "scream", masked=True, device="porch"))
    [scream] = ada.case_ids()
    assert claim_next(ada) == scream  # a cry is not before a scream
    ada.act(scream, "verdict", ada.lease_of(scream), verdict="distress")
    house.device("hall").send(make_sending("event-3", "shout", masked=True, device="hall"))
    [shout] = ada.case_ids()
    cry = claim_next(ada)
    assert cry != shout  # it is before a shout, as if it had just come
    assert "under 1 min" in ada.client.get(f"/cases/{cry}").text


def test_without_a_draw_the_queue_goes_on(golden, make_sending):
    house, case_id = golden
    house.device("porch").send(make_sending("event-2", label="cry", masked=True, device="porch"))
    object.__setattr__(house.service, "chance", lambda: 1.0)
    assert claim_next(house.user("ada")) != case_id


REASON = "the masked sound does not tell a cry from a laugh"


def asked(house, ada, case_id, reason=REASON):
    ada.claim(case_id)
    return ada.act(case_id, "original", ada.lease_of(case_id), reason=reason)


def approve(browser, answer="yes", request_id=1):
    return browser.client.post(f"/originals/{request_id}", data={"csrf": browser.csrf(), "answer": answer})


def test_the_original_needs_a_reason_and_a_second_person(house, ada, one_case):
    sam = house.user("sam", Role.SENIOR)
    original = f"/cases/{one_case}/original"
    assert asked(house, ada, one_case, "short").status_code == 422
    assert ada.client.get(original).status_code == 403
    assert asked(house, ada, one_case).status_code == 303
    assert ada.client.get(original).status_code == 403
    assert REASON in sam.client.get("/originals").text
    assert "asks to hear" in sam.client.get("/queue").text
    assert approve(ada).status_code == 403
    assert approve(sam, "maybe").status_code == 422
    assert approve(sam).status_code == 303
    assert approve(sam).status_code == 404
    answer = ada.client.get(original)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert sam.client.get(original).status_code == 409  # approving opens nothing for oneself
    assert "The original is open until" in ada.client.get(f"/cases/{one_case}").text


def test_nobody_is_their_own_second_person(house, sender, make_sending):
    sender.send(make_sending(masked=True))
    sam = house.user("sam", Role.SENIOR)
    [case_id] = sam.case_ids()
    asked(house, sam, case_id)
    assert approve(sam).status_code == 403
    assert sam.client.get(f"/cases/{case_id}/original").status_code == 403


def test_the_look_at_the_original_is_in_the_log_before_its_first_byte(house, ada, one_case, monkeypatch):
    sam = house.user("sam", Role.SENIOR)
    asked(house, ada, one_case)
    approve(sam)
    seen, read = [], house.service.blobs.read
    monkeypatch.setattr(type(house.service.blobs), "read", lambda _self, key: (seen.append(house.log()[-1]), read(key))[1])
    ada.client.get(f"/cases/{one_case}/original")
    assert [(entry.action, entry.detail["evidence"]) for entry in seen] == [("evidence.served", "audio of tier 3")]
    assert [action for action in house.actions() if "original" in action] == ["original.asked", "original.approved"]
    assert all(REASON not in str(entry.detail) for entry in house.log())


@pytest.mark.parametrize("end", ["time", "refusal", "skip", "lease"])
def test_the_original_closes_with_its_time_and_with_its_claim(open_house, make_sending, clock, end):
    house = open_house(original_s=100)
    case_id = one_case_in(house, make_sending)
    ada, sam = house.user("ada"), house.user("sam", Role.SENIOR)
    asked(house, ada, case_id)
    approve(sam, "no" if end == "refusal" else "yes")
    token = ada.lease_of(case_id)
    if end == "time":
        clock.advance(100)
    if end == "skip":
        ada.act(case_id, "skip", token)
        ada.claim(case_id)
    if end == "lease":
        clock.advance(house.service.settings.lease_s)
    assert ada.client.get(f"/cases/{case_id}/original").status_code == (409 if end == "lease" else 403)
