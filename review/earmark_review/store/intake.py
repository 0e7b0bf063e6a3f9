"""Takes events and their objects from devices: once each, whatever is repeated and in whatever order it comes."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, update

from earmark_edge.event import Event, Receipt
from earmark_edge.messages import Dropped
from earmark_review import audit
from earmark_review.cases import CLOSED_STATES, CaseState, Move, Queue, Severity, severity_of
from earmark_review.errors import ConsentRequiredError, EventDeletedError, UnknownEventError
from earmark_review.store.consents import consent_gap, gap_under
from earmark_review.store.devices import Device, mark_seen
from earmark_review.store.moves import move_from
from earmark_review.store.numbers import number_event
from earmark_review.store.schema import cases, consents, devices, dropped_objects, event_signatures, events, objects, tombstones

# Statements are made once: to build one, and to work out the key that finds its text, takes longer than to run it.
_OF_EVENT = (events.c.device_id == bindparam("device_id"), events.c.event_id == bindparam("event_id"))
_EVENT = select(events.c.event_row, events.c.sha256, events.c.received_at).where(*_OF_EVENT)
_OF_TOMBSTONE = (tombstones.c.device_id == bindparam("device_id"), tombstones.c.event_id == bindparam("event_id"))
_TOMBSTONE = select(tombstones.c.event_id).where(*_OF_TOMBSTONE)
_BEFORE = (  # one row, whatever is there: what decides on an event is asked for at once
    select(tombstones.c.event_id.label("deleted"), events.c.sha256, consents.c.payload.label("consent"))
    .select_from(devices)
    .outerjoin(tombstones, and_(*_OF_TOMBSTONE))
    .outerjoin(events, and_(*_OF_EVENT))
    .outerjoin(consents, and_(consents.c.device_id == bindparam("device_id"), consents.c.consent_id == bindparam("consent_id")))
    .where(devices.c.device_id == bindparam("device_id"))
)
_HELD = (
    select(events.c.sha256, events.c.received_at, objects.c.tier, objects.c.blob_key, dropped_objects.c.object_id.label("dropped"))
    .outerjoin_from(events, objects, objects.c.event_row == events.c.event_row)
    .outerjoin(dropped_objects, dropped_objects.c.object_id == objects.c.object_id)
    .where(*_OF_EVENT)
    .order_by(objects.c.tier)
)
_DECLARED = select(objects, events.c.payload).join_from(events, objects).where(*_OF_EVENT, objects.c.tier == bindparam("tier"))
_TIERS = select(objects.c.tier).where(objects.c.event_row == bindparam("event_row")).order_by(objects.c.tier)
_CASE = (
    select(cases.c.case_id, cases.c.state, cases.c.queue).where(cases.c.event_row == bindparam("event_row")).with_for_update(key_share=True)
)
_ADD_EVENT = insert(events).returning(events.c.event_row)
_ADD_SIGNATURE, _ADD_OBJECTS, _ADD_CASE = insert(event_signatures), insert(objects), insert(cases)
_HOLD = update(objects).where(objects.c.object_id == bindparam("held_id"), objects.c.blob_key.is_(None))


class Intake(Enum):
    """What became of an event."""

    NEW = auto()
    SAME = auto()
    """These very bytes were here already."""
    CONFLICT = auto()
    """Other bytes came under this id before; the first ones stand."""
    DELETED = auto()
    UNCONSENTED = auto()
    """No record of consent that its device sent covers it."""


@dataclass(frozen=True, slots=True)
class DeclaredObject:
    """An object that an event declares; `blob_key` is None until its bytes are held."""

    object_id: int
    event_row: int
    event_id: str
    tier: int
    media_type: str
    length: int
    sha256: str
    blob_key: str | None
    wrapped_sha256: str | None = None


def take_event(conn: Connection, device: Device, event: Event, payload: bytes, signature: bytes, now: datetime) -> tuple[Intake, str]:
    """Store an event and open its case, or say why not, with what its household's consent lacks where that is why.

    The caller commits in every case: refusals are audited too.
    """
    mark_seen(conn, device, now)
    subject, sha256 = event_subject(device, event.event_id), hashlib.sha256(payload).hexdigest()
    before = conn.execute(_BEFORE, {**_names(device, event.event_id), "consent_id": event.consent_id}).one()
    if before.deleted is not None:
        audit.append(conn, now, f"device:{device.name}", audit.Action.EVENT_REPLAYED, subject, {"sha256": sha256})
        return Intake.DELETED, ""
    if before.sha256 is not None:
        if before.sha256 == sha256:
            return Intake.SAME, ""
        hashes = {"held_sha256": before.sha256, "given_sha256": sha256}
        audit.append(conn, now, f"device:{device.name}", audit.Action.EVENT_CONFLICT, subject, hashes)
        return Intake.CONFLICT, ""
    if gap := gap_under(before.consent, event):
        audit.append(conn, now, f"device:{device.name}", audit.Action.EVENT_UNCONSENTED, subject, {"sha256": sha256})
        return Intake.UNCONSENTED, gap
    event_row = _insert_event(conn, device, event, payload, sha256, now)
    conn.execute(_ADD_SIGNATURE, {"event_row": event_row, "signature": signature})
    number_event(conn, device, event, now)
    case_id = _open_case(conn, event_row, event, now)
    detail = {"sha256": sha256, "case": case_id, "label": event.label, "tiers": [clip.tier for clip in event.clips]}
    audit.append(conn, now, f"device:{device.name}", audit.Action.EVENT_RECEIVED, subject, detail)
    return Intake.NEW, ""


def event_subject(device: Device, event_id: str) -> str:
    """How the audit log names an event."""
    return f"event:{device.name}/{event_id}"


def first_receipt(device: Device, event: Event, payload: bytes, now: datetime) -> Receipt:
    """What `receipt_for` says of an event that was taken `now`, before any object of it came, in the same words."""
    missing = tuple(sorted(clip.tier for clip in event.clips))
    sha256, received_at = hashlib.sha256(payload).hexdigest(), now.astimezone(UTC).isoformat()
    return Receipt(event.event_id, sha256, received_at, (), missing, device_id=device.key_id)


def receipt_for(conn: Connection, device: Device, event_id: str) -> Receipt:
    """What the service holds of an event, in the same words every time it is asked.

    Raises:
        EventDeletedError: it was deleted.
        UnknownEventError: the device never sent it.
    """
    listed = conn.execute(_HELD, _names(device, event_id)).all()
    if not listed:
        raise _unknown(conn, device, event_id)
    tiers = [entry for entry in listed if entry.tier is not None]
    held = tuple(entry.tier for entry in tiers if entry.blob_key is not None)
    dropped = tuple(entry.tier for entry in tiers if entry.blob_key is None and entry.dropped is not None)
    missing = tuple(entry.tier for entry in tiers if entry.tier not in {*held, *dropped})
    return Receipt(event_id, listed[0].sha256, listed[0].received_at.isoformat(), held, missing, dropped, device.key_id)


def declared_object(conn: Connection, device: Device, event_id: str, tier: int) -> DeclaredObject:
    """The object that an event declares at `tier`, to be taken.

    Raises:
        EventDeletedError: the event was deleted.
        UnknownEventError: the device never sent it, or it declares nothing at this tier.
        ConsentRequiredError: its household has withdrawn its consent, or narrowed it, since.
    """
    row = _object(conn, device, event_id, tier)
    event = Event.from_bytes(row.payload)
    if gap := consent_gap(conn, device.device_id, event):
        raise ConsentRequiredError(gap)
    wrapped_sha256 = next(clip.wrapped_sha256 for clip in event.clips if clip.tier == tier)
    words = (row.tier, row.media_type, row.length, row.sha256, row.blob_key, wrapped_sha256)
    return DeclaredObject(row.object_id, row.event_row, event_id, *words)


def _object(conn: Connection, device: Device, event_id: str, tier: int) -> Row[Any]:
    row = conn.execute(_DECLARED, {**_names(device, event_id), "tier": tier}).first()
    if row is None:
        declared = conn.scalars(_TIERS, {"event_row": _known_event(conn, device, event_id).event_row}).all()
        msg = f"event {event_id!r} declares no object of tier {tier}; it declares {list(declared) or 'none'}"
        raise UnknownEventError(msg)
    return row


def hold_object(conn: Connection, device: Device, declared: DeclaredObject, blob_key: str, now: datetime) -> tuple[bool, Receipt]:
    """Record that the bytes lie safe under `blob_key`; when they were the last ones missing, the case becomes ready.

    Returns False, and records nothing, where another upload of the same object was quicker; with it, the receipt.

    Raises:
        EventDeletedError: the event was deleted while the object was under way.
    """
    mark_seen(conn, device, now)
    if is_tombstoned(conn, device, declared.event_id) or _is_over(case := _case_of(conn, declared.event_row)):
        raise _deleted(declared.event_id)
    is_held = bool(conn.execute(_HOLD, {"held_id": declared.object_id, "blob_key": blob_key, "held_at": now}).rowcount)
    receipt = receipt_for(conn, device, declared.event_id)
    if not is_held:
        return False, receipt
    subject, detail = event_subject(device, declared.event_id), {"tier": declared.tier, "sha256": declared.sha256}
    audit.append(conn, now, f"device:{device.name}", audit.Action.OBJECT_HELD, subject, detail)
    _complete(conn, case, receipt, now)
    return True, receipt


def drop_objects(conn: Connection, device: Device, dropped: Dropped, now: datetime) -> Receipt:
    """Note that objects will never come; when they were the last ones missing, the case becomes ready without them.

    Raises:
        EventDeletedError: the event was deleted.
        UnknownEventError: the device never sent it, in these bytes, or it declares nothing at such a tier.
    """
    mark_seen(conn, device, now)
    known = _known_event(conn, device, dropped.event_id)
    if known.sha256 != dropped.event_sha256:
        msg = f"event {dropped.event_id!r} is held with other content than the message names; send the event itself again"
        raise UnknownEventError(msg)
    for tier in dropped.tiers:
        declared = _object(conn, device, dropped.event_id, tier)
        told = select(dropped_objects.c.object_id).where(dropped_objects.c.object_id == declared.object_id)
        if declared.blob_key is None and conn.execute(told).first() is None:
            conn.execute(insert(dropped_objects).values(object_id=declared.object_id, told_at=now))
            subject = event_subject(device, dropped.event_id)
            audit.append(conn, now, f"device:{device.name}", audit.Action.OBJECT_DROPPED, subject, {"tier": tier})
    receipt = receipt_for(conn, device, dropped.event_id)
    _complete(conn, _case_of(conn, known.event_row), receipt, now)
    return receipt


def _case_of(conn: Connection, event_row: int) -> Row[Any, Any, Any] | None:
    """Id, state and queue of an event's case, which nobody else changes before the transaction ends; None once the event is deleted."""
    return conn.execute(_CASE, {"event_row": event_row}).first()


