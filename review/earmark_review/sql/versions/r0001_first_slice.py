"""The first slice: accounts, devices, events and their objects, cases, leases, verdicts, and the append-only log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from earmark_review.store.schema import audit_guard

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table, and the triggers that keep the log append-only."""
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=256), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_log"),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.Column("last_seen_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("device_id", name="pk_devices"),
        sa.UniqueConstraint("name", name="uq_devices_name"),
        sa.UniqueConstraint("token_sha256", name="uq_devices_token_sha256"),
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("failure_id", sa.Integer(), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("failure_id", name="pk_sign_in_failures"),
    )
    op.create_index("ix_sign_in_failures_at", "sign_in_failures", ["at"], unique=False)
    op.create_table(
        "users",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("disabled_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("user_id", name="pk_users"),
        sa.UniqueConstraint("name_key", name="uq_users_name_key"),
    )
    op.create_table(
        "events",
        sa.Column("event_row", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("boot_id", sa.String(length=128), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.String(length=32), nullable=False),
        sa.Column("peak_score", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("length_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_events_device_id"),
        sa.PrimaryKeyConstraint("event_row", name="pk_events"),
        sa.UniqueConstraint("device_id", "event_id", name="uq_events_device_id_event_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_sessions_user_id"),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
        sa.UniqueConstraint("token_sha256", name="uq_sessions_token_sha256"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"], unique=False)
    op.create_table(
        "tombstones",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("deleted_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_tombstones_device_id"),
        sa.PrimaryKeyConstraint("device_id", "event_id", name="pk_tombstones"),
    )
    op.create_table(
        "cases",
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("event_row", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("closed_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["event_row"], ["events.event_row"], name="fk_cases_event_row", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("case_id", name="pk_cases"),
        sa.UniqueConstraint("event_row", name="uq_cases_event_row"),
    )
    op.create_index("ix_cases_state_severity_opened_at", "cases", ["state", "severity", "opened_at"], unique=False)
    op.create_table(
        "objects",
        sa.Column("object_id", sa.Integer(), nullable=False),
        sa.Column("event_row", sa.Integer(), nullable=False),
        sa.Column("tier", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(length=128), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("blob_key", sa.String(length=32), nullable=True),
        sa.Column("held_at", _TIME, nullable=True),
        sa.CheckConstraint("(blob_key IS NULL) = (held_at IS NULL)", name=op.f("ck_objects_held_whole")),
        sa.ForeignKeyConstraint(["event_row"], ["events.event_row"], name="fk_objects_event_row", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("object_id", name="pk_objects"),
        sa.UniqueConstraint("blob_key", name="uq_objects_blob_key"),
        sa.UniqueConstraint("event_row", "tier", name="uq_objects_event_row_tier"),
    )
    op.create_table(
        "leases",
        sa.Column("lease_id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Integer(), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("claimed_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("ending", sa.String(length=32), nullable=True),
        sa.CheckConstraint("(ended_at IS NULL) = (ending IS NULL)", name=op.f("ck_leases_ending_told")),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name="fk_leases_case_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_leases_session_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_leases_user_id"),
        sa.PrimaryKeyConstraint("lease_id", name="pk_leases"),
        sa.UniqueConstraint("token_sha256", name="uq_leases_token_sha256"),
    )
    op.create_index("ix_leases_user_id_ended_at", "leases", ["user_id", "ended_at"], unique=False)
    op.create_index(
        "uq_leases_one_holder",
        "leases",
        ["case_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "evidence_views",
        sa.Column("lease_id", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.String(length=32), nullable=False),
        sa.Column("first_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.lease_id"], name="fk_evidence_views_lease_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("lease_id", "evidence", name="pk_evidence_views"),
    )
    op.create_table(
        "verdicts",
        sa.Column("verdict_id", sa.Integer(), nullable=False),
        sa.Column("case_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("lease_id", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=32), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("decided_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.case_id"], name="fk_verdicts_case_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.lease_id"], name="fk_verdicts_lease_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name="fk_verdicts_user_id"),
        sa.PrimaryKeyConstraint("verdict_id", name="pk_verdicts"),
        sa.UniqueConstraint("case_id", "user_id", name="uq_verdicts_case_id_user_id"),
        sa.UniqueConstraint("lease_id", name="uq_verdicts_lease_id"),
    )
    for statement in audit_guard(op.get_bind().dialect.name):
        op.execute(sa.text(statement.replace(":", "\\:")))
