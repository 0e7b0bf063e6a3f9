"""Sealed clips in a folder: written aside, hashed on the way, moved into place whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from earmark_edge.keys import sync_folder
from earmark_review.blobs import IncomingBlob, not_given, not_taken, not_there, require_key


class IncomingFile(IncomingBlob):
    """An object under way in `root/incoming`."""

    _file: IO[bytes]

    def __init__(self, folder: BlobFolder, cap_bytes: int, key: str | None) -> None:
        super().__init__(cap_bytes, key)
        self._folder, self._path = folder, folder.incoming / self.key

    def _begin(self) -> None:
        with _told():
            self._file = self._path.open("xb")

    def _keep(self, chunk: bytes) -> None:
        with _told():
            self._file.write(chunk)

    def _finish(self) -> None:
        with _told():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            target = self._folder.path_for(self.key)
            if not target.parent.exists():
                target.parent.mkdir(exist_ok=True)
                sync_folder(self._folder.objects)
            self._path.rename(target)
            sync_folder(target.parent)

    def _discard(self) -> None:
        with suppress(OSError):  # what cannot be flushed is to go anyway
            self._file.close()
        with suppress(OSError):  # and what cannot be removed, the sweep takes
            self._path.unlink(missing_ok=True)


class BlobFolder:
    """Objects in `root/objects`, half-written ones in `root/incoming`, on one file system so that a rename is atomic."""

    def __init__(self, root: Path) -> None:
        self.root, self.objects, self.incoming = root, root / "objects", root / "incoming"
        for folder in (self.objects, self.incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        """As the protocol says."""
        return str(self.root)

    def receive(self, cap_bytes: int, key: str | None = None) -> IncomingFile:
        """As the protocol says."""
        return IncomingFile(self, cap_bytes, key)

    def path_for(self, key: str) -> Path:
        """Where an object lies."""
        return self.objects / require_key(key)[:2] / key

    def read(self, key: str) -> bytes:
        """As the protocol says."""
        try:
            return self.path_for(key).read_bytes()
        except FileNotFoundError as error:
            raise not_there() from error
        except OSError as error:
            raise not_given(error.strerror or str(error)) from error

    def remove(self, key: str) -> None:
        """As the protocol says."""
        path = self.path_for(key)
        with _told():
            path.unlink(missing_ok=True)
            if path.parent.exists():
                sync_folder(path.parent)

    def list_keys(self) -> list[str]:
        """As the protocol says."""
        return [path.name for path in self.objects.glob("*/*")]

    def sweep(self, live_keys: Collection[str], before: datetime) -> int:
        """As the protocol says."""
        unnamed = [*self.incoming.iterdir(), *(path for path in self.objects.glob("*/*") if path.name not in live_keys)]
        old = [path for path in unnamed if _touched(path) < before.timestamp()]
        with _told():
            for path in old:
                path.unlink(missing_ok=True)
        return len(old)


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another worker finished or swept it
        return float("inf")


@contextmanager
def _told() -> Iterator[None]:
    """What a disk refuses, in the service's own words.

    Raises:
        BlobStoreError: it refused.
    """
    try:
        yield
    except OSError as error:
        raise not_taken(error.strerror or str(error)) from error
