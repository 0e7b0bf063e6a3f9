"""The smaller messages of the wire: enrolment, dropped objects, heartbeats, and what became of a household's events."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from earmark_edge.bundle_offer import TRIAL_WORDS
from earmark_edge.signature import KEY_BYTES
from earmark_edge.wire import (
    MAX_JSON_INTEGER,
    Message,
    WireError,
    canonical_json,
    check_id,
    check_tiers,
    checked,
    is_sha256,
    is_utc,
    parse_object,
    require,
)

MAX_MESSAGE_BYTES = 4096
_CANARIES = ("", "passed", "missed")
_COUNTS = (
    *("next_seq", "waiting_events", "waiting_bytes", "dropped_objects", "set_aside"),
    *("policy_version", "bundle_version", "offered_version"),
)


@dataclass(frozen=True, slots=True)
class EnrolRequest(Message):
    """A device's first words: its one-time code and its raw Ed25519 public key in base64, signed by that key."""

    _name = "enrolment"

    code: str
    public_key: str

    def __post_init__(self) -> None:
        check_id("code", self.code)
        key_of("public_key", self.public_key)


@dataclass(frozen=True, slots=True)
class Enrolled(Message):
    """The service's answer: the device's name and token, and the service's public keys in base64; signed by the second of them."""

    _name = "enrolment answer"

    device: str
    token: str
    sealing_key: str
    signing_key: str

    def __post_init__(self) -> None:
        check_id("device", self.device)
        check_id("token", self.token)
        require(self.token.isascii() and " " not in self.token, "token", "ASCII without blanks", "something else")
        key_of("sealing_key", self.sealing_key)
        key_of("signing_key", self.signing_key)


@dataclass(frozen=True, slots=True)
class Dropped(Message):
    """Objects of an event that the device gave up for want of space: they will never come."""

    _name = "dropped"

    event_id: str
    event_sha256: str
    tiers: tuple[int, ...]

    def __post_init__(self) -> None:
        check_id("event_id", self.event_id)
        require(is_sha256(self.event_sha256), "event_sha256", "a SHA-256", self.event_sha256)
        require(bool(check_tiers("tiers", self.tiers)), "tiers", "at least one tier", self.tiers)


@dataclass(frozen=True, slots=True)
class Heartbeat(Message):
    """That a device lives, in counts only: never scores, never what was heard.

    `boot_id` and `next_seq`: the stream that runs, and the number that its next event will bear. `waiting_events` and `waiting_bytes`: what
    lies in the outbox; `dropped_objects` and `set_aside`: what was given up for want of space, and what the service refused.
    `canary`: how the last known sound fared, "passed" or "missed", or "" where none was played. `bundle_version`: the offered bundle that
    runs, 0 for another; `offered_version`: the one that was taken in last, and `trial` what became of it, one of `TRIAL_WORDS`.
    """

    _name = "heartbeat"

    sent_at: str
    boot_id: str
    next_seq: int
    waiting_events: int
    waiting_bytes: int
    dropped_objects: int
    set_aside: int
    is_muted: bool
    canary: str
    config_sha256: str
    model_sha256: str
    consent_id: str
    policy_version: int
    bundle_version: int = 0
    offered_version: int = 0
    trial: str = ""

    def __post_init__(self) -> None:
        require(is_utc(self.sent_at), "sent_at", "an ISO 8601 time in UTC", self.sent_at)
        check_id("boot_id", self.boot_id)
        for name in _COUNTS:
            require(0 <= getattr(self, name) <= MAX_JSON_INTEGER, name, "0 or more, below 2^53", getattr(self, name))
        require(isinstance(self.is_muted, bool), "is_muted", "true or false", self.is_muted)
        require(self.canary in _CANARIES, "canary", f"one of {_CANARIES}", self.canary)
        require(self.trial in TRIAL_WORDS, "trial", f"one of {TRIAL_WORDS}", self.trial)
        for name in ("config_sha256", "model_sha256"):
            require(is_sha256(getattr(self, name)), name, "a SHA-256", getattr(self, name))
        if self.consent_id:
            check_id("consent_id", self.consent_id)


@dataclass(frozen=True, slots=True)
class Look:
    """That someone looked at or heard an object: in which role, at what, and when."""

    role: str
    evidence: str
    at: str


@dataclass(frozen=True, slots=True)
class Status:
    """What became of an event: the state of its case, who looked, and each verdict with its time; `state` is "deleted" once it is gone."""

    event_id: str
    state: str
    looks: tuple[Look, ...] = ()
    verdicts: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        check_id("event_id", self.event_id)
        check_id("state", self.state)
        is_table = self.verdicts is None or all(isinstance(at, str) and is_utc(at) for at in self.verdicts.values())
        require(is_table, "verdicts", "a time in UTC for each verdict", self.verdicts)


def statuses_bytes(statuses: list[Status], device_id: str) -> bytes:
    """The answer that the service signs; `device_id` binds it to the device that asked."""
    return canonical_json({"device_id": device_id, "statuses": [asdict(status) for status in statuses]})


def read_statuses(payload: bytes, device_id: str) -> list[Status]:
    """Parse and validate an answer to this very device.

    Raises:
        WireError: not of the documented form, or for another device.
    """
    raw = parse_object(payload, "statuses")
    require(raw.get("device_id") == device_id, "device_id", "this device", raw.get("device_id"))
    require(isinstance(raw.get("statuses"), list), "statuses", "a list", raw.get("statuses"))
    return [_status(entry) for entry in raw["statuses"]]


def status_of(payload: bytes) -> Status:
    """A status as the outbox keeps it.

    Raises:
        WireError: not of the documented form.
    """
    return _status(parse_object(payload, "status"))


def _status(raw: Any) -> Status:
    try:
        fields = checked(raw, Status)
        looks = tuple(Look(**checked(look, Look)) for look in fields.pop("looks", ()))
        return Status(**fields, looks=looks)
    except WireError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        msg = f"status: not of the documented form ({error})"
        raise WireError(msg) from error


def key_of(name: str, text: str) -> bytes:
    """A raw 32-byte key from its base64.

    Raises:
        WireError: it is none.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    require(len(key) == KEY_BYTES, name, f"{KEY_BYTES} bytes in base64", text)
    return key


def tombstone_bytes(device_id: str, event_id: str) -> bytes:
    """What the service signs to say that a device's event was deleted: the one thing but a receipt on which the device wipes."""
    return canonical_json({"device_id": device_id, "event_id": event_id})
