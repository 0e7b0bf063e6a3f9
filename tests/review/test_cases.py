from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_model.contract import LABELS
from earmark_review.cases import (
    CLOSED_STATES,
    OPEN_STATES,
    QUEUE_AFTER,
    TRANSITIONS,
    WAITING,
    CaseState,
    Lease,
    LeaseTerms,
    Move,
    Queue,
    Settlement,
    Severity,
    Verdict,
    after,
    settlement,
    severity_of,
    state_at,
)
from earmark_review.errors import IllegalMoveError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_case_runs_from_its_clip_to_its_end():
    state = CaseState.AWAITING_CLIP
    for move in (Move.COMPLETE, Move.CLAIM, Move.SKIP, Move.CLAIM, Move.EXPIRE, Move.CLAIM, Move.DECIDE, Move.SETTLE, Move.SHRED):
        state = after(state, move)
    assert state is CaseState.SHREDDED


@given(st.lists(st.sampled_from(Move), max_size=40))
def test_no_run_of_moves_decides_an_unclaimed_case_or_brings_back_what_is_gone(moves):
    state, queue, claimed = CaseState.AWAITING_CLIP, Queue.FIRST, False
    for move in moves:
        was = state
        try:
            state = after(state, move, queue)
        except IllegalMoveError:
            assert (was, move) not in TRANSITIONS
            continue
        queue = QUEUE_AFTER.get(move, queue)
        claimed = claimed or move is Move.CLAIM
        assert was is not CaseState.SHREDDED
        assert not (was in CLOSED_STATES and state in OPEN_STATES and move is not Move.ARM)
        assert claimed or state not in CLOSED_STATES or {CaseState.EXPIRED, CaseState.WITHDRAWN} & {was, state}
        assert (was is CaseState.LEASED) <= (move in {Move.DECIDE, Move.SKIP, Move.EXPIRE})


@pytest.mark.parametrize("queue", Queue)
@pytest.mark.parametrize("move", [Move.SKIP, Move.EXPIRE])
def test_a_claim_given_back_leads_to_where_the_case_waited(queue, move):
    assert after(after(WAITING[queue], Move.CLAIM, queue), move, queue) is WAITING[queue]


def test_every_state_can_be_reached():
    assert {CaseState.AWAITING_CLIP, *TRANSITIONS.values()} == set(CaseState)


def test_a_first_verdict_stands_unless_a_second_is_due():
    for verdict in Verdict:
        asks = verdict in {Verdict.ESCALATE, Verdict.CANNOT_TELL}
        for drawn in (False, True):
            settled = settlement("cry", Queue.FIRST, [verdict], second_is_due=drawn)
            assert settled == (Settlement(Move.ASK_SECOND, None) if asks or drawn else Settlement(Move.SETTLE, verdict))


@pytest.mark.parametrize("label", LABELS)
def test_two_verdicts_stand_when_equal_and_go_to_a_senior_when_not_save_for_a_scream_that_one_believes(label):
    for first in Verdict:
        for second in Verdict:
            settled = settlement(label, Queue.SECOND, [first, second], second_is_due=False)
            if first is second is not Verdict.ESCALATE:
                assert settled == Settlement(Move.SETTLE, first)
            elif label == "scream" and Verdict.DISTRESS in {first, second}:
                assert settled == Settlement(Move.ESCALATE, Verdict.ESCALATE)
            else:
                assert settled == Settlement(Move.DISPUTE, None)


def test_a_seniors_word_is_the_last():
    for verdict in Verdict:
        settled = settlement("scream", Queue.ADJUDICATION, [Verdict.DISTRESS, Verdict.PLAY, verdict], second_is_due=True)
        assert settled == Settlement(Move.ESCALATE if verdict is Verdict.ESCALATE else Move.SETTLE, verdict)


def test_screams_come_first_then_babies_then_adults_then_the_rest():
    ranked = sorted(LABELS, key=severity_of)
    assert ranked[:3] == ["scream", "baby_cry", "cry"]
    assert {severity_of(label) for label in ranked[3:]} == {Severity.OTHER}


def test_a_lease_is_live_until_the_very_moment_it_expires():
    lease = Lease(1, "case", 1, 1, NOW, NOW + timedelta(seconds=10), None)
    assert lease.is_live(NOW + timedelta(seconds=9.999))
    assert not lease.is_live(NOW + timedelta(seconds=10))


def test_an_ended_lease_is_not_live_before_its_expiry():
    assert not Lease(1, "case", 1, 1, NOW, NOW + timedelta(seconds=10), NOW).is_live(NOW)


def test_heartbeats_extend_a_lease_up_to_its_limit():
    terms = LeaseTerms(60, 100)
    assert terms.expiry(NOW, NOW) == NOW + timedelta(seconds=60)
    assert terms.expiry(NOW, NOW + timedelta(seconds=30)) == NOW + timedelta(seconds=90)
    assert terms.expiry(NOW, NOW + timedelta(seconds=50)) == NOW + timedelta(seconds=100)


@pytest.mark.parametrize(("seconds", "seen"), [(-1, CaseState.READY), (0, CaseState.READY), (1, CaseState.LEASED)])
def test_a_case_whose_lease_ran_out_is_seen_as_ready(seconds, seen):
    assert state_at(CaseState.LEASED, Queue.FIRST, NOW + timedelta(seconds=seconds), NOW) is seen


def test_other_states_do_not_depend_on_a_lease():
    for state in set(CaseState) - {CaseState.LEASED}:
        assert state_at(state, Queue.FIRST, None, NOW) is state
