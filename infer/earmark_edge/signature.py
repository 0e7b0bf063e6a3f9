"""Ed25519 signatures over exact bytes, each for one purpose, as both sides of the wire make and check them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what neither signs nor sends does without the library
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_HEADER = "Earmark-Signature"
KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_PREFIX, _SUFFIX = "ed25519=:", ":"


class Purpose(StrEnum):
    """What a signature is for; it is signed along, so that no message can stand for one of another kind."""

    ENROLMENT = "earmark enrolment v1"
    """By the device, to show that it holds the key that it registers."""
    ENROLLED = "earmark enrolled v1"
    EVENT = "earmark event v1"
    DROPPED = "earmark dropped v1"
    HEARTBEAT = "earmark heartbeat v1"
    CONSENT = "earmark consent v1"
    RECEIPT = "earmark receipt v1"
    TOMBSTONE = "earmark tombstone v1"
    POLICY = "earmark policy v1"
    STATUSES = "earmark statuses v1"
    BUNDLE = "earmark bundle v1"
    AUDIT_HEAD = "earmark audit head v1"
    """By the service, for itself: the last entry of its log."""


class SignatureError(ValueError):
    """A signature is missing, malformed, or not of this message, purpose and key."""


def sign(private_key: bytes, purpose: Purpose, message: bytes) -> bytes:
    """64 bytes over `message` by the raw 32-byte Ed25519 key; the same input gives the same signature (RFC 8032)."""
    return _private(private_key).sign(_signed(purpose, message))


def check(public_key: bytes, purpose: Purpose, message: bytes, signature: bytes) -> None:
    """Insist that `signature` is of this message, for this purpose, by the owner of the raw 32-byte public key.

    Raises:
        SignatureError: it is not.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - a scan without sending needs none

    try:
        _public(public_key).verify(signature, _signed(purpose, message))
    except (InvalidSignature, ValueError) as error:
        msg = f"the signature is not one of this message as {purpose!s} by key {key_id(public_key)[:16]}"
        raise SignatureError(msg) from error


def public_of(private_key: bytes) -> bytes:
    """The raw public key of a raw Ed25519 private key."""
    return _private(private_key).public_key().public_bytes_raw()


# Reading a key takes as long as signing with it: a service signs every answer with one, and hears the same devices again and again.


@lru_cache(maxsize=16)
def _private(raw: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - a scan without sending needs none

    return Ed25519PrivateKey.from_private_bytes(raw)


@lru_cache(maxsize=1024)
def _public(raw: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - the same

    return Ed25519PublicKey.from_public_bytes(raw)


def key_id(public_key: bytes) -> str:
    """How a key is named: the SHA-256 of its raw public half, in hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()


def header_of(signature: bytes) -> str:
    """A signature as the value of `SIGNATURE_HEADER`."""
    return f"{_PREFIX}{base64.b64encode(signature).decode()}{_SUFFIX}"


def from_header(field: str | None) -> bytes:
    """The signature in the value of `SIGNATURE_HEADER`.

    Raises:
        SignatureError: there is none, or it is malformed.
    """
    if field is None:
        msg = f"no signature came; expected `{SIGNATURE_HEADER}: {_PREFIX}BASE64{_SUFFIX}`"
        raise SignatureError(msg)
    text = field.strip()
    try:
        if not (text.startswith(_PREFIX) and text.endswith(_SUFFIX)):
            raise ValueError  # noqa: TRY301 - told below, like every other malformed field
        signature = base64.b64decode(text[len(_PREFIX) : -len(_SUFFIX)], validate=True)
        if len(signature) != _SIGNATURE_BYTES:
            raise ValueError  # noqa: TRY301 - the same
    except (ValueError, binascii.Error) as error:
        msg = f"malformed signature; expected `{SIGNATURE_HEADER}: {_PREFIX}BASE64{_SUFFIX}` of {_SIGNATURE_BYTES} bytes"
        raise SignatureError(msg) from error
    return signature


def _signed(purpose: Purpose, message: bytes) -> bytes:
    return purpose.encode() + b"\n" + message
