"""The open service: settings, database, blobs, sign-in and the clock, made once and handed to whoever needs them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import SystemRandom

from argon2 import PasswordHasher
from sqlalchemy.exc import SQLAlchemyError

from earmark_review import audit
from earmark_review.accounts import Role, checked_password
from earmark_review.anchors import head_of, read_anchor, write_anchor
from earmark_review.blob_bucket import BlobBucket
from earmark_review.blob_folder import BlobFolder
from earmark_review.blobs import BlobStore
from earmark_review.bundle_files import BundleFiles
from earmark_review.decryptor import Decryptor
from earmark_review.errors import BlobStoreError, DatabaseError, ReviewError, UnknownEventError
from earmark_review.identity import ServiceIdentity, open_identity
from earmark_review.keystore import KeyStore, open_keystore
from earmark_review.mailing import mail_head
from earmark_review.restored import catch_up
from earmark_review.settings import ReviewSettings
from earmark_review.store.caseload import held_blobs
from earmark_review.store.database import Database
from earmark_review.store.deletion import delete_event, device_id_of
from earmark_review.store.devices import add_device, offer_enrolment
from earmark_review.store.retention import (
    blob_keys_of,
    due_for_shredding,
    end_training_keep,
    end_withdrawn,
    events_under,
    expire_undecided,
    mark_shredded,
    sender_of,
)
from earmark_review.store.revocation import set_password
from earmark_review.store.sessions import SignIn
from earmark_review.store.users import add_user, new_account
from earmark_review.withdrawals import Reached, reach_exports

logger = logging.getLogger(__name__)
ORPHAN_AGE = timedelta(hours=1)
CODE_LIFE = timedelta(hours=1)
MAILED_FILE = "mailed-heads.jsonl"


def utc_now() -> datetime:
    """The clock that runs outside of tests."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Service:
    """One data folder, opened. Close it when done."""

    settings: ReviewSettings
    database: Database
    blobs: BlobStore
    hasher: PasswordHasher
    sign_in: SignIn
    now: Callable[[], datetime]
    keys: KeyStore
    identity: ServiceIdentity
    chance: Callable[[], float] = SystemRandom().random
    """Draws from [0, 1) that nobody can foresee."""

    @property
    def decryptor(self) -> Decryptor:
        """What opens sealed clips, under a live claim."""
        return Decryptor(self.database, self.keys, self.blobs, self.identity, self.now)

    @property
    def bundle_files(self) -> BundleFiles:
        """The files of bundles that devices are offered."""
        return BundleFiles(self.settings.data / "bundles")

    def add_user(self, name: str, password: str, role: Role = Role.REVIEWER) -> None:
        """Add a local account.

        Raises:
            SettingsError: the name is unfit or taken, or the password is too short.
        """
        account = new_account(self.hasher, name, password, role)
        with self.database.writing() as conn:
            add_user(conn, account, self.now())

    def set_password(self, name: str, password: str) -> int:
        """Give an account another password and end its sessions; return how many.

        Raises:
            SettingsError: there is no such account, or the password is too short.
        """
        password_hash = self.hasher.hash(checked_password(password))
        with self.database.writing() as conn:
            return set_password(conn, name, password_hash, self.now())

    def add_device(self, name: str, public_key: bytes) -> str:
        """Enrol a device by its raw Ed25519 public key and return its token, which is kept only as a hash.

        Raises:
            SettingsError: the name is unfit or taken, or the key is another device's.
        """
        with self.database.writing() as conn:
            return add_device(conn, name, public_key, self.now())

    def offer_enrolment(self, name: str, valid: timedelta = CODE_LIFE) -> str:
        """A one-time code by which a device enrols itself as `name`.

        Raises:
            SettingsError: the name is unfit or taken.
        """
        with self.database.writing() as conn:
            return offer_enrolment(conn, name, valid, self.now())

    def delete_event(self, device_name: str, event_id: str) -> None:
        """Destroy an event's keys, then remove it, its case and its clips; a tombstone refuses it from then on.

        Raises:
            UnknownEventError: there is no such event.
            BlobStoreError: it is deleted, but its bytes, noise without their keys, still lie in the store.
        """
        with self.database.reading() as conn:
            device_id = device_id_of(conn, device_name, event_id)
        if device_id is not None:
            self.keys.note_erased([(device_id, event_id)])
            self.keys.destroy(device_id, event_id)
        with self.database.writing() as conn:
            keys = delete_event(conn, device_name, event_id, self.now())
        self.database.truncate_log()
        self.reach_exports()
        try:
            for key in keys:
                self.blobs.remove(key)
        except BlobStoreError as error:
            msg = f"{event_id!r} is deleted and its keys are destroyed; its bytes, noise without them, go once the store of clips is back"
            raise BlobStoreError(msg) from error

    def erase_household(self, consent_id: str) -> int:
        """Delete everything that was sent under a household's consent; return how many events.

        Raises:
            UnknownEventError: nothing was.
            BlobStoreError: all of it is deleted, but bytes of some, noise without their keys, still lie in the store.
        """
        with self.database.reading() as conn:
            found = events_under(conn, consent_id)
        if not found:
            msg = f"nothing was sent under consent {consent_id!r}, or it was deleted already"
            raise UnknownEventError(msg)
        left = None
        for device_name, event_id in found:
            try:
                self.delete_event(device_name, event_id)
            except BlobStoreError as error:
                left = error
        with self.database.writing() as conn:
            consent_sha256 = hashlib.sha256(consent_id.encode()).hexdigest()
            audit.append(
                conn, self.now(), audit.OPERATOR, audit.Action.HOUSEHOLD_ERASED, f"consent:{consent_sha256[:16]}", {"events": len(found)}
            )
        if left is not None:
            raise left
        return len(found)

    def shred_due(self) -> int:
        """Let go of what is decided or was not decided in time; return how many cases.

        One that cannot be let go of is told in the log, keeps no other, and is tried again the next time.
        """
        with self.database.writing() as conn:
            expire_undecided(conn, self.now() - timedelta(seconds=self.settings.undecided_s), self.now())
            end_withdrawn(conn, self.now())
            end_training_keep(conn, self.now())
            due = due_for_shredding(conn, self.now())
        return sum(self._is_shredded(case_id) for case_id in due)

    def _is_shredded(self, case_id: str) -> bool:
        try:
            self._shred(case_id)
        except (ReviewError, SQLAlchemyError, OSError):
            logger.exception("case %s is due and could not be let go of", case_id)
            return False
        return True

    def _shred(self, case_id: str) -> None:
        """Keys first, then the bytes, then the rows that named them: whatever stops between two steps, the next run goes on."""
        with self.database.reading() as conn:
            keys, sender = blob_keys_of(conn, case_id), sender_of(conn, case_id)
        if sender is not None:
            self.keys.destroy(*sender)
        for key in keys:
            self.blobs.remove(key)
        with self.database.writing() as conn:
            mark_shredded(conn, case_id, self.now())
        self.database.truncate_log()

    def anchor(self, path: Path) -> bool:
        """Add the log's signed head to a file of them; say whether there was anything new.

        Raises:
            AnchorError: the file cannot be read or written.
        """
        with self.database.reading() as conn:
            head = head_of(conn, self.now())
        return head is not None and write_anchor(path, head, self.identity)

    def mail_head(self, *, at_once: bool = True) -> bool:
        """Mail the log's signed head, if there is anything new; say whether it was. Without `at_once`, not sooner than the settings say.

        Raises:
            AnchorError: it could not be mailed.
        """
        mailed, settings = self.settings.data / MAILED_FILE, self.settings
        with self.database.reading() as conn:
            head = head_of(conn, self.now())
        last = read_anchor(mailed, self.identity.signing_public)[-1] if mailed.exists() else None
        is_new = head is not None and (last is None or (last.seq, last.sha256) != (head.seq, head.sha256))
        is_due = last is None or self.now() >= datetime.fromisoformat(last.at) + timedelta(seconds=settings.audit_mail_every_s)
        if head is None or not is_new or not (at_once or is_due):
            return False
        mail_head(settings, head, head.signed(self.identity), self.identity.fingerprint)
        return write_anchor(mailed, head, self.identity)

    def keep_house(self) -> None:
        """What the running service does now and then: let go of what is due, also where it was exported, and anchor the log."""
        self.shred_due()
        self.reach_exports()
        if self.settings.audit_anchor is not None:
            self.anchor(self.settings.audit_anchor)
        if self.settings.audit_mail_to is not None:
            self.mail_head(at_once=False)

    def reach_exports(self) -> Reached:
        """Let withdrawals and deletions reach the exports that hold what they concern, and the models made of these."""
        return reach_exports(self.database, self.identity, self.now())

    def sweep(self) -> int:
        """Remove what interrupted uploads and deletions left in the store of clips; return how many objects.

        Raises:
            BlobStoreError: the store does not do it.
        """
        with self.database.reading() as conn:
            live = {blob.key for blob in held_blobs(conn)}
        return self.blobs.sweep(live, self.now() - ORPHAN_AGE)

    def close(self) -> None:
        """Let go of the databases."""
        self.keys.close()
        self.database.close()


