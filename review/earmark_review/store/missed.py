"""What the estimate of misses is made from: the events of homes that let a slice be drawn, while the policy drew one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select

from earmark_edge.consent import Consent
from earmark_edge.event import Event
from earmark_edge.policy import Policy
from earmark_review.cases import Verdict
from earmark_review.misses import Home, Misses, estimate
from earmark_review.store.schema import cases, consents, events, golden_cases, policies

_CONFIRMED = frozenset({Verdict.DISTRESS, Verdict.PLAY})
"""Verdicts by which the sound was what the ear listens for, whoever made it and why."""
_TOLD = _CONFIRMED | {Verdict.MEDIA, Verdict.OTHER_SOUND}


@dataclass(slots=True)
class _Tally:
    flagged: int = 0
    told: int = 0
    confirmed: int = 0
    drawn: list[float] = field(default_factory=list)
    drawn_told: list[float] = field(default_factory=list)
    drawn_confirmed: list[float] = field(default_factory=list)


def missed(conn: Connection, since: datetime) -> Misses:
    """The estimate over events received after `since`.

    Only a home whose record says that a slice may be drawn counts, and only what it sent under a policy that drew one: of all else nobody
    knows what was missed. Golden cases have no outcome of their own while they go round, and are left out.
    """
    probabilities = _probabilities(conn)
    homes: defaultdict[str, _Tally] = defaultdict(_Tally)
    may_slice = _slicing(conn)
    for _, consent_id in may_slice:
        homes[consent_id] = _Tally()
    is_golden = cases.c.case_id.in_(select(golden_cases.c.case_id))
    query = select(events.c.device_id, events.c.payload, cases.c.outcome).join(cases, cases.c.event_row == events.c.event_row)
    slicing = events.c.device_id.in_({device_id for device_id, _ in may_slice})  # few or none, so most events need not be read
    for row in conn.execute(query.where(events.c.received_at > since, slicing, ~is_golden)):
        event = Event.from_bytes(row.payload)
        if (row.device_id, event.consent_id) in may_slice and event.policy_version in probabilities:
            _count(homes[event.consent_id], event, Verdict(row.outcome) if row.outcome else None)
    found = [Home(**{name: getattr(tally, name) for name in Home.__slots__}) for tally in homes.values()]
    return estimate(found, min(probabilities.values()) if found and probabilities else None)


def _count(tally: _Tally, event: Event, outcome: Verdict | None) -> None:
    is_told, is_confirmed = outcome in _TOLD, outcome in _CONFIRMED
    if event.slice_probability is None:
        tally.flagged += 1
        tally.told += is_told
        tally.confirmed += is_confirmed
        return
    tally.drawn.append(event.slice_probability)
    tally.drawn_told += [event.slice_probability] * is_told
    tally.drawn_confirmed += [event.slice_probability] * is_confirmed


def _probabilities(conn: Connection) -> dict[int, float]:
    """With which each version of the policy drew, where it did."""
    found = (Policy.from_bytes(payload) for payload in conn.scalars(select(policies.c.payload)))
    return {policy.version: policy.slice_probability for policy in found if policy.slice_probability}


def _slicing(conn: Connection) -> set[tuple[int, str]]:
    """Device and consent of each record that lets a slice be drawn."""
    query = select(consents.c.device_id, consents.c.consent_id, consents.c.payload)
    return {(row.device_id, row.consent_id) for row in conn.execute(query) if _may_slice(Consent.from_bytes(row.payload))}


def _may_slice(consent: Consent) -> bool:
    return consent.may_slice and not consent.withdrawn_at
