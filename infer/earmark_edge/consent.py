"""The household's consent: what may leave, until when, and for what. Without a record that holds, nothing leaves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from earmark_edge.wire import Message, check_id, check_tiers, is_utc, require
from earmark_model.contract import LABELS, SENSITIVE


class ConsentError(PermissionError):
    """Nothing may leave: there is no record, or it does not reach this far; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Consent(Message):
    """A record of consent, signed by the device that it was given to. It names no person.

    `tiers`: how much of a flagged span may leave, 0 (score track) to 3 (original audio). `labels`: which sounds may. `may_train`: whether a
    reviewer's verdicts may train models. `may_slice`: whether a random few of the sounds below the threshold may leave too, masked, to
    count what is missed; left out of the bytes where not. `withdrawn_at`: "" while it stands. All times are ISO 8601 in UTC.
    """

    _name = "consent"
    _unless_used = ("may_slice",)

    consent_id: str
    tiers: tuple[int, ...]
    may_train: bool
    given_at: str
    expires_at: str
    labels: tuple[str, ...] = tuple(sorted(SENSITIVE))
    withdrawn_at: str = ""
    may_slice: bool = False

    def __post_init__(self) -> None:
        check_id("consent_id", self.consent_id)
        require(bool(check_tiers("tiers", self.tiers)), "tiers", "at least one tier", self.tiers)
        for name in ("may_train", "may_slice"):
            require(isinstance(getattr(self, name), bool), name, "true or false", getattr(self, name))
        for name in ("given_at", "expires_at"):
            require(is_utc(getattr(self, name)), name, "an ISO 8601 time in UTC", getattr(self, name))
        require(
            not self.withdrawn_at or is_utc(self.withdrawn_at), "withdrawn_at", "an ISO 8601 time in UTC, or nothing", self.withdrawn_at
        )
        is_ordered = datetime.fromisoformat(self.given_at) < datetime.fromisoformat(self.expires_at)
        require(is_ordered, "expires_at", "a time after given_at", self.expires_at)
        known = isinstance(self.labels, tuple) and bool(self.labels) and set(self.labels) <= set(LABELS)
        require(known, "labels", f"some of {', '.join(LABELS)}", self.labels)

    def check_holds(self, now: datetime) -> None:
        """Insist that the record stands.

        Raises:
            ConsentError: it was withdrawn or has expired.
        """
        if self.withdrawn_at:
            msg = f"consent {self.consent_id!r} was withdrawn on {self.withdrawn_at}; nothing leaves until `earmark edge consent give`"
            raise ConsentError(msg)
        if now >= datetime.fromisoformat(self.expires_at):
            msg = f"consent {self.consent_id!r} expired on {self.expires_at}; nothing leaves until `earmark edge consent give`"
            raise ConsentError(msg)
