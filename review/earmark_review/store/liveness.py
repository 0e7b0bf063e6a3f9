"""What devices say of themselves beside their events: heartbeats."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert

from earmark_edge.messages import Heartbeat
from earmark_review import audit
from earmark_review.store.bundles import note_bundle
from earmark_review.store.canaries import note_canary
from earmark_review.store.devices import Device, mark_seen
from earmark_review.store.numbers import last_heartbeat
from earmark_review.store.schema import heartbeats


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
