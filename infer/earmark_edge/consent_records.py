"""The household's records of consent as files that this device signed: the one in force, and those before it, which events may name."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from earmark_edge.consent import Consent, ConsentError
from earmark_edge.keys import KeyFileError, read_private, write_private
from earmark_edge.signature import Purpose, SignatureError, check, public_of, sign
from earmark_edge.wire import WireError, parse_object

CONSENT_FILE, FORMER_FOLDER = "consent.json", "consents"


def read_consent(state: Path, device_key: bytes) -> Consent:
    """The household's record of consent, if it is the one that this device signed.

    Raises:
        ConsentError: there is none, or it was altered.
    """
    path = state / CONSENT_FILE
    if not path.exists():
        msg = "there is no consent record, without which nothing leaves; the household gives it with `earmark edge consent give`"
        raise ConsentError(msg)
    try:
        return _read(path, device_key)
    except (KeyFileError, SignatureError, WireError, ValueError) as error:
        msg = f"{path}: not a record that this device signed ({error}); nothing leaves until `earmark edge consent give`"
        raise ConsentError(msg) from error


def write_consent(state: Path, device_key: bytes, consent: Consent) -> None:
    """Sign a record and put it in force; one of another name that was in force is kept beside, for what was taken under it.

    Raises:
        KeyFileError: it cannot be written; the one before is still in force.
    """
    with contextlib.suppress(ConsentError):
        former = read_consent(state, device_key)
        if former.consent_id != consent.consent_id:
            _write(state / FORMER_FOLDER / _file_of(former.consent_id), device_key, former)
    _write(state / CONSENT_FILE, device_key, consent)
    (state / FORMER_FOLDER / _file_of(consent.consent_id)).unlink(missing_ok=True)  # it is in force again


def read_former(state: Path, device_key: bytes) -> dict[str, Consent]:
    """The records that were in force before, by name; whatever is damaged is left out."""
    found = {}
    for path in sorted((state / FORMER_FOLDER).glob("*.json")):
        with contextlib.suppress(KeyFileError, SignatureError, WireError, ValueError):
            record = _read(path, device_key)
            found[record.consent_id] = record
    return found


def read_signed(path: Path) -> tuple[bytes, bytes]:
    """A document and the signature beside it, which is yet to be checked.

    Raises:
        KeyFileError: it cannot be read.
        WireError, ValueError: it is not of that form.
    """
    raw = parse_object(read_private(path), path.name)
    if not (isinstance(raw.get("document"), str) and isinstance(raw.get("signature"), str)):
        msg = "expected a document and its signature"
        raise WireError(msg)
    return raw["document"].encode(), bytes.fromhex(raw["signature"])


def write_signed(path: Path, payload: bytes, signature: bytes) -> None:
    """Keep a document with its signature.

    Raises:
        KeyFileError: it cannot be written.
    """
    write_private(path, json.dumps({"document": payload.decode(), "signature": signature.hex()}, indent=1).encode())


def _read(path: Path, device_key: bytes) -> Consent:
    payload, signature = read_signed(path)
    check(public_of(device_key), Purpose.CONSENT, payload, signature)
    return Consent.from_bytes(payload)


def _write(path: Path, device_key: bytes, consent: Consent) -> None:
    payload = consent.to_bytes()
    write_signed(path, payload, sign(device_key, Purpose.CONSENT, payload))


def _file_of(consent_id: str) -> str:
    """A name may hold anything, a file's name may not."""
    return f"{hashlib.sha256(consent_id.encode()).hexdigest()[:32]}.json"
