"""The whole review: second looks, adjudication, golden cases, break-glass, exposure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0010"
down_revision = "r0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NEW_WORDS = (("confirmed", "distress"), ("false_alarm", "other_sound"), ("unsure", "cannot_tell"))


def upgrade() -> None:
    """Widen cases and verdicts, bring old verdicts into the new words, and make the other tables."""
    op.add_column("cases", sa.Column("queue", sa.String(length=32), server_default="first", nullable=False))
    op.add_column("cases", sa.Column("outcome", sa.String(length=32), nullable=True))
    op.add_column("cases", sa.Column("shred_at", _TIME, nullable=True))
    op.add_column("verdicts", sa.Column("queue", sa.String(length=32), server_default="first", nullable=False))
    op.add_column("verdicts", sa.Column("onset_s", sa.Float(), nullable=True))
    op.add_column("verdicts", sa.Column("offset_s", sa.Float(), nullable=True))
    for old, new in _NEW_WORDS:
        op.execute(sa.text("UPDATE verdicts SET verdict = :new WHERE verdict = :old").bindparams(old=old, new=new))
    op.execute(
        "UPDATE cases SET outcome = (SELECT verdict FROM verdicts WHERE verdicts.case_id = cases.case_id) WHERE closed_at IS NOT NULL"
    )
    op.execute("UPDATE cases SET shred_at = closed_at WHERE closed_at IS NOT NULL")
    _review_tables()


def _review_tables() -> None:
    op.create_table(
        "golden_cases",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("expected", sa.String(length=32), nullable=False),
        sa.Column("armed_at", _TIME, nullable=False),
        sa.Column("shift_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name="fk_golden_cases_case_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("case_id", name="pk_golden_cases"),
    )
    op.create_table(
        "original_requests",
        sa.Column("request_id", sa.Integer(), nullable=False),
        sa.Column("lease_id", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", _TIME, nullable=False),
        sa.Column("answered_by", sa.Integer(), nullable=True),
        sa.Column("answered_at", _TIME, nullable=True),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.CheckConstraint("(answered_by IS NULL) = (answered_at IS NULL)", name=op.f("ck_original_requests_answer_whole")),
        sa.ForeignKeyConstraint(["answered_by"], ["users.user_id"], name="fk_original_requests_answered_by"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.lease_id"], name="fk_original_requests_lease_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("request_id", name="pk_original_requests"),
        sa.UniqueConstraint("lease_id", name="uq_original_requests_lease_id"),
    )
    op.create_table(
        "exposures",
        sa.Column("exposure_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("lease_id", sa.Integer(), nullable=False),
        sa.Column("began_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_exposures_user_id"),
        sa.PrimaryKeyConstraint("exposure_id", name="pk_exposures"),
    )
    op.create_index("ix_exposures_lease_id", "exposures", ["lease_id"])
    op.create_index("ix_exposures_user_id_ended_at", "exposures", ["user_id", "ended_at"])
    op.create_table(
        "own_limits",
        sa.Column("limit_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("day_s", sa.Float(), nullable=False),
        sa.Column("run_s", sa.Float(), nullable=False),
        sa.Column("from_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_own_limits_user_id"),
        sa.PrimaryKeyConstraint("limit_id", name="pk_own_limits"),
    )
    op.create_index("ix_own_limits_user_id", "own_limits", ["user_id"])
