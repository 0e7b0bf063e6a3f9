"""How canaries fared over time: what the heartbeats of each day said of the last one, counted by device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, insert, select, update

from earmark_edge.messages import Heartbeat
from earmark_review.agreement import Share
from earmark_review.audit import Action
from earmark_review.store.devices import Device
from earmark_review.store.schema import audit_log, canary_days, devices

DAYS = 28
_TOLD = ("passed", "missed")


def note_canary(conn: Connection, device: Device, heartbeat: Heartbeat, now: datetime) -> None:
    """Count a heartbeat that says how the last canary fared, in a transaction that holds the device's row."""
    if heartbeat.canary not in _TOLD:
        return
    mine = (canary_days.c.device_id == device.device_id, canary_days.c.day == _day(now))
    column = canary_days.c[heartbeat.canary]
    if not conn.execute(update(canary_days).where(*mine).values({column: column + 1})).rowcount:
        counts = dict.fromkeys(_TOLD, 0) | {heartbeat.canary: 1}
        conn.execute(insert(canary_days).values(device_id=device.device_id, day=_day(now), **counts))


def days_until(now: datetime) -> Sequence[str]:
    """The last `DAYS` days (UTC), the oldest first."""
    return [_day(now - timedelta(days=back)) for back in reversed(range(DAYS))]


def reports_missed(conn: Connection, device: Device, now: datetime) -> Mapping[str, Share]:
    """By day, the share of a device's heartbeats that said its last canary went unheard, of those that said how it fared."""
    mine = (canary_days.c.device_id == device.device_id, canary_days.c.day >= days_until(now)[0])
    return {row.day: Share(row.missed, row.passed + row.missed) for row in conn.execute(select(canary_days).where(*mine))}


def devices_missed(conn: Connection, now: datetime) -> Mapping[str, Share]:
    """By day, how many devices missed a canary, of those that said how theirs fared; devices that were revoked since are left out."""
    missed = func.count().filter(canary_days.c.missed > 0)
    query = select(canary_days.c.day, missed, func.count()).join(devices, devices.c.device_id == canary_days.c.device_id)
    recent = query.where(canary_days.c.day >= days_until(now)[0], devices.c.revoked_at.is_(None)).group_by(canary_days.c.day)
    return {day: Share(hits, count) for day, hits, count in conn.execute(recent)}


def reports(conn: Connection) -> Mapping[str, int]:
    """How many heartbeats ever said that the last canary was heard, and that it was not."""
    sums = [func.coalesce(func.sum(canary_days.c[name]), 0) for name in _TOLD]
    return dict(zip(_TOLD, conn.execute(select(*sums)).one(), strict=True))


def canaries_missed(conn: Connection, device: Device, since: datetime) -> Sequence[datetime]:
    """When a canary newly went unheard, by the log, the latest first."""
    query = select(audit_log.c.at).where(
        audit_log.c.action == str(Action.CANARY_MISSED), audit_log.c.subject == f"device:{device.name}", audit_log.c.at >= since
    )
    return conn.scalars(query.order_by(audit_log.c.seq.desc())).all()


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"
