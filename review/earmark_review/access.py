"""Who may call what: the one table of endpoints that the server obeys, and the matrix that follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from earmark_review.accounts import PERMISSIONS, QUEUE_NEEDS, Permission, Role
from earmark_review.cases import Queue


class Audience(Enum):
    """How a caller shows who they are."""

    ANYONE = auto()
    PEOPLE = auto()
    """By a session."""
    DEVICES = auto()
    """By a token or a signature."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What an endpoint needs. `needs` of None means any account; with `by_queue` the case's queue has its own need on top."""

    audience: Audience
    needs: Permission | None = None
    by_queue: bool = False

    def allows(self, role: Role | None, queue: Queue) -> bool:
        """Whether `role` (None for a stranger) may call the endpoint for a case in `queue`."""
        if self.audience is Audience.ANYONE:
            return True
        if role is None or (role is Role.DEVICE) is not (self.audience is Audience.DEVICES):
            return False
        needed = {self.needs, QUEUE_NEEDS[queue] if self.by_queue else None} - {None}
        return needed <= PERMISSIONS[role]


_OPEN = Rule(Audience.ANYONE)
_ACCOUNT = Rule(Audience.PEOPLE)
_SENDER = Rule(Audience.DEVICES, Permission.SEND)
_LIST = Rule(Audience.PEOPLE, Permission.SEE_QUEUE)
_QUEUE_WORK = Rule(Audience.PEOPLE, Permission.REVIEW)
_CASE_WORK = Rule(Audience.PEOPLE, Permission.REVIEW, by_queue=True)
_APPROVAL = Rule(Audience.PEOPLE, Permission.APPROVE_ORIGINAL)
_FIGURES = Rule(Audience.PEOPLE, Permission.SUPERVISE)
_LOG = Rule(Audience.PEOPLE, Permission.READ_LOG)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "GET /healthz": _OPEN,
        "GET /readyz": _OPEN,
        "GET /api/v1/openapi.json": _OPEN,
        "GET /metrics": _OPEN,  # by a token of its own, or from this machine alone
        "GET /login": _OPEN,
        "POST /login": _OPEN,
        "POST /logout": _ACCOUNT,
        "GET /": _OPEN,
        "GET /you": _ACCOUNT,
        "POST /you": _ACCOUNT,
        "POST /login/passkey/options": _OPEN,
        "POST /login/passkey": _OPEN,
        "GET /login/provider": _OPEN,
        "GET /login/provider/back": _OPEN,
        "GET /account": _ACCOUNT,
        "POST /account/identity": _ACCOUNT,
        "POST /account/identity/remove": _ACCOUNT,
        "POST /account/passkeys/options": _ACCOUNT,
        "POST /account/passkeys": _ACCOUNT,
        "POST /account/passkeys/remove": _ACCOUNT,
        "POST /account/sessions": _ACCOUNT,
        "GET /queue": _LIST,
        "POST /queue/next": _QUEUE_WORK,
        "GET /decided": _LIST,
        "GET /log": _LOG,
        "GET /figures": _FIGURES,
        "GET /devices": _FIGURES,
        "GET /devices/{device_id}": _FIGURES,
        "GET /cases/{case_id}": _LIST,
        "POST /cases/{case_id}/claim": _CASE_WORK,
        "POST /cases/{case_id}/heartbeat": _CASE_WORK,
        "POST /cases/{case_id}/skip": _CASE_WORK,
        "POST /cases/{case_id}/verdict": _CASE_WORK,
        "GET /cases/{case_id}/spectrogram.png": _CASE_WORK,
        "GET /cases/{case_id}/clip": _CASE_WORK,
        "POST /cases/{case_id}/original": _CASE_WORK,
        "GET /cases/{case_id}/original": _CASE_WORK,
        "GET /originals": _APPROVAL,
        "POST /originals/{request_id}": _APPROVAL,
        "POST /api/v1/enrolments": _OPEN,  # by a one-time code
        "POST /api/v1/heartbeat": _SENDER,
        "PUT /api/v1/consent": _SENDER,
        "GET /api/v1/policy": _SENDER,
        "GET /api/v1/bundle": _SENDER,
        "GET /api/v1/bundles/{version}/{name}": _SENDER,
        "POST /api/v1/statuses": _SENDER,
        "POST /api/v1/events": _SENDER,
        "POST /api/v1/events/{event_id:path}/dropped": _SENDER,
        "PUT /api/v1/events/{event_id:path}/clips/{tier}": _SENDER,
    }
)
"""Every endpoint; the application refuses to start with one that is not here, or with an entry that it does not serve."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One answer of the matrix; `role` is None for someone who is not signed in."""

    role: Role | None
    endpoint: str
    queue: Queue
    is_allowed: bool


def matrix() -> Iterator[Cell]:
    """Every role, endpoint and queue."""
    for role in (None, *Role):
        for endpoint, rule in RULES.items():
            for queue in Queue:
                yield Cell(role, endpoint, queue, rule.allows(role, queue))
