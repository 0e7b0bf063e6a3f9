"""The fields that come with an upload: `Content-Digest` of RFC 9530, as far as needed, and the wrapped data key."""

from __future__ import annotations

import base64
import binascii
import re

from earmark_edge.seal import WRAPPED_BYTES, WRAPPED_KEY_HEADER
from earmark_review.errors import DigestError

_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)\s*=\s*:([A-Za-z0-9+/=]*):\s*")
_SHA256_BYTES = 32
_ONE_MEMBER = re.compile(r":([A-Za-z0-9+/=]+):")


def wrapped_key(field: str | None) -> bytes:
    """The wrapped data key that a field such as `:PT0gV...:` holds (a byte sequence of RFC 9651).

    Raises:
        DigestError: the field is missing, malformed, or of another length than a wrapped key.
    """
    member = _ONE_MEMBER.fullmatch((field or "").strip())
    try:
        wrapped = base64.b64decode(member[1] if member else "", validate=True)
    except binascii.Error:
        wrapped = b""
    if len(wrapped) != WRAPPED_BYTES:
        msg = f"expected `{WRAPPED_KEY_HEADER}: :BASE64:` of {WRAPPED_BYTES} bytes, got {len(wrapped)} bytes"
        raise DigestError(msg)
    return wrapped


def content_sha256(field: str | None) -> str:
    """The hexadecimal SHA-256 that a field such as `sha-256=:uU0nuZNNPgil...:` announces; other algorithms beside it are ignored.

    Raises:
        DigestError: the field is missing, malformed, or announces no SHA-256.
    """
    parts = (_MEMBER.fullmatch(part) for part in (field or "").split(","))
    members = {part[1]: part[2] for part in parts if part}
    try:
        digest = base64.b64decode(members["sha-256"], validate=True)
    except (KeyError, binascii.Error):
        digest = b""
    if len(digest) != _SHA256_BYTES:
        msg = f"expected `Content-Digest: sha-256=:BASE64:` of the body, got {field!r}"
        raise DigestError(msg)
    return digest.hex()
