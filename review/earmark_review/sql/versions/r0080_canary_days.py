"""How each device's canaries fared, day by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0080"
down_revision = "r0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; days before it stay unknown."""
    op.create_table(
        "canary_days",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("passed", sa.Integer(), nullable=False),
        sa.Column("missed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_canary_days_device_id"),
        sa.PrimaryKeyConstraint("device_id", "day", name="pk_canary_days"),
    )
