"""What the review service asks of a device, signed, in versions that only rise; it can narrow what leaves, never widen it past consent."""

from __future__ import annotations

from dataclasses import dataclass

from earmark_edge.consent import Consent
from earmark_edge.wire import MAX_JSON_INTEGER, Message, check_slice_probability, check_tiers, is_utc, require
from earmark_model.contract import LABELS, SENSITIVE


class PolicyError(ValueError):
    """A policy is older than the one in force, contradicts it, or asks for more than the household consented to."""


@dataclass(frozen=True, slots=True)
class Policy(Message):
    """`tiers` that the service wants, `labels` that are routed to it, and those of them that are `urgent`: sent first, dropped last.

    `slice_probability`: with which a sound below the threshold is drawn to count what is missed, in homes that consented to that and in no
    other; 0 for none, and then it is left out of the bytes.
    """

    _name = "policy"
    _unless_used = ("slice_probability",)

    version: int
    issued_at: str
    tiers: tuple[int, ...]
    labels: tuple[str, ...] = tuple(sorted(SENSITIVE))
    urgent: tuple[str, ...] = ("scream",)
    slice_probability: float = 0.0

    def __post_init__(self) -> None:
        require(0 < self.version <= MAX_JSON_INTEGER, "version", "1 or more, below 2^53", self.version)
        require(is_utc(self.issued_at), "issued_at", "an ISO 8601 time in UTC", self.issued_at)
        check_tiers("tiers", self.tiers)
        for name in ("labels", "urgent"):
            labels = getattr(self, name)
            require(isinstance(labels, tuple) and set(labels) <= set(LABELS), name, f"some of {', '.join(LABELS)}", labels)
        if self.slice_probability != 0:
            check_slice_probability(self.slice_probability)


def check_adoptable(new: Policy, current: Policy | None, consent: Consent | None) -> None:
    """Insist that `new` may follow `current` under the household's consent.

    Raises:
        PolicyError: it may not; the one in force stays.
    """
    if current is not None and new.version < current.version:
        msg = f"policy {new.version} is older than policy {current.version} in force; versions only rise"
        raise PolicyError(msg)
    if current is not None and new.version == current.version and new != current:
        msg = f"another policy {new.version} than the one in force; a changed policy needs a higher version"
        raise PolicyError(msg)
    tiers, labels = (set(consent.tiers), set(consent.labels)) if consent else (set[int](), set[str]())
    if wider := sorted(set(new.tiers) - tiers):
        msg = f"policy {new.version} asks for tiers {wider}, which the household did not consent to; the one in force stays"
        raise PolicyError(msg)
    if more := sorted(set(new.labels) - labels):
        msg = f"policy {new.version} routes {', '.join(more)}, which the household did not consent to; the one in force stays"
        raise PolicyError(msg)
