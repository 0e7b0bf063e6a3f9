"""A folder of objects under names that the service mints: written aside, hashed on the way, moved into place whole."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from earmark_review.errors import BlobMissingError, ObjectMismatchError, TooLargeError

_KEY = re.compile(r"[0-9a-f]{32}")


class IncomingBlob:
    """An object on its way in, as a context: unless promoted, leaving it removes what was written."""

    def __init__(self, folder: BlobFolder, cap_bytes: int) -> None:
        self._folder, self._cap_bytes = folder, cap_bytes
        self._key = secrets.token_hex(16)
        self._path = folder.incoming / self._key
        self._hash, self._length = hashlib.sha256(), 0
        self._promoted = False

    def __enter__(self) -> Self:
        self._file = self._path.open("xb")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if not self._promoted:
            self._path.unlink(missing_ok=True)

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._length

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes written so far."""
        return self._hash.digest()

    def write(self, chunk: bytes) -> None:
        """Append.

        Raises:
            TooLargeError: more than the cap has come.
        """
        self._length += len(chunk)
        if self._length > self._cap_bytes:
            msg = f"more than {self._cap_bytes} bytes came"
            raise TooLargeError(msg)
        self._hash.update(chunk)
        self._file.write(chunk)

    def promote(self, length: int, sha256: str) -> str:
        """Make the object part of the store, durably, and return its key.

        Raises:
            ObjectMismatchError: the bytes are not `length` long or have another hash.
        """
        self.check(length, sha256)
        self._file.flush()
        os.fsync(self._file.fileno())
        target = self._folder.path_for(self._key)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            _fsync_folder(self._folder.objects)
        self._path.rename(target)
        self._promoted = True
        _fsync_folder(target.parent)
        return self._key

    def check(self, length: int, sha256: str) -> None:
        """Compare what came with what was declared.

        Raises:
            ObjectMismatchError: the bytes are not `length` long or have another hash.
        """
        if self._length != length:
            msg = f"the event declares {length} bytes, {self._length} came; send the whole object again"
            raise ObjectMismatchError(msg)
        if self._hash.hexdigest() != sha256:
            msg = f"the event declares SHA-256 {sha256}, the bytes have {self._hash.hexdigest()}; send the object again"
            raise ObjectMismatchError(msg)


class BlobFolder:
    """Objects in `root/objects`, half-written ones in `root/incoming`, on one file system so that a rename is atomic."""

    def __init__(self, root: Path) -> None:
        self.objects, self.incoming = root / "objects", root / "incoming"
        for folder in (self.objects, self.incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def receive(self, cap_bytes: int) -> IncomingBlob:
        """Begin to take an object of at most `cap_bytes`."""
        return IncomingBlob(self, cap_bytes)

    def path_for(self, key: str) -> Path:
        """Where an object lies; `key` is one that `promote` gave, never a name from outside."""
        assert _KEY.fullmatch(key), f"not a key of this store: {key!r}"
        return self.objects / key[:2] / key

    def find(self, key: str) -> Path:
        """The file of an object that is there.

        Raises:
            BlobMissingError: it is not.
        """
        path = self.path_for(key)
        if not path.is_file():
            msg = "the clip is listed but its bytes are not in the store; tell whoever runs the service"
            raise BlobMissingError(msg)
        return path

    def read(self, key: str) -> bytes:
        """The bytes of an object.

        Raises:
            BlobMissingError: it is not there, or the disk does not give it.
        """
        try:
            return self.find(key).read_bytes()
        except OSError as error:
            msg = f"the clip's bytes cannot be read ({error.strerror}); tell whoever runs the service"
            raise BlobMissingError(msg) from error

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is no error."""
        path = self.path_for(key)
        path.unlink(missing_ok=True)
        if path.parent.exists():
            _fsync_folder(path.parent)

    def sweep(self, live_keys: Collection[str], before: datetime) -> int:
        """Remove half-written objects, and whole ones that no row names, last touched earlier than `before`; return how many."""
        unnamed = [*self.incoming.iterdir(), *(path for path in self.objects.glob("*/*") if path.name not in live_keys)]
        old = [path for path in unnamed if _touched(path) < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another worker finished or swept it
        return float("inf")


def _fsync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
