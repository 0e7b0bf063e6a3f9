"""What a store of sealed clips promises, whichever it is: taken whole under a name that the service mints, or not at all."""

from __future__ import annotations

import hashlib
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from earmark_review.errors import BlobMissingError, BlobStoreError, ObjectMismatchError, TooLargeError

_KEY = re.compile(r"[0-9a-f]{32}")


class IncomingBlob(ABC):
    """An object on its way in, as a context: unless promoted, leaving it removes what was written."""

    def __init__(self, cap_bytes: int, key: str | None = None) -> None:
        self.key = require_key(key or secrets.token_hex(16))
        self._cap_bytes, self._hash, self._length = cap_bytes, hashlib.sha256(), 0
        self._promoted = False

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._promoted:
            self._discard()

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
            BlobStoreError: the store does not take it.
        """
        self._length += len(chunk)
        if self._length > self._cap_bytes:
            msg = f"more than {self._cap_bytes} bytes came"
            raise TooLargeError(msg)
        self._hash.update(chunk)
        self._keep(chunk)

    def promote(self, length: int, sha256: str) -> str:
        """Make the object part of the store, durably, and return its key.

        Raises:
            ObjectMismatchError: the bytes are not `length` long or have another hash.
            BlobStoreError: the store does not take it.
        """
        self.check(length, sha256)
        self._finish()
        self._promoted = True
        return self.key

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

    @abstractmethod
    def _begin(self) -> None:
        """Make room for it."""

    @abstractmethod
    def _keep(self, chunk: bytes) -> None:
        """Take more bytes."""

    @abstractmethod
    def _finish(self) -> None:
        """Make it durable under its key, at once and whole."""

    @abstractmethod
    def _discard(self) -> None:
        """Leave nothing of it; raises nothing, since something else went wrong already."""


class BlobStore(Protocol):
    """Objects by key; any thread and any process may call."""

    @property
    def address(self) -> str:
        """Where it is, for people."""

    def receive(self, cap_bytes: int, key: str | None = None) -> IncomingBlob:
        """Begin to take an object of at most `cap_bytes`, under a new key unless one is given."""

    def read(self, key: str) -> bytes:
        """The bytes of an object; `key` is one that `promote` gave, never a name from outside.

        Raises:
            BlobMissingError: it is not there, or the store does not give it.
        """

    def remove(self, key: str) -> None:
        """Remove an object; one that is gone already is no error.

        Raises:
            BlobStoreError: the store does not do it.
        """

    def list_keys(self) -> list[str]:
        """Every whole object's key.

        Raises:
            BlobStoreError: the store does not tell.
        """

    def sweep(self, live_keys: Collection[str], before: datetime) -> int:
        """Remove half-written objects, and whole ones that no row names, last touched earlier than `before`; return how many.

        Raises:
            BlobStoreError: the store does not do it.
        """


@dataclass(frozen=True, slots=True)
class HeldBlob:
    """An object that some row names, and what that row says of its bytes."""

    key: str
    length: int
    sha256: str


def copy_blobs(source: BlobStore, target: BlobStore, held: Iterable[HeldBlob]) -> list[str]:
    """Copy objects under the keys that they have, each compared with what its row says; return what is wrong with those that were not.

    Raises:
        BlobStoreError: `target` does not take them.
    """
    faults = []
    for blob in held:
        try:
            with target.receive(blob.length, blob.key) as incoming:
                incoming.write(source.read(blob.key))
                incoming.promote(blob.length, blob.sha256)
        except (BlobMissingError, ObjectMismatchError, TooLargeError) as error:
            faults.append(f"{blob.key}: not copied: {error}")
    return faults


def try_store(store: BlobStore) -> None:
    """Insist that a store takes, gives and removes an object.

    Raises:
        BlobStoreError: it does not do one of these.
        BlobMissingError: it does not give what it took.
    """
    content = secrets.token_bytes(16)
    with store.receive(len(content)) as incoming:
        incoming.write(content)
        key = incoming.promote(len(content), hashlib.sha256(content).hexdigest())
    try:
        if store.read(key) != content:
            raise not_there()
    finally:
        store.remove(key)


def require_key(key: str) -> str:
    """A key of ours; anything else is our own bug."""
    assert _KEY.fullmatch(key), f"not a key of this store: {key!r}"
    return key


def not_there() -> BlobMissingError:
    """For an object that some row names and the store does not have."""
    return BlobMissingError("the clip is listed but its bytes are not in the store; tell whoever runs the service")


def not_given(cause: str) -> BlobMissingError:
    """For an object that the store does not give."""
    return BlobMissingError(f"the clip's bytes cannot be read ({cause}); tell whoever runs the service")


def not_taken(cause: str) -> BlobStoreError:
    """For what the store does not do."""
    return BlobStoreError(f"the store of clips does not do what it should ({cause}), so nothing was done; try again shortly")
