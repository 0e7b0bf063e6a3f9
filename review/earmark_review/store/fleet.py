"""How each device fares: what it last said of itself, and which of its events may be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from earmark_edge.messages import Heartbeat
from earmark_review.errors import UnknownDeviceError
from earmark_review.store.canaries import DAYS, days_until
from earmark_review.store.devices import Device, list_devices
from earmark_review.store.numbers import Gap, gaps, last_heartbeat
from earmark_review.store.schema import event_numbers

SILENT_AFTER = timedelta(hours=1)
"""A device that lives says so far more often."""
LARGE_SKEW = timedelta(minutes=5)
"""What no network holds a message up for."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A device as of now."""

    device: Device
    heartbeat: Heartbeat | None
    heard_at: datetime | None
    gaps: Sequence[Gap]
    is_silent: bool

    @property
    def lost(self) -> int:
        """Events that may be lost, by the numbers that never came."""
        return sum(gap.lost for gap in self.gaps)

    @property
    def canary(self) -> str:
        """How the last canary fared: "passed", "missed", "" where none was played, "unknown" before the first heartbeat."""
        return self.heartbeat.canary if self.heartbeat else "unknown"

    @property
    def skew(self) -> timedelta:
        """How far the device's clock was ahead of ours when its last heartbeat came, whose way counts as well; nothing before the first."""
        if self.heartbeat is None or self.heard_at is None:
            return timedelta()
        return datetime.fromisoformat(self.heartbeat.sent_at) - self.heard_at

    @property
    def troubles(self) -> Sequence[str]:
        """What is amiss, in words; nothing where all is well."""
        beat = self.heartbeat
        dropped = beat.dropped_objects if beat else 0
        told = (
            (self.device.public_key is None, "has to enrol anew"),
            (self.is_silent, "silent"),
            (self.canary == "missed", "missed its canary"),
            (abs(self.skew) >= LARGE_SKEW, f"clock {_rough(abs(self.skew))} {'ahead' if self.skew > timedelta() else 'behind'}"),
            (bool(self.lost), f"{self.lost} possibly lost"),
            (beat is not None and beat.set_aside > 0, f"{beat.set_aside if beat else 0} refused here"),
            (dropped > 0, f"{dropped} clip{'' if dropped == 1 else 's'} dropped for want of space"),
        )
        return [words for holds, words in told if holds]


@dataclass(frozen=True, slots=True)
class Day:
    """How many new events a device sent on a day."""

    date: str
    events: int


def _rough(span: timedelta) -> str:
    """In the largest unit of which there are two."""
    minutes = span // timedelta(minutes=1)
    size, unit = next((one for one in ((1440, "days"), (60, "h")) if minutes >= 2 * one[0]), (1, "min"))
    return f"{minutes // size} {unit}"


def fleet(conn: Connection, now: datetime) -> Sequence[Standing]:
    """Every device that is not revoked; those in trouble first, then by name."""
    found = [_standing(conn, device, now) for device in list_devices(conn) if device.revoked_at is None]
    return sorted(found, key=lambda one: (not one.troubles, one.device.name))


def standing(conn: Connection, device_id: int, now: datetime) -> Standing:
    """One device, revoked or not.

    Raises:
        UnknownDeviceError: there is none.
    """
    device = next((one for one in list_devices(conn) if one.device_id == device_id), None)
    if device is None:
        msg = "there is no such device; the list of devices shows those that there are"
        raise UnknownDeviceError(msg)
    return _standing(conn, device, now)


def _standing(conn: Connection, device: Device, now: datetime) -> Standing:
    last = last_heartbeat(conn, device)
    heartbeat, heard_at = last or (None, None)
    latest = max((at for at in (heard_at, device.last_seen_at) if at is not None), default=device.created_at)
    return Standing(device, heartbeat, heard_at, gaps(conn, device), device.revoked_at is None and now - latest > SILENT_AFTER)


def days(conn: Connection, device: Device, now: datetime) -> Sequence[Day]:
    """The last `DAYS` days (UTC), the oldest first. Numbers outlive the events that bore them, so deleted ones count too."""
    since = (now - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    numbers = select(event_numbers.c.first_at).where(event_numbers.c.device_id == device.device_id, event_numbers.c.first_at >= since)
    sent = Counter(f"{at:%Y-%m-%d}" for at in conn.scalars(numbers))
    return [Day(date, sent[date]) for date in days_until(now)]
