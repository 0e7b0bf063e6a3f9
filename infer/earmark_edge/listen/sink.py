"""Where closed detections go: nowhere beyond the report, or into the sealed outbox, which a thread of its own empties."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from random import SystemRandom
from typing import Protocol

from earmark_edge.bundle_store import BundleRefusedError
from earmark_edge.consent import ConsentError
from earmark_edge.courier import Courier, MutedError
from earmark_edge.decide import Rules
from earmark_edge.detector import Detection
from earmark_edge.keys import KeyFileError
from earmark_edge.listen.updates import Told, Updates
from earmark_edge.outbox import Origin, Parcel, pack
from earmark_edge.policy import PolicyError
from earmark_edge.salvage import is_damage
from earmark_edge.spool import SpoolError
from earmark_edge.uplink import Uplink, UplinkError
from earmark_edge.wire import WireError

logger = logging.getLogger(__name__)

BEAT_S = 60.0
POLICY_S = 3_600.0
_RETRY_S = 30.0
_POLL_S = 2.0
"""How long the end of a mute may wait to be noted, and a beat that is due; a new event waits for nothing."""


@dataclass(frozen=True, slots=True)
class Flagged:
    """A detection on its way out: number `seq` of its stream, whose times it is in; `with_audio` unless the cap holds its audio back.

    `slice_probability`: with which it was drawn, for what was not flagged.
    `stream`: the input's name, which stays in the home.
    """

    detection: Detection
    seq: int
    boot_id: str
    started_at: datetime
    wall_uncertainty_s: float
    with_audio: bool
    slice_probability: float | None = None
    stream: str = ""

    @property
    def onset_at(self) -> datetime:
        """When it began, by the wall clock."""
        return self.started_at + timedelta(seconds=self.detection.onset_s)


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat says of one stream: `canary` is passed, missed, or empty where none was played; `missed` counts since the start."""

    boot_id: str
    next_seq: int
    canary: str
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two heartbeats, between two questions for policy and bundle, and before a delivery that failed is tried again."""

    beat_s: float = BEAT_S
    ask_s: float = POLICY_S
    retry_s: float = _RETRY_S


class Sink(Protocol):
    """Takes what may leave the device. Canaries never come here."""

    def take(self, flagged: Flagged) -> str:
        """Keep or send it; returns the word for the report, such as `sealed`. It does not wait for a network."""

    def start(self, beats: Callable[[], Iterable[Beat]]) -> None:
        """Begin to deliver; `beats` gives what there is to say of each stream at the time."""

    def use(self, rules: Rules) -> None:
        """Another bundle runs from now on."""

    def slice_probability(self) -> float:
        """With which a sound below the threshold may be drawn now; 0 for not at all."""

    def draw(self) -> float | None:
        """Draw a sound below the threshold, or not: the probability with which it was drawn, or None."""

    def counts(self) -> dict[str, int]:
        """How many wait, were sent, and stayed here."""

    def close(self) -> None:
        """The device stops; what waits is kept."""


class ReportOnly:
    """Nothing leaves."""

    def take(self, flagged: Flagged) -> str:
        """Forget it."""
        del flagged
        return "kept here"

    def start(self, beats: Callable[[], Iterable[Beat]]) -> None:
        """Nothing."""

    def use(self, rules: Rules) -> None:
        """Nothing."""

    def slice_probability(self) -> float:
        """Nothing."""
        return 0.0

    def draw(self) -> float | None:
        """Nothing."""

    def counts(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Nothing."""


