"""From an offer to the bundle that runs: the courier's thread loads it, the listener's thread tries it and swaps it in."""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from earmark_edge.bundle_store import BundleStore
from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Heard
from earmark_edge.keys import KeyFileError
from earmark_edge.listen.shadow import PASSED, Samples, Shadow, Terms, UnfitError
from earmark_edge.oneline import one_line
from earmark_edge.scorer import Scorer
from earmark_edge.uplink import Uplink
from earmark_model.contract import BundleError

logger = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """A version on trial, loaded."""

    version: int
    scorer: Scorer


@dataclass(frozen=True, slots=True)
class Told:
    """What a heartbeat and the status say of offered bundles: the version that runs, the one taken in last, and what became of it."""

    bundle_version: int = 0
    offered_version: int = 0
    trial: str = ""


class Updates:
    """`running`: the version that runs, 0 for one that was not offered. `load` opens a bundle's folder.

    `check` and `told` are for the thread that sends, everything else is for the one that listens.
    """

    def __init__(
        self, store: BundleStore, running: int, load: Callable[[Path], Scorer], config: DecideConfig, terms: Terms | None = None
    ) -> None:
        self._store, self._running, self._load, self._config, self._terms = store, running, load, config, terms or Terms()
        self._slot: queue.SimpleQueue[Candidate] = queue.SimpleQueue()
        self._is_resumed = False
        self._candidate: Candidate | None = None
        self._shadow: Shadow | None = None
        self._stream: int | None = None
        self.has_passed = False

    def check(self, uplink: Uplink) -> None:
        """Ask for an offer, take it in where it is new, and put it on trial; a trial that the last end cut off begins again first.

        Raises:
            BundleRefusedError: the offer is not taken.
            KeyFileError: the disk does not take it.
            UplinkError: see `Uplink.bundle_offer`.
        """
        if not self._is_resumed:
            self._is_resumed = True
            self._begin()
        answer = uplink.bundle_offer()
        offer = self._store.wanted(*answer) if answer else None
        self._store.tidy(loading=offer.version if offer else 0)
        if answer and offer:
            logger.info("bundle %d is offered; loading it", offer.version)
            self._store.take(offer, *answer, lambda file: uplink.bundle_file(offer.version, file))
            self._begin()

    def told(self) -> Told:
        """How it stands."""
        shelf = self._store.shelf()
        return Told(self._running, shelf.seen, shelf.outcome)

    def feed(self, stream: int, samples: Samples, heard: Heard, running: Scorer, *, is_busy: bool) -> None:
        """What the running bundle has just heard of a stream; the trial follows the first stream that gives sound."""
        with contextlib.suppress(queue.Empty):
            self._try(self._slot.get_nowait(), running)
        if self._shadow is None or self._stream not in {None, stream}:
            return
        self._stream = stream
        outcome = self._shadow.feed(samples, heard, is_busy=is_busy)
        if outcome:
            self._shadow = self._stream = None
            self.has_passed = outcome == PASSED
        if outcome and not self.has_passed:
            self._give_up(outcome)

    def reset(self, stream: int) -> None:
        """The stream was cut off, ended or muted; the trial goes on with whichever gives sound next."""
        if self._shadow is not None and self._stream == stream:
            self._shadow.reset()
            self._stream = None

    def swap(self) -> Candidate | None:
        """Note durably that the bundle that passed runs from now on, and hand it over; None where that cannot be, or a newer one came."""
        assert self._candidate, "nothing passed"
        passed, self._candidate, self.has_passed = self._candidate, None, False
        try:
            if not self._store.adopt(passed.version):
                return None
        except KeyFileError as error:
            logger.warning("bundle %d passed its trial and cannot be kept: %s; the next start tries again", passed.version, error)
            return None
        self._running = passed.version
        return passed

    def close(self) -> None:
        """The device ends in order."""
        try:
            self._store.pause_trial()
        except KeyFileError as error:
            logger.warning("the end of a trial cannot be noted: %s", error)

    def _begin(self) -> None:
        version = self._store.begin_trial()
        if not version:
            return
        try:
            self._slot.put(Candidate(version, self._load(self._store.folder(version))))
        except BundleError as error:
            logger.warning("bundle %d is unfit: %s", version, error)
            self._store.give_up(version, "unfit")

    def _try(self, candidate: Candidate, running: Scorer) -> None:
        self._candidate, self._shadow, self._stream, self.has_passed = candidate, None, None, False
        try:
            self._shadow = Shadow(candidate.scorer, running, self._config, self._terms)
        except UnfitError as error:
            logger.warning("bundle %d is unfit: %s", candidate.version, error)
            self._give_up("unfit")

    def _give_up(self, outcome: str) -> None:
        assert self._candidate, "nothing is on trial"
        version, self._candidate = self._candidate.version, None
        logger.warning("bundle %d failed its trial (%s); the one that ran goes on", version, outcome)
        try:
            self._store.give_up(version, outcome)
        except KeyFileError as error:
            logger.warning("that cannot be noted: %s", one_line(error))
