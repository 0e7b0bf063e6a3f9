"""The service's own long-term keys: what devices seal to, and what it signs its answers with."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from earmark_edge.keys import sync_folder
from earmark_edge.signature import KEY_BYTES, Purpose, key_id, public_of, sign
from earmark_review.errors import DatabaseError

IDENTITY_FILE = "identity.json"
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class ServiceIdentity:
    """Raw 32-byte private keys: X25519, to which devices seal, and Ed25519, which signs receipts, policies and answers."""

    sealing_key: bytes = field(repr=False)
    signing_key: bytes = field(repr=False)

    @property
    def sealing_public(self) -> bytes:
        """What devices seal to."""
        return _sealing_public(self.sealing_key)

    @property
    def sealing_key_id(self) -> str:
        """How events name the key that they were sealed to."""
        return key_id(self.sealing_public)

    @property
    def signing_public(self) -> bytes:
        """What devices check answers with."""
        return public_of(self.signing_key)

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """The service's signature."""
        return sign(self.signing_key, purpose, message)

    @property
    def fingerprint(self) -> str:
        """What an operator and a device's owner compare at enrolment: both public keys, as eight groups of four letters."""
        digits = key_id(self.sealing_public + self.signing_public)[:32]
        return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


@lru_cache(maxsize=16)
def _sealing_public(sealing_key: bytes) -> bytes:
    """Every event is asked whether it was sealed to this key, which takes as long to work out as a signature."""
    return X25519PrivateKey.from_private_bytes(sealing_key).public_key().public_bytes_raw()


def open_identity(folder: Path) -> ServiceIdentity:
    """The keys in `folder`, made on first use; a file that others may read is refused.

    Raises:
        DatabaseError: the file is unreadable, open to others, or no key file.
    """
    path = folder / IDENTITY_FILE
    try:
        if not path.exists():
            _write(path, ServiceIdentity(os.urandom(KEY_BYTES), os.urandom(KEY_BYTES)))
        if path.stat().st_mode & _OTHERS:
            msg = f"{path}: others than its owner may read the service's keys; run `chmod 600` on it, and replace the keys if someone did"
            raise DatabaseError(msg)
        raw = json.loads(path.read_text(encoding="ascii"))
        keys = [base64.b64decode(raw[name], validate=True) for name in ("sealing_key", "signing_key")]
    except OSError as error:
        msg = f"{path}: the service's keys cannot be read or written ({error.strerror})"
        raise DatabaseError(msg) from error
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not a key file of this service ({error}); restore it from where you keep its copy"
        raise DatabaseError(msg) from error
    if any(len(key) != KEY_BYTES for key in keys):
        msg = f"{path}: a key has another length than {KEY_BYTES} bytes; restore the file from where you keep its copy"
        raise DatabaseError(msg)
    return ServiceIdentity(*keys)


def _write(path: Path, identity: ServiceIdentity) -> None:
    """Whole or not at all; of two processes that start at once, one's keys become both's."""
    words = {"sealing_key": identity.sealing_key, "signing_key": identity.signing_key}
    text = json.dumps({name: base64.b64encode(key).decode() for name, key in words.items()})
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "w", encoding="ascii") as file:  # noqa: PTH123 - it takes the handle that was opened for its owner alone
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(aside, path)
        sync_folder(path.parent)
    except FileExistsError:
        return
    finally:
        aside.unlink()
