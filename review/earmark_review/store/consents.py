"""Records of consent as devices send them: nothing is taken that no record, which the device sent before, covers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, bindparam, delete, insert, select

from earmark_edge.consent import Consent
from earmark_edge.event import Event
from earmark_review import audit
from earmark_review.errors import EventRefusedError
from earmark_review.keystore import ConsentName, SignedRecord
from earmark_review.store.devices import Device, mark_seen
from earmark_review.store.schema import consents, devices
from earmark_review.store.turns import Turn, take_turn

_RECORD = select(consents.c.payload).where(consents.c.device_id == bindparam("device_id"), consents.c.consent_id == bindparam("consent_id"))


def take_consent(conn: Connection, device: Device, consent: Consent, record: SignedRecord, now: datetime) -> bool:
    """Keep a record of consent; a later version of it, such as its withdrawal, takes its place.

    Returns whether a restored backup would be wrong without it: it took another's place, or is a withdrawal.

    Raises:
        EventRefusedError: it would revive a record that was withdrawn.
    """
    mark_seen(conn, device, now)
    known = _payload_of(conn, device.device_id, consent.consent_id)
    if known == record.payload:
        return False
    if known is not None and Consent.from_bytes(known).withdrawn_at:
        msg = f"consent {consent.consent_id!r} was withdrawn and cannot be revived; give consent anew under another id"
        raise EventRefusedError(msg)
    _keep(conn, device.device_id, consent, record, now)
    audit.append(conn, now, f"device:{device.name}", audit.Action.CONSENT_RECORDED, f"device:{device.name}", _told_of(consent))
    return known is not None or bool(consent.withdrawn_at)


def withdrawn(conn: Connection) -> dict[ConsentName, SignedRecord]:
    """Every record that was withdrawn."""
    rows = conn.execute(select(consents.c.device_id, consents.c.consent_id, consents.c.payload, consents.c.signature))
    kept = {(row.device_id, row.consent_id): SignedRecord(row.payload, row.signature) for row in rows}
    return {name: record for name, record in kept.items() if Consent.from_bytes(record.payload).withdrawn_at}


def take_again(conn: Connection, noted: Mapping[ConsentName, SignedRecord], now: datetime) -> int:
    """Put records that the database took before into their places, so far as it does not know them; return how many.

    What it knows to be withdrawn stays so.
    """
    take_turn(conn, Turn.RESTORE)
    names = {row.device_id: row.name for row in conn.execute(select(devices.c.device_id, devices.c.name))}
    count = 0
    for (device_id, consent_id), record in sorted(noted.items()):
        known = _payload_of(conn, device_id, consent_id)
        is_settled = known == record.payload or (known is not None and Consent.from_bytes(known).withdrawn_at)
        if device_id not in names or is_settled:
            continue
        consent = Consent.from_bytes(record.payload)
        _keep(conn, device_id, consent, record, now)
        subject, detail = f"device:{names[device_id]}", {**_told_of(consent), "was_known": known is not None}
        audit.append(conn, now, audit.SERVICE, audit.Action.CONSENT_RECORDED_AGAIN, subject, detail)
        count += 1
    return count


def _keep(conn: Connection, device_id: int, consent: Consent, record: SignedRecord, now: datetime) -> None:
    conn.execute(delete(consents).where(consents.c.device_id == device_id, consents.c.consent_id == consent.consent_id))
    values = {"consent_id": consent.consent_id, "payload": record.payload, "signature": record.signature, "received_at": now}
    conn.execute(insert(consents).values(device_id=device_id, **values))


def _told_of(consent: Consent) -> Mapping[str, object]:
    """What the log says of a record."""
    return {
        "consent": consent.consent_id,
        "tiers": list(consent.tiers),
        "may_train": consent.may_train,
        "withdrawn": bool(consent.withdrawn_at),
    }


def _payload_of(conn: Connection, device_id: int, consent_id: str) -> bytes | None:
    payload: bytes | None = conn.execute(_RECORD, {"device_id": device_id, "consent_id": consent_id}).scalar()
    return payload


def consent_of(conn: Connection, device_id: int, consent_id: str) -> Consent | None:
    """The record behind an event's `consent_id`, if the device sent it."""
    payload = _payload_of(conn, device_id, consent_id)
    return None if payload is None else _read(payload)


# Which record is in force is asked anew each time; what its words mean is not: a household's one record covers all that it sends.
_read = lru_cache(maxsize=1024)(Consent.from_bytes)


def consent_gap(conn: Connection, device_id: int, event: Event) -> str:
    """Why the record that an event names does not cover it, and what to do; "" where it does."""
    return gap_under(_payload_of(conn, device_id, event.consent_id), event)


def gap_under(payload: bytes | None, event: Event) -> str:
    """The same under the bytes of a record that was looked up; None where the device sent none.

    Whether it had expired is judged by the event's own time, on the clock that also wrote the record: what was heard in time may come late.
    """
    named = f"consent {event.consent_id!r}"
    if payload is None:
        return f"this device sent no record of {named}; PUT the household's signed record to /api/v1/consent, then send the event again"
    consent = _read(payload)
    if consent.withdrawn_at:
        return f"{named} was withdrawn on {consent.withdrawn_at}, and nothing is taken under it any more; wipe this on the device"
    if datetime.fromisoformat(event.wall_time) >= datetime.fromisoformat(consent.expires_at):
        return f"{named} had expired on {consent.expires_at} when this was heard; the household gives it anew for what comes"
    if uncovered := _uncovered(event, consent):
        return f"{named} does not cover {uncovered}; send less, or ask the household for a record that reaches as far"
    return ""


def _uncovered(event: Event, consent: Consent) -> str:
    """What of the event the record does not speak of, in words."""
    if event.label not in consent.labels:
        return f"the sound {event.label}, only {', '.join(consent.labels)}"
    if event.slice_probability is not None and not consent.may_slice:
        return "sounds drawn from below the threshold"
    beyond = sorted({clip.tier for clip in event.clips} - set(consent.tiers))
    return f"tiers {beyond}, only {list(consent.tiers)}" if beyond else ""
