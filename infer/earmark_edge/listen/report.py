"""What `earmark edge listen` prints: events as they close, and what becomes of the inputs. No score of anything that was not flagged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Protocol

from earmark_edge.listen.canary import CanaryResult
from earmark_edge.listen.sink import Flagged
from earmark_edge.listen.supervisor import Notice
from earmark_edge.oneline import one_line

logger = logging.getLogger(__name__)


class ListenReport(Protocol):
    """Takes what happens as it happens; `name` is the input's, `at` the wall time."""

    def event(self, name: str, flagged: Flagged, at: datetime, delivery: str) -> None:
        """An event closed."""

    def canary(self, name: str, result: CanaryResult, at: datetime) -> None:
        """A canary was heard or missed."""

    def source(self, name: str, notice: Notice, at: datetime) -> None:
        """An input changed its state, or its signal did."""

    def mute(self, reasons: tuple[str, ...], at: datetime) -> None:
        """Muted, or (without reasons) no longer."""

    def tell(self, line: str) -> None:
        """A warning or another remark."""


class LinesReport:
    """Events to stdout, one line each; everything else to stderr."""

    def event(self, name: str, flagged: Flagged, at: datetime, delivery: str) -> None:
        """Time, input, label, length, score, reason, what becomes of it."""
        each = flagged.detection
        audio = "" if flagged.with_audio else ", without audio (the cap of this hour is reached)"
        span = f"{each.label} for {each.duration_s:.1f} s, {each.peak_score:.2f} at a threshold of {each.threshold:.2f}"
        sys.stdout.write(f"{_clock(at)}  {name}: {span} ({each.reason.value}), incident {each.incident}; {delivery}{audio}\n")
        sys.stdout.flush()

    def canary(self, name: str, result: CanaryResult, at: datetime) -> None:
        """On stderr, since it is no event of the home's."""
        said = f"{result.label} {result.peak_score:.2f} at a threshold of {result.threshold:.2f}" if result.label else "no sound came"
        outcome = f"canary heard: {said}" if result.is_heard else f"canary MISSED: {said}; a real scream may be missed too"
        self.tell(f"{_clock(at)}  {name}: {outcome}")

    def source(self, name: str, notice: Notice, at: datetime) -> None:
        """State and cause."""
        self.tell(f"{_clock(at)}  {name}: {notice.text or notice.state.value}")

    def mute(self, reasons: tuple[str, ...], at: datetime) -> None:
        """Which mutes there are."""
        self.tell(
            f"{_clock(at)}  " + (f"muted by {' and '.join(reasons)}; what was held in memory is wiped" if reasons else "no longer muted")
        )

    def tell(self, line: str) -> None:
        """On stderr."""
        sys.stderr.write(one_line(line, 1_000) + "\n")
        sys.stderr.flush()


class JsonReport:
    """One JSON object a line on stdout; `type` is event, canary, source, mute or notice."""

    def event(self, name: str, flagged: Flagged, at: datetime, delivery: str) -> None:
        """Times in seconds on the stream's clock; `at` is the onset's wall time."""
        each = flagged.detection
        _write(
            type="event",
            canary=False,
            stream=name,
            at=at.isoformat(),
            boot_id=flagged.boot_id,
            seq=flagged.seq,
            onset_s=each.onset_s,
            offset_s=each.offset_s,
            label=each.label,
            peak_score=each.peak_score,
            threshold=each.threshold,
            reason=each.reason.value,
            incident=each.incident,
            with_audio=flagged.with_audio,
            delivery=delivery,
        )

    def canary(self, name: str, result: CanaryResult, at: datetime) -> None:
        """As an event that is marked; the label of a missed one is empty where no sound came."""
        _write(
            type="event" if result.is_heard else "canary_missed",
            canary=True,
            stream=name,
            at=at.isoformat(),
            label=result.label,
            peak_score=result.peak_score,
            threshold=result.threshold,
        )

    def source(self, name: str, notice: Notice, at: datetime) -> None:
        """`problems` are all that the signal has at the time."""
        _write(type="source", stream=name, at=at.isoformat(), state=notice.state.value, text=notice.text, problems=list(notice.problems))

    def mute(self, reasons: tuple[str, ...], at: datetime) -> None:
        """`by` is empty once nothing mutes."""
        _write(type="mute", at=at.isoformat(), by=list(reasons))

    def tell(self, line: str) -> None:
        """A remark."""
        _write(type="notice", text=line)


def _write(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
