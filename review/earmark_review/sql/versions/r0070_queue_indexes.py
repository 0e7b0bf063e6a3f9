"""Indexes that make claiming and the lists cost the same however long the queue is, and however much was decided."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0070"
down_revision = "r0030"
branch_labels = None
depends_on = None


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def upgrade() -> None:
    """Make them; one that they leave no use for goes."""
    op.drop_index("ix_cases_state_severity_opened_at", "cases")
    op.create_index("ix_cases_state_shred_at", "cases", ["state", "shred_at"])
    _partial("ix_cases_open", "cases", ["severity", "opened_at", "case_id"], "closed_at IS NULL")
    _partial("ix_cases_closed", "cases", ["closed_at"], "closed_at IS NOT NULL")
    op.create_index("ix_leases_case_id_user_id", "leases", ["case_id", "user_id"])
    op.create_index("ix_events_device_id_event_row", "events", ["device_id", "event_row"])
    _partial("ix_leases_running", "leases", ["expires_at"], "ended_at IS NULL")
