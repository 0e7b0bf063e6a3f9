"""The policies that the service issued; the newest is in force."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from earmark_edge.policy import Policy
from earmark_review import audit
from earmark_review.store.schema import policies
from earmark_review.store.turns import Turn, take_turn


def issue_policy(
    conn: Connection, tiers: Sequence[int], labels: Sequence[str], urgent: Sequence[str], now: datetime, slice_probability: float = 0.0
) -> Policy:
    """Put the next version in force.

    Raises:
        WireError: a tier or a label is none.
    """
    take_turn(conn, Turn.NAMES)
    version = (conn.execute(select(func.max(policies.c.version))).scalar() or 0) + 1
    wanted = (tuple(sorted(set(tiers))), tuple(sorted(set(labels))), tuple(sorted(set(urgent))))
    policy = Policy(version, now.isoformat(), *wanted, slice_probability=slice_probability)
    conn.execute(insert(policies).values(version=version, payload=policy.to_bytes(), issued_at=now))
    detail = {"version": version, "tiers": list(policy.tiers), "labels": list(policy.labels), "slice": slice_probability}
    audit.append(conn, now, audit.OPERATOR, audit.Action.POLICY_ISSUED, f"policy:{version}", detail)
    return policy


def policy_in_force(conn: Connection) -> bytes | None:
    """The newest policy's bytes; None where none was issued."""
    return conn.execute(select(policies.c.payload).order_by(policies.c.version.desc()).limit(1)).scalar()
