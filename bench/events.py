"""The event that benchmarks of the review service send or store, again and again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from earmark_edge.consent import Consent
from earmark_edge.event import ClipObject, Event
from earmark_edge.signature import Purpose, sign
from earmark_model.contract import LABELS, Reason
from earmark_review.keystore import SignedRecord
from earmark_review.service import Service
from earmark_review.store.consents import take_consent
from earmark_review.store.devices import device_of

CONSENT_ID = "consent"


def event_of(event_id: str, seq: int, clips: tuple[ClipObject, ...] = ()) -> Event:
    """A scream of a second, flagged now."""
    return Event(
        event_id=event_id,
        boot_id="boot",
        seq=seq,
        onset_s=1.0,
        offset_s=2.0,
        wall_time=datetime.now(UTC).isoformat(),
        wall_uncertainty_s=1.0,
        label="scream",
        peak_score=0.9,
        threshold=0.5,
        reason=Reason.ABOVE_THRESHOLD,
        scores=dict.fromkeys(LABELS, 0.1),
        model_sha256="a" * 64,
        config_sha256="b" * 64,
        calibration_sha256=None,
        consent_id=CONSENT_ID,
        clips=clips,
    )


def consented(service: Service, token: str, device_key: bytes) -> None:
    """Keep the record of consent that the events name, as the device of this token would have sent it."""
    now = datetime.now(UTC)
    given, expires = ((now + timedelta(days=days)).isoformat() for days in (-1, 30))
    consent = Consent(CONSENT_ID, (0, 1, 2), may_train=False, given_at=given, expires_at=expires, labels=LABELS)
    payload = consent.to_bytes()
    with service.database.writing() as conn:
        take_consent(conn, device_of(conn, token), consent, SignedRecord(payload, sign(device_key, Purpose.CONSENT, payload)), now)
