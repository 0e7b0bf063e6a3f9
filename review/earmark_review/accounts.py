"""Accounts as plain values: roles, what each may do, and the signed-in reviewer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from earmark_review.cases import Queue
from earmark_review.errors import NotAllowedError, SettingsError

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 256


class Role(StrEnum):
    """What an account is for."""

    REVIEWER = "reviewer"
    SENIOR = "senior"
    """A reviewer who also settles disputes and may be the second person that the original needs."""
    SUPERVISOR = "supervisor"
    AUDITOR = "auditor"
    PRIVACY_OFFICER = "privacy_officer"
    DEVICE = "device"
    """No account: what a device's token may do."""

    @property
    def words(self) -> str:
        """For reading."""
        return self.value.replace("_", " ")


PEOPLE = tuple(role for role in Role if role is not Role.DEVICE)
"""The roles that an account can have."""


class Permission(StrEnum):
    """What a page or an action needs."""

    SEE_QUEUE = "see the queue"
    REVIEW = "claim and decide cases"
    ADJUDICATE = "settle disputed cases"
    APPROVE_ORIGINAL = "approve listening to an original"
    SUPERVISE = "see the figures of the service"
    READ_LOG = "read the audit log"
    ERASE = "delete events and record what was consented"
    SEND = "send events"


_REVIEWER = frozenset({Permission.SEE_QUEUE, Permission.REVIEW})
_SENIOR = _REVIEWER | {Permission.ADJUDICATE, Permission.APPROVE_ORIGINAL}
PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.REVIEWER: _REVIEWER,
        Role.SENIOR: _SENIOR,
        Role.SUPERVISOR: _SENIOR | {Permission.SUPERVISE, Permission.READ_LOG},
        Role.AUDITOR: frozenset({Permission.SEE_QUEUE, Permission.READ_LOG, Permission.SUPERVISE}),
        Role.PRIVACY_OFFICER: frozenset({Permission.SEE_QUEUE, Permission.READ_LOG, Permission.ERASE}),
        Role.DEVICE: frozenset({Permission.SEND}),
    }
)
QUEUE_NEEDS: Mapping[Queue, Permission] = MappingProxyType(
    {Queue.FIRST: Permission.REVIEW, Queue.SECOND: Permission.REVIEW, Queue.ADJUDICATION: Permission.ADJUDICATE}
)
"""What it takes to work on a case of each queue."""


def queues_of(role: Role, withheld: Collection[Queue] = ()) -> tuple[Queue, ...]:
    """The queues that a role may work on, but for those that an account has withheld."""
    return tuple(queue for queue in Queue if QUEUE_NEEDS[queue] in PERMISSIONS[role] and queue not in withheld)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account in one of its sessions."""

    user_id: int
    session_id: int
    name: str
    role: Role
    withheld: frozenset[Queue] = frozenset()
    """Queues that the role reaches and this account does not."""

    @property
    def actor(self) -> str:
        """How the audit log names the account."""
        return f"user:{self.name}"

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The queues that the account may work on."""
        return queues_of(self.role, self.withheld)

    def may(self, permission: Permission) -> bool:
        """Whether the role reaches this far."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Insist.

        Raises:
            NotAllowedError: the role does not reach this far.
        """
        if not self.may(permission):
            roles = " or ".join(role.words for role in Role if permission in PERMISSIONS[role])
            msg = f"the role {self.role.words} cannot {permission}; sign in as {roles}"
            raise NotAllowedError(msg)

    def require_queue(self, queue: Queue) -> None:
        """Insist.

        Raises:
            NotAllowedError: neither the role nor the account works on cases of this queue.
        """
        self.require(QUEUE_NEEDS[queue])
        if queue in self.withheld:
            msg = f"your account does not work on this queue ({queue}); whoever runs the service opens it with `earmark review user queues`"
            raise NotAllowedError(msg)


def checked_role(role: Role) -> Role:
    """`role`, if a person can have it.

    Raises:
        SettingsError: it is the devices' own.
    """
    if role not in PEOPLE:
        msg = "the role device is no account's; enrol a device with `earmark review device enrol NAME`"
        raise SettingsError(msg)
    return role


def checked_password(password: str) -> str:
    """`password`, if it is long enough to be one.

    Raises:
        SettingsError: it is shorter or longer than passwords are here.
    """
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        msg = f"the password has {len(password)} characters; expected {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS}"
        raise SettingsError(msg)
    return password
