"""Accounts as plain values: roles, what each may do, and the signed-in reviewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from earmark_review.errors import NotAllowedError, SettingsError

MIN_PASSWORD_CHARS = 8
MAX_PASSWORD_CHARS = 256


class Role(StrEnum):
    """What an account is for."""

    REVIEWER = "reviewer"
    SUPERVISOR = "supervisor"
    AUDITOR = "auditor"


class Permission(StrEnum):
    """What a page or an action needs."""

    SEE_QUEUE = "see the queue"
    REVIEW = "claim and decide cases"
    READ_LOG = "read the audit log"


PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.REVIEWER: frozenset({Permission.SEE_QUEUE, Permission.REVIEW}),
        Role.SUPERVISOR: frozenset(Permission),
        Role.AUDITOR: frozenset({Permission.SEE_QUEUE, Permission.READ_LOG}),
    }
)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account in one of its sessions."""

    user_id: int
    session_id: int
    name: str
    role: Role

    @property
    def actor(self) -> str:
        """How the audit log names the account."""
        return f"user:{self.name}"

    def may(self, permission: Permission) -> bool:
        """Whether the role reaches this far."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Insist.

        Raises:
            NotAllowedError: the role does not reach this far.
        """
        if not self.may(permission):
            roles = " or ".join(role for role in Role if permission in PERMISSIONS[role])
            msg = f"the role {self.role} cannot {permission}; sign in as {roles}"
            raise NotAllowedError(msg)


def checked_password(password: str) -> str:
    """`password`, if it is long enough to be one.

    Raises:
        SettingsError: it is shorter or longer than passwords are here.
    """
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        msg = f"the password has {len(password)} characters; expected {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS}"
        raise SettingsError(msg)
    return password
