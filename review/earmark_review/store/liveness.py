"""What devices say of themselves beside their events: heartbeats, and the household's consent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from earmark_edge.consent import Consent
from earmark_edge.messages import Heartbeat
from earmark_review import audit
from earmark_review.errors import EventRefusedError
from earmark_review.store.bundles import note_bundle
from earmark_review.store.canaries import note_canary
from earmark_review.store.devices import Device, mark_seen
from earmark_review.store.numbers import last_heartbeat
from earmark_review.store.schema import consents, heartbeats


def take_heartbeat(conn: Connection, device: Device, heartbeat: Heartbeat, payload: bytes, now: datetime) -> None:
    """Keep the latest; a canary that newly went missed is an alert, and so is an offered bundle that newly failed its trial."""
    mark_seen(conn, device, now)
    before = last_heartbeat(conn, device)
    if heartbeat.canary == "missed" and (before is None or before[0].canary != "missed"):
        audit.append(conn, now, f"device:{device.name}", audit.Action.CANARY_MISSED, f"device:{device.name}")
    note_canary(conn, device, heartbeat, now)
    note_bundle(conn, device, before[0] if before else None, heartbeat, now)
    conn.execute(delete(heartbeats).where(heartbeats.c.device_id == device.device_id))
    conn.execute(insert(heartbeats).values(device_id=device.device_id, payload=payload, received_at=now))


def take_consent(conn: Connection, device: Device, consent: Consent, payload: bytes, signature: bytes, now: datetime) -> None:
    """Keep a record of consent; a later version of it, such as its withdrawal, takes its place.

    Raises:
        EventRefusedError: it would revive a record that was withdrawn.
    """
    mark_seen(conn, device, now)
    mine = (consents.c.device_id == device.device_id, consents.c.consent_id == consent.consent_id)
    known = conn.execute(select(consents.c.payload).where(*mine)).scalar()
    if known == payload:
        return
    if known is not None and Consent.from_bytes(known).withdrawn_at:
        msg = f"consent {consent.consent_id!r} was withdrawn and cannot be revived; give consent anew under another id"
        raise EventRefusedError(msg)
    conn.execute(delete(consents).where(*mine))
    values = {"consent_id": consent.consent_id, "payload": payload, "signature": signature, "received_at": now}
    conn.execute(insert(consents).values(device_id=device.device_id, **values))
    detail = {
        "consent": consent.consent_id,
        "tiers": list(consent.tiers),
        "may_train": consent.may_train,
        "withdrawn": bool(consent.withdrawn_at),
    }
    audit.append(conn, now, f"device:{device.name}", audit.Action.CONSENT_RECORDED, f"device:{device.name}", detail)
