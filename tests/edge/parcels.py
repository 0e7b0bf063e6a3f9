"""Small sealed parcels, made without a model."""

import hashlib
from dataclasses import replace
from functools import cache

from tests.edge.review_double import SEALING_KEY, public_x25519
from tests.edge.test_event import event

from earmark_edge.event import ClipObject
from earmark_edge.outbox import Parcel
from earmark_edge.seal import SealedParcel, seal_parcel

DEVICE_KEY = hashlib.sha256(b"a device").digest()


def parcel(number: int, label: str = "cry", audio_bytes: int = 1_000, audio_tier: int = 2) -> Parcel:
    """Event `number` of a stream, with a score track and audio that no other has: masked, as leaves without a policy."""
    payloads = {0: b'{"track":%d}' % number, audio_tier: hashlib.shake_256(b"%d" % number).digest(audio_bytes)}
    clips = tuple(ClipObject.of(tier, "application/json" if tier == 0 else "audio/wav", payload) for tier, payload in payloads.items())
    made = event()
    scores = dict.fromkeys(made.scores, 0.125) | {label: made.peak_score}
    return Parcel(replace(made, event_id=f"event-{number}", boot_id="boot", seq=number, label=label, scores=scores, clips=clips), payloads)


@cache
def sealed(number: int, label: str = "cry", audio_bytes: int = 1_000) -> SealedParcel:
    given = parcel(number, label, audio_bytes, audio_tier=3)
    return seal_parcel(given.event, given.payloads, DEVICE_KEY, public_x25519(SEALING_KEY))
