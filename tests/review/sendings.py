"""What a device of the tests sends: sealed events, and the fields that go with them on the wire."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import soundfile

from earmark_edge.event import ClipObject, Event, ScoreTrack
from earmark_edge.picture import PICTURE_MEDIA_TYPE, third_octave_picture
from earmark_edge.seal import WRAPPED_BYTES, WRAPPED_KEY_HEADER, seal_parcel
from earmark_edge.signature import SIGNATURE_HEADER, Purpose, header_of, sign
from earmark_model.contract import LABELS, Reason
from earmark_review.identity import ServiceIdentity

RATE_HZ = 16_000


def tone_bytes(seconds: float = 1.0, frequency_hz: float = 1000.0, kind: str = "FLAC") -> bytes:
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    stream = io.BytesIO()
    soundfile.write(stream, 0.5 * np.sin(2 * np.pi * frequency_hz * times), RATE_HZ, format=kind, subtype="PCM_16")
    return stream.getvalue()


def track_for(label: str, seconds: float = 1.0, start_s: float = 10.0) -> ScoreTrack:
    hops = round(seconds / 0.1)
    scores = {name: tuple(0.9 if name == label and 2 <= i < 6 else 0.1 for i in range(hops)) for name in LABELS}
    return ScoreTrack(start_s, 0.1, scores, {label: 0.6})


def picture_bytes() -> bytes:
    """The device's picture of a tone at 500 Hz that is silent from the middle of a second on."""
    times = np.arange(RATE_HZ) / RATE_HZ
    tone = np.where(times < 0.5, 0.5 * np.sin(2 * np.pi * 500 * times), 0).astype(np.float32)
    return third_octave_picture(tone, RATE_HZ, 10.0).to_bytes()


@dataclass(frozen=True)
class Sending:
    """An event, and by tier the ciphertexts of its objects and what they hold."""

    event: Event
    objects: dict[int, bytes] = field(default_factory=dict)
    plain: dict[int, bytes] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        return self.event.to_bytes()


def device_key(name: str) -> bytes:
    """The Ed25519 key of a test's device, the same each time."""
    return hashlib.sha256(f"device {name}".encode()).digest()


IDENTITY = ServiceIdentity(hashlib.sha256(b"sealing").digest(), hashlib.sha256(b"signing").digest())
"""Every service of the tests has these keys, so that what is sealed for one opens in any."""

WRAPPED: dict[bytes, bytes] = {}
"""The wrapped data key of every ciphertext that `sending` made, for `Sender.put` to send along."""


def once_for_each(make: Callable[..., Sending]) -> Callable[..., Sending]:
    """Sealing differs each time; a device seals once and sends that. The same words give the same bytes."""
    made: dict[str, Sending] = {}
    return lambda *words, **changes: made.setdefault(repr((words, sorted(changes.items()))), make(*words, **changes))


@once_for_each
def sending(
    event_id: str = "event-1",
    label: str = "scream",
    reason: Reason = Reason.ABOVE_THRESHOLD,
    device: str = "kitchen",
    *,
    masked: bool = False,
    pictured: bool = False,
    **changes: object,
) -> Sending:
    """A sealed event of `device` with a score track and a clip, or with what `plain` maps tiers to: media types and bytes.

    With `clips` among the changes, these are declared as they are, sealed or not.
    """
    default = {0: ("application/json", track_for(label).to_bytes()), 3: ("audio/flac", tone_bytes())}
    if masked:
        default[2] = ("audio/flac", tone_bytes(frequency_hz=500))
    if pictured:
        default[1] = (PICTURE_MEDIA_TYPE, picture_bytes())
    inside = changes.pop("plain", default)
    declared = tuple(ClipObject.of(tier, kind, content) for tier, (kind, content) in inside.items())
    plain = {tier: content for tier, (_, content) in inside.items()}
    scores = dict.fromkeys(LABELS, 0.1) | {label: 0.9}
    event = Event(
        event_id=event_id,
        boot_id="boot-1",
        seq=7,
        onset_s=10.2,
        offset_s=10.6,
        wall_time="2026-03-01T19:58:00+00:00",
        wall_uncertainty_s=0.5,
        label=label,
        peak_score=0.9,
        threshold=0.6,
        reason=reason,
        scores=scores,
        model_sha256="a" * 64,
        config_sha256="b" * 64,
        calibration_sha256=None,
        consent_id="consent-1",
        clips=declared,
    )
    listed = changes.pop("clips", None)
    return sealed(replace(event, **changes), plain, device, listed)


def sealed(event: Event, plain: dict[int, bytes], device: str = "kitchen", listed: object = None) -> Sending:
    parcel = seal_parcel(event, plain, device_key(device), IDENTITY.sealing_public)
    WRAPPED.update((made.ciphertext, made.wrapped) for made in parcel.objects.values())
    event = parcel.event if listed is None else replace(parcel.event, clips=listed)
    return Sending(event, {tier: made.ciphertext for tier, made in parcel.objects.items()}, plain)


def digest_field(payload: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(payload).digest()).decode()}:"


def signature_field(payload: bytes, purpose: Purpose = Purpose.EVENT, device: str = "kitchen") -> dict[str, str]:
    return {SIGNATURE_HEADER: header_of(sign(device_key(device), purpose, payload))}


def wrapped_field(ciphertext: bytes) -> dict[str, str]:
    wrapped = WRAPPED.get(ciphertext, bytes(WRAPPED_BYTES))
    return {WRAPPED_KEY_HEADER: f":{base64.b64encode(wrapped).decode()}:"}
