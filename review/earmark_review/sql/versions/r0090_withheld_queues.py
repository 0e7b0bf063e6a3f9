"""Queues that an account does not work on though its role would."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0090"
down_revision = "r0080"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; every account goes on with all queues of its role."""
    op.create_table(
        "withheld_queues",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("queue", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_withheld_queues_user_id"),
        sa.PrimaryKeyConstraint("user_id", "queue", name="pk_withheld_queues"),
    )
