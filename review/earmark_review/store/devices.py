"""Enrolled devices and their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from earmark_review import audit
from earmark_review.errors import DeviceTokenError, SettingsError
from earmark_review.names import checked_name
from earmark_review.store.schema import devices
from earmark_review.tokens import new_token, token_sha256

_SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Device:
    """A sender of events."""

    device_id: int
    name: str
    created_at: datetime
    revoked_at: datetime | None
    last_seen_at: datetime | None


_COLUMNS = (devices.c.device_id, devices.c.name, devices.c.created_at, devices.c.revoked_at, devices.c.last_seen_at)


def add_device(conn: Connection, name: str, now: datetime) -> str:
    """Enrol a device and return its token, which cannot be read again.

    Raises:
        SettingsError: the name is unfit or taken.
    """
    name, token = checked_name("device", name), new_token()
    if conn.execute(select(devices.c.device_id).where(devices.c.name == name)).first():
        msg = f"there is a device {name!r} already; give another name, or revoke it first and name its successor otherwise"
        raise SettingsError(msg)
    conn.execute(insert(devices).values(name=name, token_sha256=token_sha256(token), created_at=now))
    audit.append(conn, now, audit.OPERATOR, audit.Action.DEVICE_ADDED, f"device:{name}")
    return token


def list_devices(conn: Connection) -> Sequence[Device]:
    """Every device, revoked ones too, by name."""
    return [Device(*row) for row in conn.execute(select(*_COLUMNS).order_by(devices.c.name))]


def revoke_device(conn: Connection, name: str, now: datetime) -> None:
    """Make a device's token worthless from now on; what it sent stays.

    Raises:
        SettingsError: there is no such device, or it is revoked already.
    """
    changed = conn.execute(update(devices).where(devices.c.name == name, devices.c.revoked_at.is_(None)).values(revoked_at=now))
    if not changed.rowcount:
        msg = f"there is no device {name!r} with a live token; `earmark review device list` shows them"
        raise SettingsError(msg)
    audit.append(conn, now, audit.OPERATOR, audit.Action.DEVICE_REVOKED, f"device:{name}")


def device_of(conn: Connection, token: str) -> Device:
    """The device that a token belongs to.

    Raises:
        DeviceTokenError: no enrolled device has this token, or it was revoked.
    """
    known = devices.c.token_sha256 == token_sha256(token)
    row = conn.execute(select(*_COLUMNS).where(known, devices.c.revoked_at.is_(None))).first()
    if row is None:
        msg = "the bearer token belongs to no enrolled device; enrol it with `earmark review device add NAME`"
        raise DeviceTokenError(msg)
    return Device(*row)


def mark_seen(conn: Connection, device: Device, now: datetime) -> None:
    """Remember when the device last spoke, to the minute."""
    if device.last_seen_at is None or now - device.last_seen_at >= _SEEN_EVERY:
        conn.execute(update(devices).where(devices.c.device_id == device.device_id).values(last_seen_at=now))
