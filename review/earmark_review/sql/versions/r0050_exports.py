"""What was exported, so that a withdrawal finds it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0050"
down_revision = "r0010"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables; exports that were made before are not known."""
    op.create_table(
        "exports",
        sa.Column("export_id", sa.Integer(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("made_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("export_id", name="pk_exports"),
    )
    op.create_table(
        "export_rows",
        sa.Column("export_id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("consent", sa.String(length=32), nullable=False),
        sa.Column("gone_at", _TIME, nullable=True),
        sa.Column("why", sa.String(length=32), nullable=True),
        sa.Column("told_at", _TIME, nullable=True),
        sa.CheckConstraint("(gone_at IS NULL) = (why IS NULL)", name=op.f("ck_export_rows_reason_given")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.export_id"], name="fk_export_rows_export_id"),
        sa.PrimaryKeyConstraint("export_id", "case_id", name="pk_export_rows"),
    )
    op.create_index("ix_export_rows_case_id", "export_rows", ["case_id"])
