"""The bundles that a device was offered, on its disk: which one runs, which is on trial, and how far versions have risen.

    bundles/shelf.json   what runs, what is on trial, replaced in one step
    bundles/v7/          a whole bundle, with the signed offer that it came by
    bundles/.v8.part/    one that is still being loaded

Whatever moment the power fails at, what ran before runs again: a folder is renamed to its name when all of it is on the disk, and the
shelf names it only then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from earmark_edge.bundle_offer import TRIAL_WORDS, BundleOffer, OfferedFile
from earmark_edge.keys import KeyFileError, read_private, sync_folder, write_private
from earmark_edge.oneline import one_line
from earmark_edge.signature import Purpose, SignatureError, check
from earmark_edge.wire import WireError, checked, parse_object, require

BUNDLES_FOLDER, SHELF_FILE, OFFER_FILE = "bundles", "shelf.json", "offer.json"
MOST_ATTEMPTS = 3
"""So many times may the device end while a bundle is on trial before that counts as the bundle's fault."""
logger = logging.getLogger(__name__)


class BundleRefusedError(RuntimeError):
    """An offer is not taken; what runs goes on. The message says why."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Versions, 0 for none. `seen`: the highest that was ever taken in. `outcome`: a word of `TRIAL_WORDS` on the trial that ended last.

    `attempts`: how often the version on trial was loaded since the trial began.
    """

    running: int = 0
    previous: int = 0
    seen: int = 0
    trial: int = 0
    attempts: int = 0
    outcome: str = ""

    def __post_init__(self) -> None:
        versions = (self.running, self.previous, self.trial)
        require(min(versions) >= 0 and max(versions) <= self.seen, "shelf", "versions from 0 to the highest seen", versions)
        require(self.attempts >= 0, "attempts", "0 or more", self.attempts)
        require(self.outcome in TRIAL_WORDS, "outcome", f"one of {TRIAL_WORDS}", self.outcome)


