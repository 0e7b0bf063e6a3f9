"""A case as a pure state machine: states, moves, verdicts, severity and the lease; no clock, no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """A verdict is recorded and nothing else has been settled yet; never outlives the transaction that records it."""
    SECOND_REVIEW = "second_review"
    """Waits for a second reviewer, who does not see that there was a first."""
    ADJUDICATION = "adjudication"
    """Two verdicts differ; waits for a senior."""
    ESCALATED = "escalated"
    """Closed, and someone outside the queue has to act."""
    FINAL = "final"
    EXPIRED = "expired"
    """Nobody decided it in time."""
    WITHDRAWN = "withdrawn"
    """Its household took its consent back before it was decided; it stays that, with its keys and bytes gone."""
    SHREDDED = "shredded"
    """Closed, and its keys and bytes are gone."""


class Queue(StrEnum):
    """Which look at a case is due; who may take it is a matter of the role."""

    FIRST = "first"
    SECOND = "second"
    ADJUDICATION = "adjudication"


class Move(StrEnum):
    """What can happen to a case."""

    COMPLETE = "complete"
    """Every declared object is held."""
    CLAIM = "claim"
    SKIP = "skip"
    EXPIRE = "expire"
    """The claim ran out or was given up."""
    DECIDE = "decide"
    SETTLE = "settle"
    """The verdict stands."""
    ASK_SECOND = "ask_second"
    DISPUTE = "dispute"
    ESCALATE = "escalate"
    REPEAT = "repeat"
    """A golden case waits for the next reviewer."""
    ARM = "arm"
    """A closed case becomes golden."""
    LAPSE = "lapse"
    """The time for deciding is over."""
    WITHDRAW = "withdraw"
    """The household takes its consent back."""
    SHRED = "shred"


WAITING: Mapping[Queue, CaseState] = MappingProxyType(
    {Queue.FIRST: CaseState.READY, Queue.SECOND: CaseState.SECOND_REVIEW, Queue.ADJUDICATION: CaseState.ADJUDICATION}
)
"""The state in which a case waits in each queue."""
CLAIMABLE = tuple(WAITING.values())
_UNHELD = (CaseState.AWAITING_CLIP, *CLAIMABLE)

TRANSITIONS: Mapping[tuple[CaseState, Move], CaseState] = MappingProxyType(
    {
        (CaseState.AWAITING_CLIP, Move.COMPLETE): CaseState.READY,
        **{(state, Move.CLAIM): CaseState.LEASED for state in CLAIMABLE},
        (CaseState.LEASED, Move.DECIDE): CaseState.DECIDED,
        (CaseState.DECIDED, Move.SETTLE): CaseState.FINAL,
        (CaseState.DECIDED, Move.ASK_SECOND): CaseState.SECOND_REVIEW,
        (CaseState.DECIDED, Move.DISPUTE): CaseState.ADJUDICATION,
        (CaseState.DECIDED, Move.ESCALATE): CaseState.ESCALATED,
        (CaseState.DECIDED, Move.REPEAT): CaseState.READY,
        (CaseState.FINAL, Move.ARM): CaseState.READY,
        **{(state, Move.LAPSE): CaseState.EXPIRED for state in _UNHELD},
        **{(state, Move.WITHDRAW): CaseState.WITHDRAWN for state in _UNHELD},
        **{(state, Move.SHRED): CaseState.SHREDDED for state in (CaseState.FINAL, CaseState.ESCALATED, CaseState.EXPIRED)},
    }
)
"""Every move but giving a claim back, which leads to wherever the case's queue waits."""
OPEN_STATES = (CaseState.AWAITING_CLIP, *CLAIMABLE, CaseState.LEASED)
CLOSED_STATES = (CaseState.ESCALATED, CaseState.FINAL, CaseState.EXPIRED, CaseState.WITHDRAWN, CaseState.SHREDDED)


def after(state: CaseState, move: Move, queue: Queue = Queue.FIRST) -> CaseState:
    """The state that `move` leads to, for a case in `queue`.

    Raises:
        IllegalMoveError: the table has no such move from `state`.
    """
    if state is CaseState.LEASED and move in {Move.SKIP, Move.EXPIRE}:
        return WAITING[queue]
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        msg = f"a case that is {state} cannot {move}"
        raise IllegalMoveError(msg) from None


QUEUE_AFTER: Mapping[Move, Queue] = MappingProxyType(
    {Move.ASK_SECOND: Queue.SECOND, Move.DISPUTE: Queue.ADJUDICATION, Move.REPEAT: Queue.FIRST, Move.ARM: Queue.FIRST}
)
"""The queue that a move puts a case into."""


class Verdict(StrEnum):
    """A reviewer's answer."""

    DISTRESS = "distress"
    PLAY = "play"
    """Tantrum or play."""
    MEDIA = "media"
    """Television or another loudspeaker."""
    OTHER_SOUND = "other_sound"
    CANNOT_TELL = "cannot_tell"
    ESCALATE = "escalate"
    """No label: someone else should judge it."""


LABELS_OF_VERDICTS = tuple(verdict for verdict in Verdict if verdict is not Verdict.ESCALATE)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What follows from a verdict; `outcome` is what the case ends with, None while it goes on."""

    move: Move
    outcome: Verdict | None


def settlement(label: str, queue: Queue, verdicts: Sequence[Verdict], *, second_is_due: bool) -> Settlement:
    """What follows once the latest of `verdicts` (oldest first, one for each reviewer) is given in `queue`.

    A first verdict stands unless a second was drawn, or it asks for one by escalating or by not telling. Two equal labels stand. Of two
    that differ a senior decides, save for a scream where one says distress: that is escalated at once, since waiting costs more.
    """
    latest = verdicts[-1]
    if queue is Queue.ADJUDICATION:
        return _escalated() if latest is Verdict.ESCALATE else Settlement(Move.SETTLE, latest)
    if queue is Queue.FIRST:
        is_open = second_is_due or latest in {Verdict.ESCALATE, Verdict.CANNOT_TELL}
        return Settlement(Move.ASK_SECOND, None) if is_open else Settlement(Move.SETTLE, latest)
    agree = len(set(verdicts)) == 1
    if agree and latest is not Verdict.ESCALATE:
        return Settlement(Move.SETTLE, latest)
    if label == "scream" and Verdict.DISTRESS in verdicts:
        return _escalated()
    return Settlement(Move.DISPUTE, None)


def _escalated() -> Settlement:
    return Settlement(Move.ESCALATE, Verdict.ESCALATE)


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

    def within(self, left_s: float) -> LeaseTerms:
        """Terms that end before an exposure that has `left_s` left does."""
        return LeaseTerms(min(self.length_s, left_s), self.limit_s)

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


def state_at(state: CaseState, queue: Queue, lease_expires_at: datetime | None, now: datetime) -> CaseState:
    """`state` as anyone should see it: a lease that ran out counts as ended before the database has tidied it up."""
    if state is CaseState.LEASED and (lease_expires_at is None or lease_expires_at <= now):
        return after(state, Move.EXPIRE, queue)
    return state
