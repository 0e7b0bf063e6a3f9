"""Hands flagged events on to another sink, and tells the household's own systems that they happened: a thread for each of these."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from earmark_edge.announce.announcement import Announcement, Pulse
from earmark_edge.announce.destination import Destination, DestinationDownError, DestinationRefusedError
from earmark_edge.announce.mqtt import Mqtt
from earmark_edge.announce.settings import AnnounceSettings
from earmark_edge.announce.store import STORE_FILE, AnnounceStore, AnnounceStoreError
from earmark_edge.announce.webhook import Webhook
from earmark_edge.consent import Consent, ConsentError
from earmark_edge.consent_records import read_consent
from earmark_edge.decide import Rules
from earmark_edge.keys import DEVICE_KEY_FILE, KeyFileError, device_key
from earmark_edge.listen.sink import BEAT_S, Beat, Flagged, Sink
from earmark_edge.oneline import one_line
from earmark_edge.uplink import Backoff
from earmark_edge.wire import WireError

logger = logging.getLogger(__name__)
WAITS = Backoff(first_s=1.0, most_s=300.0)
_POLL_S = 0.5


def standing_consent(state: Path, now: datetime) -> Consent:
    """The household's consent, without which its own systems are told nothing either.

    Raises:
        ConsentError: there is none that stands.
    """
    if not (state / DEVICE_KEY_FILE).exists():
        msg = "there is no consent record, without which nothing leaves; the household gives it with `earmark edge consent give`"
        raise ConsentError(msg)
    try:
        consent = read_consent(state, device_key(state))
    except KeyFileError as error:
        raise ConsentError(str(error)) from error
    consent.check_holds(now)
    return consent


class AnnouncingSink:
    """A `Sink` around `inner`. What is told is on the disk first, and is told at least once within a day, or never.

    Raises:
        AnnounceStoreError: the file of announcements cannot be opened.
    """

    def __init__(
        self,
        inner: Sink,
        state: Path,
        destinations: Sequence[Destination],
        *,
        is_muted: Callable[[], bool],
        beat_s: float = BEAT_S,
        waits: Backoff = WAITS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._inner, self._state, self._destinations = inner, state, destinations
        self._is_muted, self._now = is_muted, now
        self._store = AnnounceStore(state / STORE_FILE, tell=logger.warning, now=now)
        self._is_closing = threading.Event()
        self._taken: Counter[str] = Counter()
        self._tellers = [_Teller(each, state, is_muted, beat_s, waits, now, self._is_closing) for each in destinations]

    def start(self, beats: Callable[[], Iterable[Beat]]) -> None:
        """See `Sink.start`."""
        self._inner.start(beats)

        def pulse() -> Pulse:
            canaries = {beat.canary for beat in beats()}
            canary = next((word for word in ("missed", "passed") if word in canaries), "")
            return Pulse(self._taken.total(), self._is_muted(), canary)

        for teller in self._tellers:
            teller.begin(pulse)

    def use(self, rules: Rules) -> None:
        """See `Sink.use`."""
        self._inner.use(rules)

    def slice_probability(self) -> float:
        """See `Sink.slice_probability`."""
        return self._inner.slice_probability()

    def draw(self) -> float | None:
        """See `Sink.draw`."""
        return self._inner.draw()

    def take(self, flagged: Flagged) -> str:
        """Hand it on, and keep its announcement durably; no network is waited for. Nobody is told of what was not flagged but drawn."""
        word = self._inner.take(flagged)
        if flagged.slice_probability is None:
            self._announce(flagged)
        return word

    def _announce(self, flagged: Flagged) -> None:
        self._taken[flagged.stream] += 1
        try:
            announcement = Announcement.of(flagged, self._taken[flagged.stream])
            consent = standing_consent(self._state, self._now())
            if announcement.is_covered_by(consent):
                self._store.put(announcement, [(each.name, each.address) for each in self._destinations], consent.consent_id)
        except (ConsentError, WireError, sqlite3.Error) as error:
            logger.warning("nobody is told of an event: %s", one_line(error))
        for teller in self._tellers:
            teller.has_news.set()

    def counts(self) -> dict[str, int]:
        """See `Sink.counts`."""
        try:
            counts = self._store.counts()
        except sqlite3.Error:
            counts = {}
        return {**self._inner.counts(), "announced": counts.get("sent", 0), "announcements_waiting": counts.get("waiting", 0)}

    def close(self) -> None:
        """See `Sink.close`; what waits is told at the next start."""
        self._is_closing.set()
        for teller in self._tellers:
            teller.end()
        self._store.close()
        self._inner.close()


class _Teller:
    """The thread of one destination."""

    def __init__(
        self,
        destination: Destination,
        state: Path,
        is_muted: Callable[[], bool],
        beat_s: float,
        waits: Backoff,
        now: Callable[[], datetime],
        is_closing: threading.Event,
    ) -> None:
        self._destination, self._state, self._is_muted = destination, state, is_muted
        self._beat_s, self._waits, self._now, self._is_closing = beat_s, waits, now, is_closing
        self._pulse_of: Callable[[], Pulse] = lambda: Pulse(None, is_muted=False, canary="")
        self._rng = random.Random()  # noqa: S311 - dice for waiting
        self._failures = 0
        self._was_muted = False
        self._due_s = {"beat": 0.0, "news": 0.0}
        self.has_news = threading.Event()
        self._thread = threading.Thread(target=self._run, name=destination.name, daemon=True)

    def begin(self, pulse_of: Callable[[], Pulse]) -> None:
        self._pulse_of = pulse_of
        self._thread.start()

    def end(self) -> None:
        self.has_news.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._is_closing.is_set():
            try:
                self._destination.open()
                store = AnnounceStore(self._state / STORE_FILE, now=self._now)
                try:
                    while not self._is_closing.is_set():
                        self._round(store)
                        self.has_news.wait(_POLL_S)
                        self.has_news.clear()
                finally:
                    store.close()
            except (DestinationDownError, AnnounceStoreError) as error:
                logger.warning("%s: %s", self._destination.name, error)
                self._is_closing.wait(self._waits.most_s)
            except Exception:  # a device that has ceased to tell would be worse than one that tries again
                logger.exception("telling %s failed in a way that was not foreseen, and begins again", self._destination.name)
                self._is_closing.wait(self._waits.most_s)
            finally:
                self._destination.close()

    def _round(self, store: AnnounceStore) -> None:
        now_s = time.monotonic()
        if now_s >= self._due_s["beat"] or self._is_muted() != self._was_muted:
            self._pulse()
        if now_s >= self._due_s["news"] and not self._is_muted():
            try:
                while self._tell_next(store):
                    self._failures = 0
            except DestinationDownError as error:
                self._failures += 1
                wait_s = self._waits.wait_s(self._failures, self._rng, None)
                self._due_s["news"] = now_s + wait_s
                logger.info("%s is not told yet: %s; again in %.0f s", self._destination.name, error, wait_s)

    def _tell_next(self, store: AnnounceStore) -> bool:
        """Tell the oldest that waits; False where nothing does, or nothing may be told."""
        waiting = store.next(self._destination.name)
        if waiting is None or self._is_closing.is_set() or self._is_muted():
            return False
        try:
            consent = standing_consent(self._state, self._now())
        except ConsentError as error:
            store.settle(waiting.place, "withdrawn", str(error))
            return True
        if consent.consent_id != waiting.consent_id:
            store.settle(waiting.place, "withdrawn", "the consent that it was flagged under ended")
            return True
        try:
            self._destination.send(waiting.announcement)
        except DestinationRefusedError as error:
            logger.warning("%s was not told: %s", self._destination.name, error)
            store.settle(waiting.place, "refused", str(error))
        else:
            store.settle(waiting.place, "sent")
        return True

    def _pulse(self) -> None:
        """How the device is, muted or not: that it is muted is what it tells."""
        pulse = self._pulse_of()
        self._was_muted = pulse.is_muted
        try:
            standing_consent(self._state, self._now())
        except ConsentError:
            pulse = replace(pulse, events=None)
        try:
            self._destination.pulse(pulse)
        except DestinationDownError as error:
            self._due_s["beat"] = time.monotonic() + 1.0
            logger.debug("%s: %s", self._destination.name, error)
        else:
            self._due_s["beat"] = time.monotonic() + self._beat_s


def destinations_of(settings: AnnounceSettings, labels: tuple[str, ...]) -> list[Destination]:
    """The household's systems that are to be told of events with these labels."""
    found: list[Destination] = []
    if settings.mqtt:
        found.append(Mqtt(settings.mqtt, labels, version("earmark")))
    if settings.webhook:
        found.append(Webhook(settings.webhook))
    return found
