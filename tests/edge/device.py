"""A device that is enrolled with the double of the review service, and whose household consents."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.edge.review_double import SEALING_KEY, SIGNING_KEY, TOKEN, public_x25519

from earmark_edge.consent import Consent
from earmark_edge.consent_records import write_consent, write_signed
from earmark_edge.courier import POLICY_FILE
from earmark_edge.keys import Credentials, Enrolment, device_key, read_credentials, write_enrolment
from earmark_edge.policy import Policy
from earmark_edge.signature import Purpose, public_of, sign
from earmark_model.contract import LABELS


def enrolled(state: Path, url: str, *, token: str = TOKEN) -> Credentials:
    write_enrolment(state, Enrolment(url, "kitchen", token, public_x25519(SEALING_KEY), public_of(SIGNING_KEY)))
    return read_credentials(state)


def consent(consent_id: str = "consent-7", **changes: object) -> Consent:
    now = datetime.now(UTC)
    words = {
        "consent_id": consent_id,
        "tiers": (0, 1, 2, 3),
        "may_train": False,
        "given_at": (now - timedelta(days=1)).isoformat(),
        "expires_at": (now + timedelta(days=1)).isoformat(),
        "labels": tuple(LABELS),
    }
    return Consent(**(words | changes))


def consented(state: Path, consent_id: str = "consent-7", **changes: object) -> Consent:
    given = consent(consent_id, **changes)
    write_consent(state, device_key(state), given)
    return given


def asked(state: Path, tiers: tuple[int, ...], slice_probability: float = 0.0) -> Policy:
    """A policy that the service signed is in force, which asks for `tiers`, and draws from what lies below the thresholds."""
    policy = Policy(1, datetime.now(UTC).isoformat(), tiers, tuple(LABELS), slice_probability=slice_probability)
    write_signed(state / POLICY_FILE, policy.to_bytes(), sign(SIGNING_KEY, Purpose.POLICY, policy.to_bytes()))
    return policy
