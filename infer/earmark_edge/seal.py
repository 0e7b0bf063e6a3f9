"""Seals objects on the device for the review service alone: a fresh data key each, wrapped by HPKE, bound to what it was made for.

HPKE is RFC 9180 in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305. The device keeps no data key, so it
cannot open what it sealed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from earmark_edge.event import ClipObject, Event
from earmark_edge.signature import Purpose, key_id, public_of, sign
from earmark_edge.wire import canonical_json

WRAPPED_KEY_HEADER = "Earmark-Wrapped-Key"
WRAPPED_BYTES = 80
"""A wrapped data key: 32 bytes of encapsulated key, 32 of data key, 16 of tag."""
TAG_BYTES = 16
"""By which a ciphertext is longer than its plaintext."""
_DATA_KEY_BYTES = 32
_NONCE = bytes(12)  # each data key encrypts once, so its nonce need not differ
_CONTEXT_PREFIX = b"earmark seal v1\n"


class SealError(ValueError):
    """An object cannot be opened: it, its wrapped key or its context is not what was sealed, or it was sealed to another key."""


@dataclass(frozen=True, slots=True)
class SealedObject:
    """What travels of an object: `ciphertext`, and the data key `wrapped` to the service."""

    ciphertext: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class SealedParcel:
    """A signed event and its sealed objects by tier; `payload` is what `signature` covers."""

    event: Event
    payload: bytes
    signature: bytes
    objects: Mapping[int, SealedObject]


def seal_parcel(event: Event, payloads: Mapping[int, bytes], device_key: bytes, service_key: bytes) -> SealedParcel:
    """Seal the objects of `event`, given in the clear by tier, to the raw X25519 public key; sign with the raw Ed25519 private key.

    Raises:
        WireError: the sealed event does not fit the wire format.
    """
    event = Event.from_bytes(replace(event, key_id=key_id(service_key)).to_bytes())  # with the numbers that the service will read
    device_id = key_id(public_of(device_key))
    objects, clips = {}, []
    for clip in event.clips:
        sealed = seal_object(payloads[clip.tier], service_key, seal_context(event, clip.tier, clip.media_type, device_id))
        objects[clip.tier] = sealed
        wrapped_sha256 = hashlib.sha256(sealed.wrapped).hexdigest()
        clips.append(replace(ClipObject.of(clip.tier, clip.media_type, sealed.ciphertext), wrapped_sha256=wrapped_sha256))
    event = replace(event, clips=tuple(clips))
    payload = event.to_bytes()
    return SealedParcel(event, payload, sign(device_key, Purpose.EVENT, payload), objects)


def seal_context(event: Event, tier: int, media_type: str, device_id: str) -> bytes:
    """What an object is bound to: its tier and kind, the device, and the whole event but for the list of objects.

    So an object opens only as what it was sealed as: with this event, span, model, configuration, policy, key and consent.
    """
    words = {name: value for name, value in event.words().items() if name != "clips"}
    return _CONTEXT_PREFIX + canonical_json({"device_id": device_id, "event": words, "media_type": media_type, "tier": tier})


def seal_object(plaintext: bytes, service_key: bytes, context: bytes) -> SealedObject:
    """Encrypt under a fresh data key, and wrap that to the raw X25519 public key; both are bound to `context`."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey  # noqa: PLC0415 - a scan without sending needs none
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415 - the same

    data_key = os.urandom(_DATA_KEY_BYTES)
    ciphertext = ChaCha20Poly1305(data_key).encrypt(_NONCE, plaintext, context)
    wrapped = _suite().encrypt(data_key, X25519PublicKey.from_public_bytes(service_key), info=context)
    return SealedObject(ciphertext, bytes(wrapped))


def open_object(sealed: SealedObject, private_key: bytes, context: bytes) -> bytes:
    """The plaintext, to the holder of the raw X25519 private key who knows the very context.

    Raises:
        SealError: something is not what was sealed.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - a scan without sending needs none
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415 - the same

    try:
        data_key = _suite().decrypt(sealed.wrapped, X25519PrivateKey.from_private_bytes(private_key), info=context)
        return ChaCha20Poly1305(data_key).decrypt(_NONCE, sealed.ciphertext, context)
    except (InvalidTag, ValueError) as error:
        msg = "the object does not open: it, its key or its event is not what the device sealed, or it was sealed to another key"
        raise SealError(msg) from error


def _suite() -> Any:
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415 - a scan without sending needs none

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
