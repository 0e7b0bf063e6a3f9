"""The numbers that a device's events bear, so that one which never came is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, insert, literal, select

from earmark_edge.event import Event
from earmark_edge.messages import Heartbeat
from earmark_review.store.devices import Device
from earmark_review.store.schema import event_numbers, heartbeats

_KEY = ("device_id", "boot_id", "seq")
_KNOWN = select(literal(1)).where(*(event_numbers.c[name] == bindparam(name) for name in _KEY)).exists()
_FIELDS = (*_KEY, "first_at")
_ADD = insert(event_numbers).from_select(
    _FIELDS, select(*(bindparam(name, type_=event_numbers.c[name].type) for name in _FIELDS)).where(~_KNOWN)
)


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers of one stream that never came; `waiting` of them may still lie in the device's outbox, by its last heartbeat."""

    boot_id: str
    missing: int
    waiting: int
    last_at: datetime

    @property
    def lost(self) -> int:
        """How many are possibly lost."""
        return max(0, self.missing - self.waiting)


def number_event(conn: Connection, device: Device, event: Event, now: datetime) -> None:
    """Remember that this number came. Of two events with one number, the first counts."""
    conn.execute(_ADD, {"device_id": device.device_id, "boot_id": event.boot_id, "seq": event.seq, "first_at": now})


def gaps(conn: Connection, device: Device) -> Sequence[Gap]:
    """The streams of a device in which numbers are missing, the latest first: below the highest that came, or that it says it gave."""
    last = last_heartbeat(conn, device)
    columns = (event_numbers.c.boot_id, func.count().label("count"), func.max(event_numbers.c.seq).label("highest"))
    query = select(*columns, func.max(event_numbers.c.first_at).label("last_at")).where(event_numbers.c.device_id == device.device_id)
    rows = {row.boot_id: row for row in conn.execute(query.group_by(event_numbers.c.boot_id))}
    found = []
    for boot_id, row in rows.items():
        is_running = last is not None and last[0].boot_id == boot_id
        given = max(row.highest + 1, last[0].next_seq) if last is not None and is_running else row.highest + 1
        found.append(Gap(boot_id, given - row.count, last[0].waiting_events if last else 0, row.last_at))
    if last is not None and last[0].boot_id not in rows and last[0].next_seq:
        found.append(Gap(last[0].boot_id, last[0].next_seq, last[0].waiting_events, last[1]))
    return sorted((gap for gap in found if gap.missing), key=lambda gap: gap.last_at, reverse=True)


def last_heartbeat(conn: Connection, device: Device) -> tuple[Heartbeat, datetime] | None:
    """What the device last said of itself, and when that came."""
    row = conn.execute(select(heartbeats).where(heartbeats.c.device_id == device.device_id)).first()
    return (Heartbeat.from_bytes(row.payload), row.received_at) if row else None
