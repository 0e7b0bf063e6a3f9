"""One round for many callers: what threads ask for while a round is under way is done in the next one, all of it at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")

MOST = 64
"""How much is done in one round, so that nobody waits long for company that came late."""


class _Asked(Generic[Work, Result]):
    """What one caller wants done, and what became of it: `outcome` is empty until it is known.

    `turn` is a bare lock, held until its caller may go on: a future and an event are a lock and a condition each, made for every message.
    """

    __slots__ = ("outcome", "turn", "work")

    def __init__(self, work: Work) -> None:
        self.work, self.turn = work, Lock()
        self.outcome: Sequence[Result | BaseException] = ()
        self.turn.acquire()


class Together(Generic[Work, Result]):
    """Does rounds. No thread of its own and no delay: a caller who finds nobody at work begins at once, alone.

    `act` does a round's work and returns an outcome for each piece, its result or its own error; what it raises goes to all of them.
    """

    def __init__(self, act: Callable[[Sequence[Work]], Sequence[Result | Exception]]) -> None:
        self._act = act
        self._gate, self._waiting = Lock(), deque[_Asked[Work, Result]]()
        self._is_busy = False

    def run(self, work: Work) -> Result:
        """Have `work` done in this round or the next; return, or raise, what became of it."""
        mine = _Asked[Work, Result](work)
        with self._gate:
            self._waiting.append(mine)
            is_leading, self._is_busy = not self._is_busy, True
        if not is_leading:
            mine.turn.acquire()  # until it is done, or its caller is to lead the next round
        if not mine.outcome:
            self._lead()
        (outcome,) = mine.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _lead(self) -> None:
        """Do a round, its leader's own work first, and hand over to whoever has waited longest since."""
        with self._gate:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
        try:
            for one, outcome in zip(taken, self._act([one.work for one in taken]), strict=True):
                one.outcome = (outcome,)
        except BaseException as error:  # noqa: BLE001 - nobody may be left waiting; the leader raises it with the others
            for one in taken:
                one.outcome = (error,)
        with self._gate:
            following = self._waiting[0] if self._waiting else None
            self._is_busy = following is not None
        for one in (*taken[1:], *filter(None, [following])):
            one.turn.release()
