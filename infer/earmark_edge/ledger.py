"""What left a home, when, why, who heard it, and what was decided: in words for the household. Texts in, texts out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from earmark_edge.announce.store import Announced
from earmark_edge.event import Event
from earmark_edge.messages import Status
from earmark_model.contract import Reason

TIER_NAMES: Mapping[int, str] = {
    0: "scores over time",
    1: "a picture of its loudness in bands",
    2: "masked audio",
    3: "the sound itself",
}
_LABELS = {"scream": "a scream", "cry": "crying", "baby_cry": "a baby's cry", "shout": "a shout"}
_STATES = {
    "waiting": "nothing of it has left yet; it waits in this device's outbox",
    "announced": "that it happened was sent; some of it still waits here",
    "delivered": "sent",
    "gone": "sent, and deleted by the review service",
    "withdrawn": "nothing more of it left: consent ended, and it was wiped here",
}
_REASONS = {
    Reason.ABOVE_THRESHOLD: "which is enough to be flagged",
    Reason.HELD_BY_HYSTERESIS: "still part of what had been flagged just before",
    Reason.BELOW_THRESHOLD: "which is too little to be flagged",
    Reason.SPEECH_ONLY: "with speech alone",
    Reason.ROUTED_UNVERIFIED: "which is enough to be flagged, though nobody has measured how many such sounds that threshold misses",
}
_ANNOUNCED = {
    "waiting": "waits to be told",
    "sent": "told",
    "refused": "refused there, and not told",
    "expired": "not told within a day, and given up",
    "withdrawn": "not told: consent ended",
}
_CASES = {
    "awaiting_clip": "the review service waits for the rest of it",
    "ready": "nobody has looked at it yet",
    "leased": "a reviewer has it open",
    "decided": "decided",
    "second_review": "it waits for a second reviewer",
    "adjudication": "two reviewers disagreed, and a senior reviewer is to settle it",
    "escalated": "handed to someone who has to act on it",
    "final": "closed",
    "expired": "closed undecided, since nobody looked at it in time",
    "shredded": "closed, and its sound can never be opened again",
    "withdrawn": "closed undecided, since consent ended",
    "deleted": "deleted by the review service",
}
_VERDICTS = {
    "distress": "somebody was in distress",
    "play": "a tantrum or play",
    "media": "television or another loudspeaker",
    "other_sound": "another sound",
    "cannot_tell": "it could not be told",
    "escalate": "someone else should judge it",
}
_PIECE_OF_TIER = re.compile(r"(\w+) of tier ([0-3])")
"""How the service names a piece of evidence, such as `audio of tier 2`."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One event as the outbox and the service know it."""

    event: Event
    state: str
    sent_at: str | None
    held: tuple[int, ...]
    waiting: tuple[int, ...]
    dropped: tuple[int, ...]
    trouble: str
    status: Status | None

    @classmethod
    def of(cls, row: Any, status: Status | None) -> LedgerEntry:
        """From a row of `Spool.rows`."""
        held, waiting, dropped = (_tiers(row[name]) for name in ("held", "waiting", "dropped"))
        return cls(Event.from_bytes(row["payload"]), row["state"], row["received_at"], held, waiting, dropped, row["trouble"], status)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        status = self.status
        return {
            "event_id": self.event.event_id,
            "happened_at": self.event.wall_time,
            "label": self.event.label,
            "seconds": round(self.event.offset_s - self.event.onset_s, 2),
            "reason": self.event.reason.value,
            "audio_withheld": self.event.audio_withheld,
            "slice_probability": self.event.slice_probability,
            "consent_id": self.event.consent_id,
            "state": self.state,
            "sent_at": self.sent_at,
            "tiers_sent": self.held,
            "tiers_waiting": self.waiting,
            "tiers_dropped": self.dropped,
            "trouble": self.trouble,
            "case": status.state if status else None,
            "looks": [{"role": look.role, "evidence": look.evidence, "at": look.at} for look in status.looks] if status else None,
            "verdicts": dict(status.verdicts or {}) if status else None,
        }


