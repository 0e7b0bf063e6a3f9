"""The files of offered bundles, each under the SHA-256 of its content: an offer made again needs no second copy."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from earmark_edge.bundle_offer import BUNDLE_FILES, MAX_BUNDLE_FILE_BYTES, OfferedFile
from earmark_edge.keys import sync_folder
from earmark_model.contract import BundleError, read_bundle, sha256_file
from earmark_review.errors import BundleOfferError


class BundleFiles:
    """A folder of files that never change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, bundle: Path) -> tuple[OfferedFile, ...]:
        """Copy the files of a bundle's folder in here, durably.

        Raises:
            BundleOfferError: it is no whole bundle, a file is too large, or the disk does not take it.
        """
        try:
            read_bundle(bundle)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return tuple(self._keep(bundle / name) for name in BUNDLE_FILES if (bundle / name).is_file())
        except BundleError as error:
            raise BundleOfferError(str(error)) from error
        except OSError as error:
            msg = f"{error.filename or bundle}: cannot be copied ({error.strerror})"
            raise BundleOfferError(msg) from error

    def path(self, file: OfferedFile) -> Path:
        """Where its content lies.

        Raises:
            BundleOfferError: it is gone, or not what was offered.
        """
        path = self._folder / file.sha256
        if not path.is_file() or path.stat().st_size != file.length or sha256_file(path) != file.sha256:
            msg = f"{path}: {file.name} of an offered bundle is missing or damaged; restore it from a backup, or offer the bundle again"
            raise BundleOfferError(msg)
        return path

    def _keep(self, source: Path) -> OfferedFile:
        length = source.stat().st_size
        if not 0 < length <= MAX_BUNDLE_FILE_BYTES:
            msg = f"{source}: a device takes files of 1 to {MAX_BUNDLE_FILE_BYTES} bytes, this one has {length}"
            raise BundleOfferError(msg)
        file = OfferedFile(source.name, length, sha256_file(source))
        with contextlib.suppress(BundleOfferError):
            self.path(file)
            return file
        aside = self._folder / f".{secrets.token_hex(8)}"
        try:
            with aside.open("xb") as target:
                target.write(source.read_bytes())
                target.flush()
                os.fsync(target.fileno())
            aside.replace(self._folder / file.sha256)
            sync_folder(self._folder)
        finally:
            aside.unlink(missing_ok=True)
        self.path(file)  # a source that changed while it was read is told now, not at the devices
        return file
