"""Whether a household consented to what its device sends: nothing is taken that no record, which the device sent before, covers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from earmark_edge.consent import Consent
from earmark_edge.event import Event
from earmark_review.store.schema import consents

_RECORD = select(consents.c.payload).where(consents.c.device_id == bindparam("device_id"), consents.c.consent_id == bindparam("consent_id"))


def consent_of(conn: Connection, device_id: int, consent_id: str) -> Consent | None:
    """The record behind an event's `consent_id`, if the device sent it."""
    payload = conn.execute(_RECORD, {"device_id": device_id, "consent_id": consent_id}).scalar()
    return None if payload is None else Consent.from_bytes(payload)


def consent_gap(conn: Connection, device_id: int, event: Event) -> str:
    """Why the record that an event names does not cover it, and what to do; "" where it does.

    Whether it had expired is judged by the event's own time, on the clock that also wrote the record: what was heard in time may come late.
    """
    consent = consent_of(conn, device_id, event.consent_id)
    named = f"consent {event.consent_id!r}"
    if consent is None:
        return f"this device sent no record of {named}; PUT the household's signed record to /api/v1/consent, then send the event again"
    if consent.withdrawn_at:
        return f"{named} was withdrawn on {consent.withdrawn_at}, and nothing is taken under it any more; wipe this on the device"
    if datetime.fromisoformat(event.wall_time) >= datetime.fromisoformat(consent.expires_at):
        return f"{named} had expired on {consent.expires_at} when this was heard; the household gives it anew for what comes"
    if uncovered := _uncovered(event, consent):
        return f"{named} does not cover {uncovered}; send less, or ask the household for a record that reaches as far"
    return ""


def _uncovered(event: Event, consent: Consent) -> str:
    """What of the event the record does not speak of, in words."""
    if event.label not in consent.labels:
        return f"the sound {event.label}, only {', '.join(consent.labels)}"
    if event.slice_probability is not None and not consent.may_slice:
        return "sounds drawn from below the threshold"
    beyond = sorted({clip.tier for clip in event.clips} - set(consent.tiers))
    return f"tiers {beyond}, only {list(consent.tiers)}" if beyond else ""