def _complete(conn: Connection, case: Row[Any, Any, Any] | None, receipt: Receipt, now: datetime) -> None:
    """Where nothing more is to come, the case is ready."""
    assert case is not None, "an event without its case"
    if case.state == str(CaseState.AWAITING_CLIP) and not receipt.tiers_missing:
        move_from(conn, case.case_id, (CaseState.AWAITING_CLIP, Queue(case.queue)), Move.COMPLETE, now)
        audit.append(conn, now, audit.SERVICE, audit.Action.CASE_READY, f"case:{case.case_id}")


def _is_over(case: Row[Any, Any, Any] | None) -> bool:
    """Whether the event's case ran out, or was closed, while some object of it was still on its way."""
    return case is not None and CaseState(case.state) in CLOSED_STATES


def is_tombstoned(conn: Connection, device: Device, event_id: str) -> bool:
    """Whether the event was deleted here."""
    return conn.execute(_TOMBSTONE, _names(device, event_id)).first() is not None


def _names(device: Device, event_id: str) -> dict[str, object]:
    return {"device_id": device.device_id, "event_id": event_id}


@dataclass(frozen=True, slots=True)
class _Stored:
    event_row: int
    sha256: str
    received_at: datetime


def _event(conn: Connection, device: Device, event_id: str) -> _Stored | None:
    row = conn.execute(_EVENT, _names(device, event_id)).first()
    return _Stored(*row) if row else None


