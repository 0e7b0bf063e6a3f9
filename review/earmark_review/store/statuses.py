"""What became of a device's events, in words that a household may read: states, looks by role, verdicts. No reviewer is named."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, select

from earmark_edge.messages import Look, Status
from earmark_review.store.devices import Device
from earmark_review.store.schema import cases, events, evidence_views, leases, tombstones, users, verdicts


def statuses_of(conn: Connection, device: Device, event_ids: list[str]) -> list[Status]:
    """The status of each of the events that is known here, in the order asked."""
    mine = (events.c.device_id == device.device_id, events.c.event_id.in_(event_ids))
    rows = conn.execute(
        select(events.c.event_id, cases.c.case_id, cases.c.state).join(cases, cases.c.event_row == events.c.event_row).where(*mine)
    )
    found = {row.event_id: (row.case_id, row.state) for row in rows}
    case_ids = [case_id for case_id, _ in found.values()]
    looks, decided = _looks(conn, case_ids), _verdicts(conn, case_ids)
    gone = (tombstones.c.device_id == device.device_id, tombstones.c.event_id.in_(event_ids))
    deleted = set(conn.scalars(select(tombstones.c.event_id).where(*gone)))
    told = []
    for event_id in event_ids:
        if event_id in found:
            case_id, state = found[event_id]
            told.append(Status(event_id, state, tuple(looks[case_id]), decided[case_id] or None))
        elif event_id in deleted:
            told.append(Status(event_id, "deleted"))
    return told


def _looks(conn: Connection, case_ids: list[str]) -> defaultdict[str, list[Look]]:
    columns = (leases.c.case_id, users.c.role, evidence_views.c.evidence, evidence_views.c.first_at)
    query = select(*columns).join(leases, leases.c.lease_id == evidence_views.c.lease_id).join(users, users.c.user_id == leases.c.user_id)
    looks: defaultdict[str, list[Look]] = defaultdict(list)
    for case_id, role, evidence, at in conn.execute(query.where(leases.c.case_id.in_(case_ids)).order_by(evidence_views.c.first_at)):
        looks[case_id].append(Look(role, evidence, at.isoformat()))
    return looks


def _verdicts(conn: Connection, case_ids: list[str]) -> defaultdict[str, dict[str, str]]:
    decided: defaultdict[str, dict[str, str]] = defaultdict(dict)
    query = select(verdicts.c.case_id, verdicts.c.verdict, verdicts.c.decided_at).where(verdicts.c.case_id.in_(case_ids))
    for case_id, verdict, at in conn.execute(query.order_by(verdicts.c.decided_at)):
        decided[case_id][verdict] = at.isoformat()
    return decided