class BundleStore:
    """The folder `bundles` in a state folder. `step` is called by name at every durable step; a test kills the process there.

    One thread takes bundles in (`wanted`, `take`, `begin_trial`, `tidy`); another may `adopt` and `give_up` meanwhile.
    """

    def __init__(self, state: Path, signing_key: bytes, *, step: Callable[[str], None] = lambda _name: None) -> None:
        self._folder, self._signing_key, self._step = state / BUNDLES_FOLDER, signing_key, step
        self._lock = threading.RLock()

    def shelf(self) -> Shelf:
        """What stands where. A damaged shelf is as an empty one, but for the versions that lie there: those count as seen."""
        path = self._folder / SHELF_FILE
        if not path.exists():
            return Shelf(seen=max(self._versions(), default=0))
        try:
            return Shelf(**checked(parse_object(read_private(path), "shelf"), Shelf))
        except (WireError, KeyFileError, TypeError) as error:
            logger.warning("%s: damaged (%s); the bundle that ships runs until another is offered", path, one_line(error))
            return Shelf(seen=max(self._versions(), default=0))

    def folder(self, version: int) -> Path:
        """Where a version lies."""
        return self._folder / f"v{version}"

    def running(self) -> int:
        """The newest version that passed its trial and is whole: the one adopted last, or the one before it; 0 for neither."""
        shelf = self.shelf()
        for version in filter(None, (shelf.running, shelf.previous)):
            try:
                self._verify(version)
            except BundleRefusedError as error:
                logger.warning("bundle %d cannot run: %s", version, error)
            else:
                return version
        return 0

    def wanted(self, payload: bytes, signature: bytes) -> BundleOffer | None:
        """The offer, if it is to be taken in; None where that was done already, unless the disk damaged what had passed its trial.

        Raises:
            BundleRefusedError: not signed by the service, not an offer, or older than what was taken in before.
        """
        try:
            check(self._signing_key, Purpose.BUNDLE, payload, signature)
            offer = BundleOffer.from_bytes(payload)
        except (SignatureError, WireError) as error:
            raise BundleRefusedError(str(error)) from error
        shelf = self.shelf()
        if offer.version < shelf.seen:
            msg = f"bundle {offer.version} is older than bundle {shelf.seen}, which was taken in before; versions only rise"
            raise BundleRefusedError(msg)
        if offer.version == shelf.seen:
            self._check_same(offer, payload)
            return offer if self._is_lost(shelf) else None
        return offer

    def _is_lost(self, shelf: Shelf) -> bool:
        """Whether the version that was taken in last passed its trial and can no longer run."""
        if shelf.trial or shelf.outcome:
            return False
        try:
            self._verify(shelf.seen)
        except BundleRefusedError:
            return True
        return shelf.running != shelf.seen

    def take(self, offer: BundleOffer, payload: bytes, signature: bytes, fetch: Callable[[OfferedFile], bytes]) -> None:
        """Load a wanted bundle and put it on trial. A file that was loaded whole before is not loaded again.

        Raises:
            BundleRefusedError: a file is not what the offer says.
            KeyFileError: it cannot be written.
        """
        part = self._folder / f".v{offer.version}.part"
        for file in offer.files:
            if not _is_whole(part / file.name, file):
                content = fetch(file)
                if not _matches(content, file):
                    msg = f"bundle {offer.version}: {file.name} is not the file that was offered; is the service's disk damaged?"
                    raise BundleRefusedError(msg)
                self._write(part / file.name, content)
        signed = json.dumps({"document": payload.decode(), "signature": signature.hex()}, indent=1).encode()
        self._write(part / OFFER_FILE, signed)
        self._place(part, self.folder(offer.version))
        with self._lock:
            shelf = self.shelf()
            running = shelf.previous if shelf.running == offer.version else shelf.running  # where it was damaged, the one before it runs
            self._put(replace(shelf, running=running, seen=offer.version, trial=offer.version, attempts=0, outcome="shadow"))

    def begin_trial(self) -> int:
        """The version on trial, counted as loaded once more; 0 where there is none, or it ended the device too often.

        Raises:
            BundleRefusedError: it is damaged. That ends the trial.
            KeyFileError: it cannot be noted.
        """
        with self._lock:
            shelf = self.shelf()
            if shelf.trial and shelf.attempts < MOST_ATTEMPTS:
                self._put(replace(shelf, attempts=shelf.attempts + 1))
        if shelf.attempts >= MOST_ATTEMPTS:
            logger.warning("bundle %d is given up: the device ended %d times while it was on trial", shelf.trial, shelf.attempts)
            self.give_up(shelf.trial, "crashed")
            return 0
        if shelf.trial:
            try:
                self._verify(shelf.trial)
            except BundleRefusedError:
                self.give_up(shelf.trial, "unfit")
                raise
        return shelf.trial

    def pause_trial(self) -> None:
        """The device ends in order: that is not the bundle's fault.

        Raises:
            KeyFileError: it cannot be noted.
        """
        with self._lock:
            shelf = self.shelf()
            if shelf.trial and shelf.attempts:
                self._put(replace(shelf, attempts=shelf.attempts - 1))

    def adopt(self, version: int) -> bool:
        """The version is the one that runs from now on, at every start; False where it is no longer the one on trial.

        Raises:
            KeyFileError: it cannot be noted; what ran before still does.
        """
        with self._lock:
            shelf = self.shelf()
            if shelf.trial != version:
                return False
            self._put(replace(shelf, running=version, previous=shelf.running, trial=0, attempts=0, outcome=""))
        return True

    def give_up(self, version: int, outcome: str) -> None:
        """The version failed its trial; what runs goes on, and a heartbeat says why.

        Raises:
            KeyFileError: it cannot be noted.
        """
        with self._lock:
            shelf = self.shelf()
            if shelf.trial == version:
                self._put(replace(shelf, trial=0, attempts=0, outcome=outcome))

    def tidy(self, loading: int = 0) -> None:
        """Remove what no shelf names: failed versions, old ones, and what was cut off while it was loaded, but for `loading`."""
        shelf = self.shelf()
        for version in set(self._versions()) - {shelf.running, shelf.previous, shelf.trial}:
            shutil.rmtree(self.folder(version), ignore_errors=True)
        for part in self._folder.glob(".v*.part"):
            if part.name != f".v{loading}.part":
                shutil.rmtree(part, ignore_errors=True)

    def _verify(self, version: int) -> None:
        """Insist that the bundle is the very one that the service signed."""
        folder = self.folder(version)
        try:
            raw = parse_object(read_private(folder / OFFER_FILE), "offer")
            payload, signature = str(raw.get("document")).encode(), bytes.fromhex(str(raw.get("signature")))
            check(self._signing_key, Purpose.BUNDLE, payload, signature)
            offer = BundleOffer.from_bytes(payload)
        except (KeyFileError, WireError, SignatureError, ValueError) as error:
            msg = f"{folder}: not a bundle that the service signed ({one_line(error)})"
            raise BundleRefusedError(msg) from error
        if broken := [file.name for file in offer.files if offer.version != version or not _is_whole(folder / file.name, file)]:
            msg = f"{folder}: {', '.join(broken)} is not the file that the service signed"
            raise BundleRefusedError(msg)

    def _check_same(self, offer: BundleOffer, payload: bytes) -> None:
        """Two contents under one version would make it a matter of chance which one a device runs."""
        kept = self.folder(offer.version) / OFFER_FILE
        if not kept.exists():  # it failed, and was removed
            return
        try:
            known = str(parse_object(read_private(kept), "offer").get("document")).encode()
        except (KeyFileError, WireError):
            return
        if known != payload:
            msg = f"another bundle {offer.version} than the one that was taken in; a changed bundle needs a higher version"
            raise BundleRefusedError(msg)

    def _versions(self) -> list[int]:
        names = (re.fullmatch(r"v([1-9][0-9]{0,15})", path.name) for path in self._folder.glob("v*"))
        return [int(name[1]) for name in names if name]

    def _write(self, path: Path, content: bytes) -> None:
        self._step(f"before {path.name}")
        write_private(path, content)
        self._step(f"after {path.name}")

    def _place(self, part: Path, folder: Path) -> None:
        self._step("before place")
        try:
            if folder.exists():  # left by a life that ended before the shelf named it, or damaged since
                shutil.rmtree(folder)
            part.replace(folder)
            sync_folder(self._folder)
        except OSError as error:
            msg = f"{folder}: cannot be written ({error.strerror})"
            raise KeyFileError(msg) from error
        self._step("after place")

    def _put(self, shelf: Shelf) -> None:
        self._write(self._folder / SHELF_FILE, json.dumps(asdict(shelf), indent=1).encode())


def _matches(content: bytes, file: OfferedFile) -> bool:
    return len(content) == file.length and hashlib.sha256(content).hexdigest() == file.sha256


def _is_whole(path: Path, file: OfferedFile) -> bool:
    try:
        return path.stat().st_size == file.length and _matches(path.read_bytes(), file)
    except OSError:
        return False
