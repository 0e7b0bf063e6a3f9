"""The append-only log: who did what to which case, each entry chained to the one before by its SHA-256.

Database triggers refuse to change or delete entries; the chain shows it where someone got round them.
Entries carry no notes, tokens or audio: what must be deletable is kept elsewhere and named here by its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, insert, select, true
from sqlalchemy.exc import SQLAlchemyError

from earmark_review.errors import AuditUnavailableError
from earmark_review.store.schema import audit_guard, audit_log
from earmark_review.store.turns import Turn, take_turn

GENESIS_SHA256 = "0" * 64
OPERATOR = "operator"
"""Whoever has a shell on the machine."""
SERVICE = "service"

_END = select(audit_log.c.seq, audit_log.c.sha256).order_by(audit_log.c.seq.desc()).limit(1)
_ADD = insert(audit_log)


class Action(StrEnum):
    """What an entry records."""

    EVENT_RECEIVED = "event.received"
    EVENT_CONFLICT = "event.conflict"
    EVENT_REPLAYED = "event.replayed_after_deletion"
    EVENT_UNCONSENTED = "event.refused_without_consent"
    EVENT_DELETED = "event.deleted"
    EVENT_DELETED_AGAIN = "event.deleted_after_restore"
    OBJECT_HELD = "object.held"
    CASE_READY = "case.ready"
    CASE_VIEWED = "case.viewed"
    CASE_CLAIMED = "case.claimed"
    CASE_SKIPPED = "case.skipped"
    CASE_DECIDED = "case.decided"
    LEASE_EXPIRED = "lease.expired"
    LEASE_RELEASED = "lease.released"
    EVIDENCE_SERVED = "evidence.served"
    EVIDENCE_MISSING = "evidence.missing"
    LOG_READ = "log.read"
    SESSION_STARTED = "session.started"
    SESSION_ENDED = "session.ended"
    SIGN_IN_REFUSED = "sign_in.refused"
    SIGN_IN_PAUSED = "sign_in.paused"
    CASE_ESCALATED = "case.escalated"
    CASE_EXPIRED = "case.expired"
    CASE_WITHDRAWN = "case.withdrawn"
    CASE_SHREDDED = "case.shredded"
    GOLDEN_ADDED = "golden.added"
    ORIGINAL_ASKED = "original.asked"
    ORIGINAL_APPROVED = "original.approved"
    ORIGINAL_REFUSED = "original.refused"
    HOUSEHOLD_ERASED = "household.erased"
    EXPORT_MADE = "export.made"
    EXPORT_WITHDRAWN = "export.withdrawn"
    USER_ADDED = "user.added"
    PASSKEY_ADDED = "passkey.added"
    PASSKEY_REMOVED = "passkey.removed"
    IDENTITY_LINKED = "identity.linked"
    IDENTITY_UNLINKED = "identity.unlinked"
    USER_ROLE_CHANGED = "user.role_changed"
    USER_QUEUES_CHANGED = "user.queues_changed"
    USER_PASSWORD_SET = "user.password_set"  # noqa: S105 - an action, no password
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    DEVICE_ADDED = "device.added"
    DEVICE_REVOKED = "device.revoked"
    ENROLMENT_OFFERED = "enrolment.offered"
    SIGNATURE_REFUSED = "signature.refused"
    OBJECT_DROPPED = "object.dropped"
    KEYS_DESTROYED = "keys.destroyed"
    CONSENT_RECORDED = "consent.recorded"
    CONSENT_RECORDED_AGAIN = "consent.recorded_after_restore"
    POLICY_ISSUED = "policy.issued"
    CANARY_MISSED = "canary.missed"
    BUNDLE_OFFERED = "bundle.offered"
    BUNDLE_ADOPTED = "bundle.adopted"
    BUNDLE_FAILED = "bundle.failed"


ALERTS = frozenset(
    {
        Action.EVENT_CONFLICT,
        Action.EVENT_REPLAYED,
        Action.EVENT_UNCONSENTED,
        Action.EVIDENCE_MISSING,
        Action.SIGN_IN_PAUSED,
        Action.SIGNATURE_REFUSED,
        Action.CANARY_MISSED,
        Action.BUNDLE_FAILED,
        Action.CASE_ESCALATED,
        Action.CASE_EXPIRED,
        Action.CASE_WITHDRAWN,
    }
)
"""Entries that someone should look at."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. `subject` names what was acted on, such as `case:1f0c…`; `actor` who did, such as `user:ada`."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    previous_sha256: str
    sha256: str

    @property
    def is_alert(self) -> bool:
        """Whether someone should look at it."""
        return self.action in ALERTS

    def expected_sha256(self) -> str:
        """The hash that the entry's own words give."""
        words = (self.seq, self.at.isoformat(), self.actor, self.action, self.subject, self.detail, self.previous_sha256)
        return hashlib.sha256(json.dumps(words, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


DRAFTS = "earmark_audit_drafts"
"""The execution option under which a transaction keeps what it has to enter before it is committed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that has no place in the chain yet."""

    at: datetime
    actor: str
    action: Action
    subject: str
    detail: Mapping[str, Any]


def append(conn: Connection, now: datetime, actor: str, action: Action, subject: str, detail: Mapping[str, Any] | None = None) -> None:
    """Enter something in the caller's transaction, one of `Database.writing`: it stands or falls with what it records.

    It takes its place in the chain when the transaction ends, and the transaction fails where the log does not take it.
    """
    drafts: list[Draft] = conn.get_execution_options()[DRAFTS]
    drafts.append(Draft(now, actor, action, subject, dict(detail or {})))


def write(conn: Connection, drafts: Iterable[Draft]) -> None:
    """Chain drafts to the end of the log, oldest first; from here to its end no other transaction does so.

    Raises:
        AuditUnavailableError: the log did not take the entries.
    """
    rows: list[dict[str, Any]] = []
    try:
        for draft in drafts:
            if not rows:
                seq, previous = _end_of_log(conn)
            seq += 1
            entry = Entry(seq, draft.at, draft.actor, draft.action, draft.subject, draft.detail, previous, "")
            sha256 = entry.expected_sha256()
            words = {"actor": draft.actor, "action": str(draft.action), "subject": draft.subject, "detail": _written(draft.detail)}
            rows.append({"seq": seq, "at": draft.at, **words, "previous_sha256": previous, "sha256": sha256})
            previous = sha256
        if rows:
            conn.execute(_ADD, rows)
    except SQLAlchemyError as error:
        msg = "the audit log does not take entries, so this was not done; tell whoever runs the service"
        raise AuditUnavailableError(msg) from error


def _end_of_log(conn: Connection) -> tuple[int, str]:
    """Number and hash of the last entry, with the turn to write the next."""
    take_turn(conn, Turn.LOG)
    head = conn.execute(_END).first()
    return (head.seq, head.sha256) if head else (0, GENESIS_SHA256)


def require_working(conn: Connection, now: datetime) -> None:
    """Insist that the log takes entries, by one that is taken back at once: for a second look at what was entered at the first.

    Raises:
        AuditUnavailableError: it does not.
    """
    tried = conn.begin_nested()
    try:
        write(conn, [Draft(now, SERVICE, Action.LOG_READ, "log", {})])
    finally:
        if tried.is_active:
            tried.rollback()


def read(
    conn: Connection, *, after: int = 0, before: int | None = None, limit: int | None = None, newest_first: bool = False
) -> list[Entry]:
    """Entries with `seq` above `after` and below `before`."""
    order = audit_log.c.seq.desc() if newest_first else audit_log.c.seq
    wanted = (audit_log.c.seq > after, audit_log.c.seq < before if before is not None else true())
    rows = conn.execute(select(audit_log).where(*wanted).order_by(order).limit(limit))
    return [
        Entry(row.seq, row.at, row.actor, row.action, row.subject, _detail(row.detail), row.previous_sha256, row.sha256) for row in rows
    ]


def _detail(words: str) -> Mapping[str, Any]:
    """An entry's detail, which has one way of being written: another one with the same meaning is an edit, too."""
    detail = json.loads(words)
    if not isinstance(detail, dict) or _written(detail) != words:
        msg = f"the detail {words[:60]!r} is not as this service writes it"
        raise ValueError(msg)
    return detail


def _written(detail: Mapping[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True, separators=(",", ":"))


_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit_log'::regclass AND tgenabled IN ('O', 'A')",
}


def missing_guards(conn: Connection) -> list[str]:
    """The triggers that keep the log append-only and are not in the database."""
    named = re.findall(r"CREATE TRIGGER (\w+)", "".join(audit_guard(conn.dialect.name)))
    present = set(conn.exec_driver_sql(_TRIGGERS[conn.dialect.name]).scalars())
    return [name for name in named if name not in present]


def first_break(entries: Iterable[Entry]) -> str | None:
    """Where a chain read from its first entry is broken, in words; None where it holds."""
    seq, previous = 0, GENESIS_SHA256
    for entry in entries:
        if entry.seq != seq + 1:
            return f"entry {seq + 1} is missing"
        if entry.previous_sha256 != previous:
            return f"entry {entry.seq} does not follow from the one before"
        if entry.sha256 != entry.expected_sha256():
            return f"entry {entry.seq} was changed"
        seq, previous = entry.seq, entry.sha256
    return None
