"""A case as a pure state machine: states, moves, verdicts, severity and the lease; no clock, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from types import MappingProxyType

from earmark_review.errors import IllegalMoveError


class CaseState(StrEnum):
    """Where a case stands."""

    AWAITING_CLIP = "awaiting_clip"
    """The event is known; some object that it declares has not arrived."""
    READY = "ready"
    LEASED = "leased"
    DECIDED = "decided"
    """A verdict is recorded and nothing else has been settled yet."""
    ESCALATED = "escalated"
    """A reviewer asked for someone else's judgement."""
    FINAL = "final"


class Move(StrEnum):
    """What can happen to a case."""

    COMPLETE = "complete"
    """Every declared object is held."""
    CLAIM = "claim"
    SKIP = "skip"
    EXPIRE = "expire"
    DECIDE = "decide"
    ESCALATE = "escalate"
    SETTLE = "settle"
    """No second opinion is due: the verdict stands."""


TRANSITIONS: Mapping[tuple[CaseState, Move], CaseState] = MappingProxyType(
    {
        (CaseState.AWAITING_CLIP, Move.COMPLETE): CaseState.READY,
        (CaseState.READY, Move.CLAIM): CaseState.LEASED,
        (CaseState.LEASED, Move.SKIP): CaseState.READY,
        (CaseState.LEASED, Move.EXPIRE): CaseState.READY,
        (CaseState.LEASED, Move.DECIDE): CaseState.DECIDED,
        (CaseState.LEASED, Move.ESCALATE): CaseState.ESCALATED,
        (CaseState.DECIDED, Move.SETTLE): CaseState.FINAL,
    }
)
OPEN_STATES = (CaseState.AWAITING_CLIP, CaseState.READY, CaseState.LEASED)
CLOSED_STATES = tuple(state for state in CaseState if state not in OPEN_STATES)


def after(state: CaseState, move: Move) -> CaseState:
    """The state that `move` leads to.

    Raises:
        IllegalMoveError: the table has no such move from `state`.
    """
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        msg = f"a case that is {state} cannot {move}"
        raise IllegalMoveError(msg) from None


class Verdict(StrEnum):
    """A reviewer's answer."""

    CONFIRMED = "confirmed"
    FALSE_ALARM = "false_alarm"
    UNSURE = "unsure"
    ESCALATE = "escalate"


def moves_for(verdict: Verdict) -> tuple[Move, ...]:
    """The moves that a verdict makes; without second review, a verdict is settled at once."""
    if verdict is Verdict.ESCALATE:
        return (Move.ESCALATE,)
    return (Move.DECIDE, Move.SETTLE)


class Severity(IntEnum):
    """The queue's first key; a smaller number is looked at first.

    A scream is the likeliest to need someone now. A baby's cry comes before an adult's, because a baby cannot call again.
    """

    HIGHEST = 1
    HIGH = 2
    RAISED = 3
    OTHER = 4


_SEVERITIES = MappingProxyType({"scream": Severity.HIGHEST, "baby_cry": Severity.HIGH, "cry": Severity.RAISED})


def severity_of(label: str) -> Severity:
    """The severity of an event of this label."""
    return _SEVERITIES.get(label, Severity.OTHER)


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long a claim lasts: `length_s` after the last heartbeat, never more than `limit_s` after the claim."""

    length_s: float
    limit_s: float

    def expiry(self, claimed_at: datetime, now: datetime) -> datetime:
        """When a claim of `claimed_at` that was last heard from `now` ends."""
        return min(now + timedelta(seconds=self.length_s), claimed_at + timedelta(seconds=self.limit_s))


@dataclass(frozen=True, slots=True)
class Lease:
    """One reviewer's hold on one case, in one session."""

    lease_id: int
    case_id: str
    user_id: int
    session_id: int
    claimed_at: datetime
    expires_at: datetime
    ended_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Whether the holder may still look and decide."""
        return self.ended_at is None and now < self.expires_at


def state_at(state: CaseState, lease_expires_at: datetime | None, now: datetime) -> CaseState:
    """`state` as anyone should see it: a lease that ran out counts as ended before the database has tidied it up."""
    if state is CaseState.LEASED and (lease_expires_at is None or lease_expires_at <= now):
        return after(state, Move.EXPIRE)
    return state
