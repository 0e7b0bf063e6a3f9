"""Random tokens, and what is kept of them: 256 bits from the system, of which the database holds the SHA-256 alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_token() -> str:
    """A fresh token, safe in an URL, a header and a cookie."""
    return secrets.token_urlsafe(32)


def token_sha256(token: str) -> str:
    """What the database keeps. A plain hash is enough: nobody guesses 256 random bits, slowly or quickly."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def csrf_token(secret: str) -> str:
    """The token that a form carries, derived from the cookie that another site can neither read nor set."""
    return hmac.new(secret.encode(errors="replace"), b"earmark csrf", hashlib.sha256).hexdigest()


def is_csrf_token(given: str, secret: str) -> bool:
    """Whether `given` belongs to `secret`, in constant time."""
    return hmac.compare_digest(given.encode(errors="replace"), csrf_token(secret).encode())
