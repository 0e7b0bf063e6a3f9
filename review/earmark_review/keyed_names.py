"""Names for households' records and devices that are the same in every export and say nothing to whoever lacks the service's key."""

from __future__ import annotations

import hashlib
import hmac

from earmark_review.identity import ServiceIdentity

_DIGITS = 16


def keyed_name(identity: ServiceIdentity, what: str) -> str:
    """Sixteen hexadecimal digits of an HMAC-SHA-256."""
    return hmac.new(identity.signing_key, what.encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def consent_name(identity: ServiceIdentity, device_id: int, consent_id: str) -> str:
    """The name of a record of consent that a device sent."""
    return keyed_name(identity, f"consent {device_id} {consent_id}")