def lines_of(entry: LedgerEntry) -> list[str]:
    """The entry in plain words; the first line stands by itself."""
    event = entry.event
    what = _LABELS.get(event.label, event.label)
    seconds = event.offset_s - event.onset_s
    took = f"what the device took for {what}"
    if event.slice_probability is not None:
        took = f"a sound that it did not flag, most like {what}, drawn by chance ({event.slice_probability:.1%}) to count what it misses"
    lines = [f"{_when(event.wall_time)}: {took}, {seconds:.1f} seconds ({_STATES[entry.state]})"]
    why = f"the device was {event.peak_score:.0%} sure of it and flags from {event.threshold:.0%} on, {_REASONS[event.reason]}"
    lines.append(f"why: {why}; under consent {event.consent_id}")
    if entry.sent_at:
        held = ", ".join(TIER_NAMES[tier] for tier in entry.held)
        lines.append(f"left: on {_when(entry.sent_at)}, that it happened" + (f", with {held}" if held else ""))
    if event.audio_withheld:
        lines.append("its audio stayed at home and is gone: the cap of audio for that hour was reached")
    if entry.waiting:
        lines.append(f"waits here, sealed: {', '.join(TIER_NAMES[tier] for tier in entry.waiting)}")
    if entry.dropped:
        lines.append(f"never left, wiped for want of space: {', '.join(TIER_NAMES[tier] for tier in entry.dropped)}")
    if entry.trouble:
        lines.append(f"not taken so far: {entry.trouble}")
    return lines + _became(entry.status)


def announced_json(each: Announced) -> dict[str, Any]:
    """What one of the household's own systems was told, for programs."""
    words = {"told": each.destination, "address": each.address, "state": each.state, "settled_at": each.settled_at, "trouble": each.trouble}
    return {**each.announcement.as_json(), "consent_id": each.consent_id, **words}


def lines_of_announced(each: Announced) -> list[str]:
    """The same in plain words."""
    what = _LABELS.get(each.announcement.label, each.announcement.label)
    state = _ANNOUNCED[each.state] + (f" on {_when(each.settled_at)}" if each.settled_at else "")
    lines = [f"{_when(each.announcement.at)}: for your own {each.destination} at {each.address} ({state})"]
    lines.append(f"what: that the device took something for {what}, when, at which input and in which incident; no sound and no score")
    if each.trouble:
        lines.append(f"why: {each.trouble}")
    return lines


def _became(status: Status | None) -> list[str]:
    if status is None:
        return []
    lines = [f"{_evidence(look.evidence)}, by a {look.role.replace('_', ' ')}, on {_when(look.at)}" for look in status.looks]
    if not status.looks:
        lines.append("seen: by nobody, as far as the review service's log says")
    decided = [f"decided: {_VERDICTS.get(verdict, verdict)}, on {_when(at)}" for verdict, at in (status.verdicts or {}).items()]
    return lines + (decided or [f"now: {_CASES.get(status.state, status.state)}"])


def _evidence(text: str) -> str:
    """What was seen or heard; words of a later service stand as they are.

    >>> _evidence("audio of tier 2"), _evidence("waveform of tier 3"), _evidence("pictures and scores")
    ('heard: masked audio', 'seen: waveform of the sound itself', 'seen: pictures and scores')
    """
    found = _PIECE_OF_TIER.fullmatch(text)
    if found is None:
        return f"seen: {text}"
    kind, name = found[1], TIER_NAMES[int(found[2])]
    return f"heard: {name}" if kind == "audio" else f"seen: {kind} of {name}"


def _when(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:  # the rest of the entry is worth telling all the same
        return "a time that this device's disk lost"


def _tiers(text: str | None) -> tuple[int, ...]:
    return tuple(sorted(int(tier) for tier in text.split(","))) if text else ()