def open_service(settings: ReviewSettings, *, now: Callable[[], datetime] = utc_now, hasher: PasswordHasher | None = None) -> Service:
    """Open a data folder, making or updating what is in it.

    Raises:
        DatabaseError: the folder or the database cannot be used.
    """
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_folder = settings.data / "keys"
        key_folder.mkdir(mode=0o700, exist_ok=True)
        identity = open_identity(key_folder)
        blobs = open_blobs(settings.blobs, settings.data, identity)
    except OSError as error:
        msg = f"{settings.data}: cannot be used as the data folder ({error.strerror}); give another with --data"
        raise DatabaseError(msg) from error
    keys = open_keystore(key_folder / "wrapped.db", settings.keys)
    database = Database(settings.sqlalchemy_url)
    database.migrate()
    catch_up(database, keys, blobs, now())
    hasher = hasher or PasswordHasher()
    return Service(settings, database, blobs, hasher, SignIn(database, hasher, settings), now, keys, identity)


def open_blobs(url: str | None, data: Path, identity: ServiceIdentity) -> BlobStore:
    """The store of clips at `s3://BUCKET/PREFIX`, or without one the folder in `data`.

    Raises:
        SettingsError: the library for S3 is missing, or makes nothing of the address.
        OSError: the folder cannot be made.
    """
    return BlobFolder(data / "blobs") if url is None else BlobBucket(url, identity.sealing_key_id[:16])
