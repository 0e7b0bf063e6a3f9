"""The tables, as SQLAlchemy Core knows them; `sql/versions` builds the same ones step by step, and a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    text,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time. SQLite keeps no zone, so it is held in UTC and handed out aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To UTC; a naive time is our own bug."""
        if value is None:
            return None
        assert value.tzinfo is not None, "times in the store carry their zone"
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Aware, in UTC."""
        if value is None:
            return None
        assert isinstance(value, datetime)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows that a condition picks, on either engine."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


users = Table(
    "users",
    metadata,
    Column("user_id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("name_key", String(128), nullable=False, unique=True),  # case-folded, which can be longer
    Column("password_hash", Text, nullable=False),
    Column("role", String(32), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("passkey_id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("name", String(64), nullable=False),
    Column("credential_id", LargeBinary(1023), nullable=False, unique=True),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
)

# Queues that an account does not work on though its role would.
withheld_queues = Table(
    "withheld_queues",
    metadata,
    Column("user_id", ForeignKey("users.user_id"), primary_key=True),
    Column("queue", String(32), primary_key=True),
)

# Who an account is at a provider of identities: by issuer and subject, never by an address or a name.
identities = Table(
    "identities",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("linked_at", UtcDateTime, nullable=False),
)

sign_in_flows = Table(
    "sign_in_flows",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("secret", Text, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
)

sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("failure_id", Integer, primary_key=True),
    Column("name_key", String(128), nullable=False),
    Column("address", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("last_seen_at", UtcDateTime),
)

events = Table(
    "events",
    metadata,
    Column("event_row", Integer, primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("event_id", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),  # the bytes as they came: what a signature will cover
    Column("received_at", UtcDateTime, nullable=False),
    Column("boot_id", String(128), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("label", String(32), nullable=False),
    Column("peak_score", Float, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("length_s", Float, nullable=False),
    UniqueConstraint("device_id", "event_id"),
    Index(None, "device_id", "event_row"),
)

objects = Table(
    "objects",
    metadata,
    Column("object_id", Integer, primary_key=True),
    Column("event_row", ForeignKey("events.event_row", ondelete="CASCADE"), nullable=False),
    Column("tier", Integer, nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("blob_key", String(32), unique=True),
    Column("held_at", UtcDateTime),
    UniqueConstraint("event_row", "tier"),
    CheckConstraint("(blob_key IS NULL) = (held_at IS NULL)", name="held_whole"),
)

# What sealing and delivery brought stands in tables of its own, beside the rows that it belongs to.

device_keys = Table(
    "device_keys",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False, unique=True),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("code_sha256", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("device_id", ForeignKey("devices.device_id")),
)

event_signatures = Table(
    "event_signatures",
    metadata,
    Column("event_row", ForeignKey("events.event_row", ondelete="CASCADE"), primary_key=True),
    Column("signature", LargeBinary(64), nullable=False),
)

dropped_objects = Table(
    "dropped_objects",
    metadata,
    Column("object_id", ForeignKey("objects.object_id", ondelete="CASCADE"), primary_key=True),
    Column("told_at", UtcDateTime, nullable=False),
)

# The numbers that a device's events bore: a number that never came is a possible loss. They outlive the events.
event_numbers = Table(
    "event_numbers",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("boot_id", String(128), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("first_at", UtcDateTime, nullable=False),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)

# How the canaries of each day (UTC) fared, by what heartbeats said of the last one.
canary_days = Table(
    "canary_days",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("passed", Integer, nullable=False),
    Column("missed", Integer, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("consent_id", String(128), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
    Column("issued_at", UtcDateTime, nullable=False),
)

bundle_offers = Table(
    "bundle_offers",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
    Column("devices", Text),  # a JSON list of the names that it is for; NULL for every device
    Column("offered_at", UtcDateTime, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("event_id", String(128), primary_key=True),
    Column("deleted_at", UtcDateTime, nullable=False),
)

cases = Table(
    "cases",
    metadata,
    Column("case_id", String(32), primary_key=True),
    Column("event_row", ForeignKey("events.event_row", ondelete="CASCADE"), nullable=False, unique=True),
    Column("state", String(32), nullable=False),
    Column("severity", Integer, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    Column("queue", String(32), nullable=False, server_default="first"),
    Column("outcome", String(32)),  # what a closed case ended with, a verdict
    Column("shred_at", UtcDateTime),  # when keys and bytes must go; NULL while open, and while consent to training keeps them
    Index(None, "state", "shred_at"),
    # The queue in its order, and what was closed, however much of the other there is.
    _partial_index("ix_cases_open", "severity", "opened_at", "case_id", where="closed_at IS NULL"),
    _partial_index("ix_cases_closed", "closed_at", where="closed_at IS NOT NULL"),
)

golden_cases = Table(
    "golden_cases",
    metadata,
    Column("case_id", ForeignKey("cases.case_id", ondelete="CASCADE"), primary_key=True),
    Column("expected", String(32), nullable=False),
    Column("armed_at", UtcDateTime, nullable=False),
    Column("shift_s", Float, nullable=False),  # how far its times are moved, so that its age does not give it away
)

leases = Table(
    "leases",
    metadata,
    Column("lease_id", Integer, primary_key=True),
    Column("case_id", ForeignKey("cases.case_id", ondelete="CASCADE"), nullable=False),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("session_id", ForeignKey("sessions.session_id"), nullable=False),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ending", String(32)),
    CheckConstraint("(ended_at IS NULL) = (ending IS NULL)", name="ending_told"),
    # The database itself refuses a second holder, whatever the code above it believes.
    _partial_index("uq_leases_one_holder", "case_id", where="ended_at IS NULL", unique=True),
    Index("ix_leases_user_id_ended_at", "user_id", "ended_at"),
    Index("ix_leases_case_id_user_id", "case_id", "user_id"),
    _partial_index("ix_leases_running", "expires_at", where="ended_at IS NULL"),
)

evidence_views = Table(
    "evidence_views",
    metadata,
    Column("lease_id", ForeignKey("leases.lease_id", ondelete="CASCADE"), primary_key=True),
    Column("evidence", String(32), primary_key=True),
    Column("first_at", UtcDateTime, nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("verdict_id", Integer, primary_key=True),
    Column("case_id", ForeignKey("cases.case_id", ondelete="CASCADE"), nullable=False),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("lease_id", ForeignKey("leases.lease_id"), nullable=False, unique=True),
    Column("verdict", String(32), nullable=False),
    Column("note", Text, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("queue", String(32), nullable=False, server_default="first"),
    Column("onset_s", Float),  # the span as the reviewer corrected it, on the stream's own clock
    Column("offset_s", Float),
    UniqueConstraint("case_id", "user_id"),
)

original_requests = Table(
    "original_requests",
    metadata,
    Column("request_id", Integer, primary_key=True),
    Column("lease_id", ForeignKey("leases.lease_id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("reason", Text, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("answered_by", ForeignKey("users.user_id")),
    Column("answered_at", UtcDateTime),
    Column("expires_at", UtcDateTime),  # set where the answer was yes
    CheckConstraint("(answered_by IS NULL) = (answered_at IS NULL)", name="answer_whole"),
)

# Who looked how long, without what at: it outlives the case, so that deleting one gives nobody more hours.
exposures = Table(
    "exposures",
    metadata,
    Column("exposure_id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False),
    Column("lease_id", Integer, nullable=False, index=True),
    Column("began_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime, nullable=False),  # moved on as the claim is renewed
    Index("ix_exposures_user_id_ended_at", "user_id", "ended_at"),
)

own_limits = Table(
    "own_limits",
    metadata,
    Column("limit_id", Integer, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("day_s", Float, nullable=False),
    Column("run_s", Float, nullable=False),
    Column("from_at", UtcDateTime, nullable=False),
)

# What was exported, by cases' random ids and the keyed names of records of consent: it outlives the events, so that a deletion finds it.
exports = Table(
    "exports",
    metadata,
    Column("export_id", Integer, primary_key=True),
    Column("folder", Text, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
)

export_rows = Table(
    "export_rows",
    metadata,
    Column("export_id", ForeignKey("exports.export_id"), primary_key=True),
    Column("case_id", String(32), primary_key=True),
    Column("consent", String(32), nullable=False),
    Column("gone_at", UtcDateTime),  # since when it may not be used
    Column("why", String(32)),
    Column("told_at", UtcDateTime),  # since when the export's folder says so
    Index("ix_export_rows_case_id", "case_id"),
    CheckConstraint("(gone_at IS NULL) = (why IS NULL)", name="reason_given"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("detail", Text, nullable=False),
    Column("previous_sha256", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
)


def audit_guard(dialect: str) -> tuple[str, ...]:
    """The statements that make `audit_log` append-only on `dialect`, from `sql/audit_log_DIALECT.sql`."""
    statements = files("earmark_review.sql").joinpath(f"audit_log_{dialect}.sql").read_text(encoding="utf-8").split(";;\n")
    return tuple(statement.strip() for statement in statements if statement.strip())


def _ddl(statement: str) -> DDL:
    return DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]  # SQLAlchemy 2.1 leaves this one untyped


for _dialect in ("sqlite", "postgresql"):
    for _statement in audit_guard(_dialect):
        event.listen(audit_log, "after_create", _ddl(_statement).execute_if(dialect=_dialect))
