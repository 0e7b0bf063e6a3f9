"""Sealed delivery: device keys, enrolment codes, signatures, dropped objects, event numbers, heartbeats, consents, policies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables; nothing that was there changes."""
    op.create_table(
        "policies",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_policies"),
    )
    op.create_table(
        "device_keys",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_device_keys_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_device_keys"),
        sa.UniqueConstraint("public_key", name="uq_device_keys_public_key"),
    )
    op.create_table(
        "enrolments",
        sa.Column("code_sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_enrolments_device_id"),
        sa.PrimaryKeyConstraint("code_sha256", name="pk_enrolments"),
    )
    op.create_table(
        "event_signatures",
        sa.Column("event_row", sa.Integer(), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.ForeignKeyConstraint(["event_row"], ["events.event_row"], name="fk_event_signatures_event_row", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_row", name="pk_event_signatures"),
    )
    op.create_table(
        "dropped_objects",
        sa.Column("object_id", sa.Integer(), nullable=False),
        sa.Column("told_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["objects.object_id"], name="fk_dropped_objects_object_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("object_id", name="pk_dropped_objects"),
    )
    op.create_table(
        "event_numbers",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("boot_id", sa.String(128), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_event_numbers_device_id"),
        sa.PrimaryKeyConstraint("device_id", "boot_id", "seq", name="pk_event_numbers"),
    )
    op.create_table(
        "heartbeats",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_heartbeats_device_id"),
        sa.PrimaryKeyConstraint("device_id", name="pk_heartbeats"),
    )
    op.create_table(
        "consents",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("consent_id", sa.String(128), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.device_id"], name="fk_consents_device_id"),
        sa.PrimaryKeyConstraint("device_id", "consent_id", name="pk_consents"),
    )