def _known_event(conn: Connection, device: Device, event_id: str) -> _Stored:
    row = _event(conn, device, event_id)
    if row is None:
        raise _unknown(conn, device, event_id)
    return row


def _unknown(conn: Connection, device: Device, event_id: str) -> EventDeletedError | UnknownEventError:
    if is_tombstoned(conn, device, event_id):
        return _deleted(event_id)
    return UnknownEventError(f"this device sent no event {event_id!r}; POST the event before its clips")


def _deleted(event_id: str) -> EventDeletedError:
    return EventDeletedError(f"event {event_id!r} was deleted here and is not taken again; wipe it on the device", event_id)


def _insert_event(conn: Connection, device: Device, event: Event, payload: bytes, sha256: str, now: datetime) -> int:
    row = {
        **_names(device, event.event_id),
        "sha256": sha256,
        "payload": payload,
        "received_at": now,
        "boot_id": event.boot_id,
        "seq": event.seq,
        "label": event.label,
        "peak_score": event.peak_score,
        "reason": str(event.reason),
        "length_s": event.offset_s - event.onset_s,
    }
    event_row = int(conn.execute(_ADD_EVENT, row).scalar_one())
    declared = [
        {"event_row": event_row, "tier": clip.tier, "media_type": clip.media_type, "length": clip.length, "sha256": clip.sha256}
        for clip in event.clips
    ]
    if declared:
        conn.execute(_ADD_OBJECTS, declared)
    return event_row


def _severity(event: Event) -> Severity:
    """What was drawn to count misses was not flagged, and waits behind what was."""
    return Severity.OTHER if event.slice_probability is not None else severity_of(event.label)


def _open_case(conn: Connection, event_row: int, event: Event, now: datetime) -> str:
    case_id = uuid.uuid4().hex
    state = CaseState.AWAITING_CLIP if event.clips else CaseState.READY
    row = {"case_id": case_id, "event_row": event_row, "state": str(state), "severity": int(_severity(event)), "opened_at": now}
    conn.execute(_ADD_CASE, row)
    return case_id
