from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_model.contract import LABELS
from earmark_review.cases import (
    CLOSED_STATES,
    OPEN_STATES,
    TRANSITIONS,
    CaseState,
    Lease,
    LeaseTerms,
    Move,
    Severity,
    Verdict,
    after,
    moves_for,
    severity_of,
    state_at,
)
from earmark_review.errors import IllegalMoveError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_case_runs_from_its_clip_to_its_end():
    state = CaseState.AWAITING_CLIP
    for move in (Move.COMPLETE, Move.CLAIM, Move.SKIP, Move.CLAIM, Move.EXPIRE, Move.CLAIM, Move.DECIDE, Move.SETTLE):
        state = after(state, move)
    assert state is CaseState.FINAL


@given(st.lists(st.sampled_from(Move), max_size=30))
def test_no_run_of_moves_reopens_a_closed_case_or_decides_an_unclaimed_one(moves):
    state, claimed = CaseState.AWAITING_CLIP, False
    for move in moves:
        was = state
        if (state, move) not in TRANSITIONS:
            with pytest.raises(IllegalMoveError, match=f"{state} cannot {move}"):
                after(state, move)
            continue
        state = after(state, move)
        claimed = claimed or move is Move.CLAIM
        assert not (was in CLOSED_STATES and state in OPEN_STATES)
        assert claimed or state not in CLOSED_STATES


def test_only_a_leased_case_can_be_decided_skipped_or_escalated():
    for move in (Move.DECIDE, Move.SKIP, Move.ESCALATE, Move.EXPIRE):
        assert [state for state, made in TRANSITIONS if made is move] == [CaseState.LEASED]


def test_every_state_can_be_reached():
    reached = {CaseState.AWAITING_CLIP, *TRANSITIONS.values()}
    assert reached == set(CaseState)


def test_every_verdict_closes_a_leased_case():
    for verdict in Verdict:
        state = CaseState.LEASED
        for move in moves_for(verdict):
            state = after(state, move)
        assert state is (CaseState.ESCALATED if verdict is Verdict.ESCALATE else CaseState.FINAL)


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
    assert state_at(CaseState.LEASED, NOW + timedelta(seconds=seconds), NOW) is seen


def test_other_states_do_not_depend_on_a_lease():
    for state in set(CaseState) - {CaseState.LEASED}:
        assert state_at(state, None, NOW) is state
