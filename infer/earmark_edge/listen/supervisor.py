"""Keeps one source running: a thread that reads it, watches it, and opens it again with backoff when it stalls, breaks or falls silent."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from earmark_edge.listen.health import HealthConfig, Problem, SignalHealth
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.source import BLOCK_S, Samples, Source, SourceEndedError, SourceError

logger = logging.getLogger(__name__)

_POLL_S = BLOCK_S
"""How long a stop or a mute may wait to be noted while nothing comes: with less, a block would be handed on, and handled, in pieces."""


class State(StrEnum):
    """What a source is doing."""

    STARTING = "starting"
    LISTENING = "listening"
    STALLED = "stalled"
    """Open, but no samples come, and it cannot be opened again (standard input)."""
    DOWN = "down"
    """It broke or stalled, and is opened again after a wait."""
    MUTED = "muted"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Block:
    """Samples of source `stream`, the last of which was read at `ended_s` (monotonic); `is_first` after each opening and each stall."""

    stream: int
    samples: Samples
    ended_s: float
    is_first: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A source's state or signal changed; `problems` are those it has now, `is_restart` marks a new attempt to open it."""

    stream: int
    state: State
    text: str
    problems: tuple[Problem, ...] = ()
    is_restart: bool = False
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """When a source counts as stalled, and how it is opened again.

    `stall_s`: seconds without a sample. `first_wait_s`, doubled at each failure up to `most_wait_s`, with jitter of a half, before the
    next attempt. `sound_s`: seconds of samples after which failures are forgotten. `health`: from when on a signal is ill.
    """

    stall_s: float = 5.0
    first_wait_s: float = 0.5
    most_wait_s: float = 30.0
    sound_s: float = 30.0
    health: HealthConfig = field(default_factory=HealthConfig)

    def __post_init__(self) -> None:
        for name in ("stall_s", "first_wait_s", "most_wait_s", "sound_s"):
            if not 0 < getattr(self, name) < float("inf"):
                msg = f"{name} must be more than 0 seconds, got {getattr(self, name)}"
                raise ValueError(msg)

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """Seconds before the next attempt after so many failures in a row."""
        most = min(self.most_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))
        return most * rng.uniform(0.5, 1.0)


class Supervisor(threading.Thread):
    """Reads `source` into `out` until `stop`, or to the source's end. Nothing is read from a live source while `mute` is on."""

    def __init__(
        self,
        stream: int,
        source: Source,
        out: queue.Queue[Block | Notice],
        *,
        sample_rate_hz: int,
        mute: Mute,
        watch: WatchConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(name=f"source {stream}", daemon=True)
        self.stream, self.source = stream, source
        self._out, self._mute, self._clock = out, mute, clock
        self._watch, self._rng = watch or WatchConfig(), rng or random.Random()  # noqa: S311 - dice for waiting
        self._health = SignalHealth(sample_rate_hz, self._watch.health)
        self._ended = threading.Event()
        self._failures = 0
        self._silence_limit_s = self._health.config.silent_s
        self._silence_known_s = 0.0

    def stop(self) -> None:
        """Ask the thread to close its source and end."""
        self._ended.set()

    def run(self) -> None:
        """The thread."""
        is_restart = False
        while not self._ended.is_set():
            if self._mute.is_on and self.source.is_live:
                self._tell(State.MUTED, "muted; the input is closed")
                while self._mute.is_on and not self._ended.wait(_POLL_S):
                    pass
                continue
            try:
                self.source.open()
                self._health.restart()
                self._tell(State.STARTING, "", is_restart=is_restart)
                self._read()
            except SourceEndedError as error:
                self._tell(State.ENDED, "" if str(error) == self.source.name else str(error), is_failure=str(error) != self.source.name)
                return
            except (SourceError, OSError) as error:
                self._broke(str(error))
            except Exception as error:  # a home's device listens on
                logger.exception("%s failed in a way that was not foreseen", self.source.name)
                self._broke(f"{self.source.name}: {type(error).__name__}")
            finally:
                self.source.close()
            is_restart = not self._mute.is_on

    def _read(self) -> None:
        """Hand on what comes until it is time to close: at a stop, a mute, or a silence that a new start may end."""
        last_s = opened_s = self._clock()
        is_first, is_stalled = True, False
        while not self._ended.is_set() and not (self.source.is_live and self._mute.is_on):
            samples = self.source.read(_POLL_S)
            now_s = self._clock()
            if samples is None:
                if now_s - last_s <= self._watch.stall_s or is_stalled:
                    continue
                if self.source.is_live:
                    msg = f"{self.source.name}: no samples for {now_s - last_s:.0f} s"
                    raise SourceError(msg)
                is_stalled = True
                self._tell(State.STALLED, f"{self.source.name}: no samples for {now_s - last_s:.0f} s; waiting")
                continue
            last_s = now_s
            samples, changes = self._health.feed(samples, now_s)
            if samples.size:
                self._put(Block(self.stream, samples, now_s, is_first or is_stalled))
            if is_first or is_stalled:
                self._tell(State.LISTENING, "")
                is_first, is_stalled = False, False
            for change in changes:
                self._tell(State.LISTENING, f"{self.source.name}: {change}")
            if now_s - opened_s > self._watch.sound_s:
                self._failures = 0
            if self._is_silent_too_long(now_s):
                return

    def _is_silent_too_long(self, now_s: float) -> bool:
        """Whether a live source that gives digital silence is to be opened again: at once, then after twice as long each time."""
        if Problem.SILENT not in self._health.problems:
            self._silence_limit_s, self._silence_known_s = self._health.config.silent_s, 0.0
            return False
        if not self.source.is_live or (self._silence_known_s and now_s - self._silence_known_s < self._silence_limit_s):
            return False
        self._silence_limit_s, self._silence_known_s = min(2 * self._silence_limit_s, 3_600.0), now_s
        return True

    def _broke(self, cause: str) -> None:
        self._failures += 1
        wait_s = self._watch.wait_s(self._failures, self._rng)
        self._tell(State.DOWN, f"{cause}; opened again in {wait_s:.1f} s", is_failure=True)
        self._ended.wait(wait_s)

    def _tell(self, state: State, text: str, *, is_restart: bool = False, is_failure: bool = False) -> None:
        text = text.removeprefix(f"{self.source.name}: ")  # who reports it names the input
        self._put(Notice(self.stream, state, text, tuple(sorted(self._health.problems)), is_restart, is_failure))

    def _put(self, message: Block | Notice) -> None:
        """Wait for room, which holds back a file that is read faster than it is scored."""
        while not self._ended.is_set():
            try:
                self._out.put(message, timeout=_POLL_S)
            except queue.Full:
                continue
            return
