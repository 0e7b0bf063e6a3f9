"""What a device keeps of itself: its own signing key, and what it got when it enrolled. Each file is its owner's alone, or refused."""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from earmark_edge.messages import key_of
from earmark_edge.oneline import one_line
from earmark_edge.signature import KEY_BYTES, key_id, public_of
from earmark_edge.wire import WireError

DEVICE_KEY_FILE = "device.key"
ENROLMENT_FILE = "enrolment.json"
_OTHERS = 0o077


class KeyFileError(RuntimeError):
    """A key file is missing, damaged, or open to others; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Where the device sends, as whom, and the service's raw public keys: X25519 to seal to, Ed25519 to check its answers with."""

    url: str
    device: str
    token: str = field(repr=False)
    sealing_key: bytes
    signing_key: bytes

    @property
    def fingerprint(self) -> str:
        """What the service's operator and the device's owner compare: both public keys, as eight groups of four letters."""
        digits = key_id(self.sealing_key + self.signing_key)[:32]
        return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everything that a device needs to seal, sign and send: its raw Ed25519 private key, and its enrolment."""

    device_key: bytes = field(repr=False)
    enrolment: Enrolment

    @property
    def device_id(self) -> str:
        """How the service names the device's key."""
        return key_id(public_of(self.device_key))


def device_key(state: Path) -> bytes:
    """The device's raw Ed25519 private key, made on first use.

    Raises:
        KeyFileError: the file is damaged, unreadable or open to others.
    """
    path = state / DEVICE_KEY_FILE
    if not path.exists():
        write_private(path, base64.b64encode(os.urandom(KEY_BYTES)))
    try:
        key = base64.b64decode(read_private(path), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        msg = f"{path}: not a device key; move it away and enrol again, which makes a new one"
        raise KeyFileError(msg)
    return key


def read_credentials(state: Path) -> Credentials:
    """The device's key and enrolment.

    Raises:
        KeyFileError: it was never enrolled, or a file is damaged or open to others.
    """
    path = state / ENROLMENT_FILE
    if not path.exists():
        msg = f"{state}: this device is not enrolled; run `earmark edge enrol URL --code CODE` with a code from the review service"
        raise KeyFileError(msg)
    try:
        raw: Any = json.loads(read_private(path))
        keys = {name: key_of(name, raw.pop(name)) for name in ("sealing_key", "signing_key")}
        enrolment = Enrolment(str(raw["url"]), str(raw["device"]), str(raw["token"]), **keys)
    except (WireError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = f"{path}: not an enrolment ({one_line(error)}); enrol again"
        raise KeyFileError(msg) from error
    return Credentials(device_key(state), enrolment)


def write_enrolment(state: Path, enrolment: Enrolment) -> None:
    """Keep an enrolment, in place of the one before.

    Raises:
        KeyFileError: it cannot be written.
    """
    words = {name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in asdict(enrolment).items()}
    write_private(state / ENROLMENT_FILE, json.dumps(words, indent=1).encode())


def read_private(path: Path) -> bytes:
    """The bytes of a file that nobody but its owner may read.

    Raises:
        KeyFileError: it is unreadable, or open to others.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & _OTHERS:
                msg = f"{path}: others than its owner may read this key file; run `chmod 600` on it, and enrol again if someone did"
                raise KeyFileError(msg)
            return file.read()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})"
        raise KeyFileError(msg) from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file for its owner alone, whole or not at all, and durably.

    Raises:
        KeyFileError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "wb") as file:  # noqa: PTH123 - it takes the handle that was opened for its owner alone
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); {unwritten(error)}"
        raise KeyFileError(msg) from error


def unwritten(error: OSError) -> str:
    """What to do where a file of the state folder, or a page, cannot be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "make room on that disk"
    return "name a place that this user may write to (the state folder: --state or EARMARK_STATE)"


def sync_folder(folder: Path) -> None:
    """Put on the disk which names a folder holds: a file that was renamed into it is there after a power cut.

    Raises:
        OSError: it cannot be.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