class CourierSink:
    """Seals into the outbox as events close, in the caller's thread; delivers, beats and asks for policy in one of its own.

    `sealing` and `sending` are couriers of the same device with a connection each to its outbox. `is_muted`: whether anything mutes, a
    switch included; nothing is delivered then, but heartbeats go on, since that the device is muted is what they tell.
    """

    def __init__(
        self,
        sealing: Courier,
        sending: Courier,
        uplink: Callable[[Callable[[float], None]], Uplink],
        rules: Rules,
        *,
        is_muted: Callable[[], bool],
        updates: Updates | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._updates, self._pace = updates, pace or Pace()
        self._sealing, self._sending, self._uplink, self._rules = sealing, sending, uplink, rules
        self._is_muted, self._chance = is_muted, SystemRandom().random
        self._sent = self._kept = self._failed_beats = 0
        self._spooled = sealing.spool.counts()
        self._beats: Callable[[], Iterable[Beat]] = tuple
        self._is_closing, self._has_news = threading.Event(), threading.Event()
        self._mending = threading.Lock()
        self._told_misses: dict[str, int] = {}
        self._thread = threading.Thread(target=self._deliver_all, name="courier", daemon=True)

    def start(self, beats: Callable[[], Iterable[Beat]]) -> None:
        """See `Sink.start`."""
        self._beats = beats
        self._thread.start()

    def use(self, rules: Rules) -> None:
        """See `Sink.use`."""
        self._rules = rules

    def take(self, flagged: Flagged) -> str:
        """Seal its event and objects and put them on the disk, durably."""
        origin = Origin(flagged.boot_id, flagged.started_at, flagged.wall_uncertainty_s, "none yet")
        try:
            self._accept(
                pack(
                    flagged.detection,
                    flagged.seq,
                    origin,
                    self._rules,
                    with_audio=flagged.with_audio,
                    slice_probability=flagged.slice_probability,
                )
            )
        except (ConsentError, MutedError, PolicyError, KeyFileError, SpoolError, WireError, sqlite3.Error, OSError) as error:
            self._kept += 1
            logger.warning("an event stays here: %s", error)
            return "stays here"
        self._has_news.set()
        return "sealed"

    def _accept(self, parcel: Parcel) -> None:
        """Into the outbox, or into the fresh one that takes its place where it turns out to be damaged."""
        self._mend_if_moved(self._sealing)
        try:
            self._sealing.accept(parcel)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._mend(self._sealing)
            self._sealing.accept(parcel)

    def _mend_if_moved(self, courier: Courier) -> None:
        if courier.spool.is_moved:
            self._mend(courier)

    def _mend(self, courier: Courier) -> None:
        """Open a courier's outbox anew, one courier at a time: the second must not move aside what the first has just begun."""
        with self._mending:
            courier.reopen_spool()

    def slice_probability(self) -> float:
        """See `Sink.slice_probability`."""
        return self._sealing.slice_probability()

    def draw(self) -> float | None:
        """See `Sink.draw`; each sound by itself, so that their number follows from the probability alone."""
        probability = self._sealing.slice_probability()
        return probability if self._chance() < probability else None

    def counts(self) -> dict[str, int]:
        """See `Sink.counts`."""
        with contextlib.suppress(sqlite3.Error):  # a status is not worth ending the listening for; what was known last stands
            self._spooled = self._sealing.spool.counts()
        return {
            "waiting": self._spooled.events,
            "waiting_bytes": self._spooled.waiting_bytes,
            "dropped_objects": self._spooled.dropped,
            "set_aside": self._spooled.set_aside,
            "sent": self._sent,
            "stayed_here": self._kept,
            "failed_heartbeats": self._failed_beats,
        }

    def close(self) -> None:
        """Stop sending; the outbox keeps what waits."""
        self._is_closing.set()
        self._has_news.set()
        if self._thread.is_alive():
            self._thread.join()

    def _deliver_all(self) -> None:
        def pause(seconds: float) -> None:
            self._is_closing.wait(seconds)

        while not self._is_closing.is_set():
            try:
                with self._uplink(pause) as uplink:
                    self._rounds(uplink)
            except Exception as error:  # a device that hears but has ceased to send would be worse than one that tries again
                if is_damage(error):
                    self._mend_sending()
                else:
                    logger.exception("delivery failed in a way that was not foreseen, and begins again")
                pause(self._pace.retry_s)

    def _mend_sending(self) -> None:
        try:
            self._mend(self._sending)
        except (SpoolError, sqlite3.Error, OSError) as error:
            logger.warning("the outbox is damaged and cannot be mended yet: %s", error)

    def _rounds(self, uplink: Uplink) -> None:
        """Beat, ask and deliver, each when it is due, until the device stops."""
        due_s = {"beat": 0.0, "policy": 0.0, "delivery": 0.0}
        while not self._is_closing.is_set():
            self._mend_if_moved(self._sending)
            now_s = time.monotonic()
            if now_s >= due_s["beat"]:
                self._send_beats(uplink)
                due_s["beat"] = now_s + self._pace.beat_s
            if now_s >= due_s["policy"] and not self._is_muted():
                self._ask_policy(uplink)
                self._ask_bundle(uplink)
                due_s["policy"] = now_s + self._pace.ask_s
            if now_s >= due_s["delivery"] and not self._is_muted():
                due_s["delivery"] = now_s + (self._pace.retry_s if self._deliver(uplink) else 0.0)
            self._has_news.wait(min(_POLL_S, self._pace.retry_s))
            self._has_news.clear()

    def _deliver(self, uplink: Uplink) -> bool:
        """Send what is due; returns whether there is trouble, after which to wait a while."""
        try:
            if not self._sending.spool.counts().events:
                return False
            done = self._sending.deliver(uplink)
        except SpoolError as error:
            logger.warning("the outbox cannot be read: %s", error)
            return True
        self._sent += done.delivered
        if done.trouble and not self._is_closing.is_set():
            logger.warning("events wait: %s", done.trouble)
        return bool(done.trouble)

    def _send_beats(self, uplink: Uplink) -> None:
        config, model = self._rules.sha256, self._rules.spec.graph_sha256
        bundle = self._updates.told() if self._updates else Told()
        for beat in self._beats():
            # A miss is told once, though the next canary was heard before the service could be reached.
            canary = "missed" if beat.missed > self._told_misses.get(beat.boot_id, 0) else beat.canary
            told = self._sending.heartbeat(beat.boot_id, beat.next_seq, config, model, canary)
            try:
                uplink.heartbeat(replace(told, is_muted=self._is_muted(), **asdict(bundle)))
            except UplinkError as error:
                self._failed_beats += 1
                logger.info("a heartbeat was not taken: %s", error)
                return
            self._told_misses[beat.boot_id] = beat.missed

    def _ask_policy(self, uplink: Uplink) -> None:
        try:
            self._sending.adopt_policy(uplink)
        except (PolicyError, ConsentError, MutedError, UplinkError, KeyFileError) as error:
            logger.warning("no new policy: %s", error)

    def _ask_bundle(self, uplink: Uplink) -> None:
        if self._updates is None:
            return
        try:
            self._updates.check(uplink)
        except (BundleRefusedError, UplinkError, KeyFileError) as error:
            logger.warning("no new bundle: %s", error)
