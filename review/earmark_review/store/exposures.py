"""Who looked how long: reads and books exposure, and the limits that reviewers set for themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, insert, select, update

from earmark_review.errors import FormError, RestDueError
from earmark_review.store.schema import exposures, leases, own_limits
from earmark_review.wellness import Exposure, Limits, exposure

_LOOK_BACK = timedelta(days=2)


def begin_exposure(conn: Connection, user_id: int, lease_id: int, now: datetime) -> None:
    """A claim begins."""
    conn.execute(insert(exposures).values(user_id=user_id, lease_id=lease_id, began_at=now, ended_at=now))


def end_exposure(conn: Connection, lease_id: int, now: datetime) -> None:
    """Count a claim's exposure up to `now`."""
    conn.execute(update(exposures).where(exposures.c.lease_id == lease_id).values(ended_at=now))


def exposure_of(conn: Connection, user_id: int, house: Limits, now: datetime) -> Exposure:
    """What the account has had; a claim that is still live counts up to now."""
    live = leases.c.lease_id == exposures.c.lease_id
    query = (
        select(exposures.c.began_at, exposures.c.ended_at, leases.c.expires_at, leases.c.ended_at.label("lease_ended_at"))
        .outerjoin(leases, live)
        .where(exposures.c.user_id == user_id, exposures.c.ended_at > now - _LOOK_BACK)
    )
    claims = []
    for row in conn.execute(query):
        is_live = row.expires_at is not None and row.lease_ended_at is None
        claims.append((row.began_at, min(now, row.expires_at) if is_live else row.ended_at))
    return exposure(claims, limits_of(conn, user_id, house, now), now)


def limits_of(conn: Connection, user_id: int, house: Limits, now: datetime) -> Limits:
    """The house's limits, narrowed by the account's own."""
    mine = select(own_limits).where(own_limits.c.user_id == user_id, own_limits.c.from_at <= now)
    row = conn.execute(mine.order_by(own_limits.c.from_at.desc(), own_limits.c.limit_id.desc())).first()
    return house.lowered(row.day_s, row.run_s) if row else house


def set_own_limits(conn: Connection, user_id: int, wanted: Limits, house: Limits, now: datetime) -> datetime:
    """Book an account's own limits and return when they begin: lower ones at once, ones with anything higher tomorrow.

    Raises:
        FormError: they are wider than the house's, or nothing.
    """
    if not (0 < wanted.day_s <= house.day_s and 0 < wanted.run_s <= house.run_s):
        msg = (
            f"your own limits may be up to {house.day_s / 3600:g} h a day and {house.run_s / 60:g} min before a break; "
            f"got {wanted.day_s / 3600:g} h and {wanted.run_s / 60:g} min"
        )
        raise FormError(msg)
    current = limits_of(conn, user_id, house, now)
    is_lower = wanted.day_s <= current.day_s and wanted.run_s <= current.run_s
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    from_at = now if is_lower else midnight + timedelta(days=1)
    conn.execute(insert(own_limits).values(user_id=user_id, day_s=wanted.day_s, run_s=wanted.run_s, from_at=from_at))
    return from_at


def require_rested(conn: Connection, user_id: int, house: Limits, now: datetime) -> float:
    """Seconds of exposure that are left before the next rest.

    Raises:
        RestDueError: none are.
    """
    had = exposure_of(conn, user_id, house, now)
    if had.rest_until is not None:
        wait_s = (had.rest_until - now).total_seconds()
        until = f"{had.rest_until.astimezone(UTC):%H:%M} UTC"
        msg = (
            f"that was enough for today; the queue opens for you again at {until}"
            if had.is_day_over
            else f"time for a break; go on at {until}"
        )
        raise RestDueError(msg, max(1, round(wait_s)))
    return had.left_s
