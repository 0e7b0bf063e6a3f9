"""Deletes an event: rows and bytes go, a tombstone stays so that a replay is refused."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from earmark_review import audit
from earmark_review.errors import UnknownEventError
from earmark_review.store.exports import mark_deleted
from earmark_review.store.schema import cases, devices, events, leases, objects, tombstones
from earmark_review.store.turns import Turn, take_turn


def device_id_of(conn: Connection, device_name: str, event_id: str) -> int | None:
    """The row of the device that sent the event; None where there is no such event."""
    query = select(events.c.device_id).join(devices, devices.c.device_id == events.c.device_id)
    return conn.execute(query.where(devices.c.name == device_name, events.c.event_id == event_id)).scalar()


def tombstoned(conn: Connection) -> set[tuple[int, str]]:
    """Every event that was deleted, by device and id."""
    return {(row.device_id, row.event_id) for row in conn.execute(select(tombstones.c.device_id, tombstones.c.event_id))}


def delete_again(conn: Connection, noted: Collection[tuple[int, str]], now: datetime) -> tuple[list[tuple[int, str]], list[str]]:
    """Delete events that were deleted before, so far as the database does not know it; return which, and the keys of their blobs."""
    take_turn(conn, Turn.RESTORE)
    names = {row.device_id: row.name for row in conn.execute(select(devices.c.device_id, devices.c.name))}
    again = [(device_id, event_id) for device_id, event_id in sorted(set(noted) - tombstoned(conn)) if device_id in names]
    blob_keys: list[str] = []
    for device_id, event_id in again:
        is_back = device_id_of(conn, names[device_id], event_id) is not None
        if is_back:
            blob_keys += _remove(conn, names[device_id], event_id, now)
        else:  # the backup is older than the event
            conn.execute(insert(tombstones).values(device_id=device_id, event_id=event_id, deleted_at=now))
        detail = {"was_back": is_back}
        audit.append(conn, now, audit.SERVICE, audit.Action.EVENT_DELETED_AGAIN, f"event:{names[device_id]}/{event_id}", detail)
    return again, blob_keys


def delete_event(conn: Connection, device_name: str, event_id: str, now: datetime) -> list[str]:
    """Remove every row of an event, and return the keys of its blobs for the caller to remove once this is committed.

    Raises:
        UnknownEventError: the device sent no such event, or it was deleted already.
    """
    keys = _remove(conn, device_name, event_id, now)
    # Its keys were destroyed before this transaction began.
    audit.append(conn, now, audit.OPERATOR, audit.Action.EVENT_DELETED, f"event:{device_name}/{event_id}")
    return keys


def _remove(conn: Connection, device_name: str, event_id: str, now: datetime) -> list[str]:
    take_turn(conn, Turn.RESTORE)  # one that starts up does again what it finds half done
    mine = (devices.c.name == device_name, events.c.event_id == event_id)
    query = select(events.c.event_row, events.c.device_id).join(devices, devices.c.device_id == events.c.device_id)
    row = conn.execute(query.where(*mine).with_for_update(of=devices, key_share=True)).first()
    if row is None:
        msg = f"device {device_name!r} sent no event {event_id!r}, or it was deleted already"
        raise UnknownEventError(msg)
    mark_deleted(conn, row.event_row, now)
    listed = conn.scalars(select(objects.c.blob_key).where(objects.c.event_row == row.event_row, objects.c.blob_key.is_not(None)))
    keys = [key for key in listed if key is not None]
    held = select(leases.c.lease_id).join(cases, cases.c.case_id == leases.c.case_id).where(cases.c.event_row == row.event_row)
    conn.execute(held.with_for_update(of=leases))  # claims before cases, as everywhere
    conn.execute(delete(events).where(events.c.event_row == row.event_row))  # cases, leases, verdicts and objects go with it
    conn.execute(insert(tombstones).values(device_id=row.device_id, event_id=event_id, deleted_at=now))
    return keys
