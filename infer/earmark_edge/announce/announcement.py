"""What the household's own systems are told of an event: that it happened. No score, no sound, nothing of what was not flagged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid5

from earmark_edge.consent import Consent
from earmark_edge.listen.sink import Flagged
from earmark_edge.wire import MAX_JSON_INTEGER, Message, check_id, is_utc, require
from earmark_model.contract import LABELS

_NAMESPACE = UUID("0c0f6bf0-2a6b-5a35-9a43-8f6f3a5b1d11")


@dataclass(frozen=True, slots=True)
class Announcement(Message):
    """That a sound was flagged. `announcement_id` tells a repetition from another event; `incident` is shared by parts of one happening.

    `at`: when it began, ISO 8601 in UTC. `count`: how many events the input had since the device started, this one included.
    """

    _name = "announcement"

    announcement_id: str
    stream: str
    label: str
    at: str
    incident: str
    count: int

    def __post_init__(self) -> None:
        for name in ("announcement_id", "stream", "incident"):
            check_id(name, getattr(self, name))
        require(self.label in LABELS, "label", f"one of {', '.join(LABELS)}", self.label)
        require(is_utc(self.at), "at", "an ISO 8601 time in UTC", self.at)
        require(0 < self.count <= MAX_JSON_INTEGER, "count", "1 or more, below 2^53", self.count)

    @classmethod
    def of(cls, flagged: Flagged, count: int) -> Announcement:
        """What is told of a detection, the `count`th of its input."""
        incident = str(uuid5(_NAMESPACE, f"{flagged.boot_id}:{flagged.detection.incident}"))
        announced = str(uuid5(_NAMESPACE, f"{flagged.boot_id}:event:{flagged.seq}"))
        at = flagged.onset_at.isoformat(timespec="seconds")
        return cls(announced, flagged.stream or "microphone", flagged.detection.label, at, incident, count)

    def as_json(self) -> Mapping[str, Any]:
        """For programs."""
        return asdict(self)

    def is_covered_by(self, consent: Consent) -> bool:
        """Whether the household lets this sound be told of."""
        return self.label in consent.labels


@dataclass(frozen=True, slots=True)
class Pulse:
    """The device in counts, as the household's systems are told now and then; `events` is None where no consent stands."""

    events: int | None
    is_muted: bool
    canary: str
