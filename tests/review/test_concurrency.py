from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from bench.claims import faults, prepare, work, work_all

from earmark_review import audit
from earmark_review.accounts import Role, SignedIn
from earmark_review.cases import LeaseTerms
from earmark_review.errors import ReviewError
from earmark_review.store import leases

CLAIMANTS = 20


@pytest.fixture
def claimants(house):
    """Twenty accounts, each with a session."""
    people = []
    for number in range(CLAIMANTS):
        house.user(f"user {number}")
        people.append(SignedIn(number + 1, number + 1, f"user {number}", Role.REVIEWER))
    return people


def holders(house):
    with house.service.database.reading() as conn:
        rows = conn.exec_driver_sql("SELECT case_id, user_id FROM leases WHERE ended_at IS NULL").all()
        leased = conn.exec_driver_sql("SELECT case_id FROM cases WHERE state = 'leased'").scalars().all()
    assert sorted(case_id for case_id, _ in rows) == sorted(leased)
    return rows


def all_at_once(people, act):
    barrier = Barrier(len(people))

    def run(person):
        barrier.wait()
        try:
            return act(person)
        except ReviewError as error:
            return error

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(run, people))


def test_twenty_claimants_on_three_cases_make_three_holders(house, sender, claimants, make_sending, clock):
    for number in range(3):
        sender.send(make_sending(f"event-{number}"))
    with house.service.database.reading() as conn:
        ready = conn.exec_driver_sql("SELECT case_id FROM cases").scalars().all()

    def claim_any(person):
        for case_id in ready:
            try:
                with house.service.database.writing() as conn:
                    return leases.claim(conn, case_id, person, LeaseTerms(300, 300), 1, clock())
            except ReviewError:
                continue
        return None

    won = [claim for claim in all_at_once(claimants, claim_any) if claim]
    assert len(won) == 3
    held = holders(house)
    assert len(held) == len({case_id for case_id, _ in held}) == len({user for _, user in held}) == 3
    assert len({claim.token for claim in won}) == 3
    assert house.actions().count("case.claimed") == 3


def test_twenty_claimants_of_the_next_case_get_one_each_in_order(house, sender, claimants, make_sending, clock):
    for number in range(5):
        sender.send(make_sending(f"event-{number}"))

    def claim_next(person):
        with house.service.database.writing() as conn:
            case_id = leases.next_case(conn, person, clock())
            return leases.claim(conn, case_id, person, LeaseTerms(300, 300), 1, clock()) if case_id else None

    won = [claim for claim in all_at_once(claimants, claim_next) if claim]
    assert len({claim.case_id for claim in won}) == len(won) == 5


def test_one_reviewer_in_twenty_windows_holds_one_case(house, sender, claimants, make_sending, clock):
    for number in range(5):
        sender.send(make_sending(f"event-{number}"))
    windows = [SignedIn(1, session_id, "user 0", Role.REVIEWER) for session_id in range(1, CLAIMANTS + 1)]
    with house.service.database.reading() as conn:
        ready = conn.exec_driver_sql("SELECT case_id FROM cases").scalars().all()

    def claim_mine(window):
        with house.service.database.writing() as conn:
            return leases.claim(conn, ready[window.session_id % 5], window, LeaseTerms(300, 300), 1, clock())

    outcomes = all_at_once(windows, claim_mine)
    assert sum(isinstance(outcome, leases.Claim) for outcome in outcomes) == 1
    assert len(holders(house)) == 1


def test_a_verdict_given_twice_at_once_is_recorded_once(house, ada, one_case):
    ada.claim(one_case)
    token = ada.lease_of(one_case)
    windows = [house.browser("ada") for _ in range(6)]
    for window in windows:
        window.client.cookies = ada.client.cookies
    answers = all_at_once(windows, lambda window: window.act(one_case, "verdict", token, verdict="distress").status_code)
    assert sorted(answers) == [303, 409, 409, 409, 409, 409]
    assert house.actions().count("case.decided") == 1


def test_an_event_sent_twenty_times_at_once_is_one_case(house, sender, make_sending):
    payload = make_sending().payload
    answers = all_at_once(range(CLAIMANTS), lambda _: sender.post(payload))
    assert sorted(answer.status_code for answer in answers) == [200] * (CLAIMANTS - 1) + [201]
    assert len({answer.content for answer in answers}) == 1
    with house.service.database.reading() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM cases").scalar() == 1


def test_the_logs_chain_holds_under_many_writers(house, sender, claimants, make_sending):
    all_at_once(claimants, lambda person: sender.post(make_sending(f"event-{person.user_id}").payload))
    assert audit.first_break(house.log()) is None
    assert house.actions().count("event.received") == CLAIMANTS


def test_fifty_claimants_never_hold_the_same_case_and_no_late_answer_counts(open_house):
    database = open_house().service.database
    prepare(database, count=120, people=51)
    done = work_all(database, range(1, 51))
    done += work(database, 51)  # what ran out as everyone left
    assert faults(database) == []
    assert done["decided"] == 120
    assert done["late and refused"] > 0
    assert done["late and taken"] == 0
    assert done["skipped"] > 0
