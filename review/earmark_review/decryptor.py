"""Opens sealed objects, and only for the holder of a live claim on their case whose look the log already has in writing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from earmark_edge.seal import SealedObject, SealError, open_object, seal_context
from earmark_edge.signature import key_id
from earmark_review.blobs import BlobStore
from earmark_review.cases import CaseState, Lease
from earmark_review.errors import BlobMissingError, KeyGoneError, StaleLeaseError, UnsealError
from earmark_review.identity import ServiceIdentity
from earmark_review.keystore import KeyStore
from earmark_review.media import ORIGINAL_TIER
from earmark_review.store.caseload import CaseFile
from earmark_review.store.database import Database
from earmark_review.store.decisions import trains
from earmark_review.store.intake import DeclaredObject
from earmark_review.store.originals import require_open
from earmark_review.store.schema import device_keys, events, evidence_views, leases


@dataclass(frozen=True, slots=True)
class Decryptor:
    """The one place where wrapped keys, the service's private key and ciphertext meet. Plaintext is handed out in RAM and never stored."""

    database: Database
    keys: KeyStore
    blobs: BlobStore
    identity: ServiceIdentity
    now: Callable[[], datetime]

    def open(self, file: CaseFile, declared: DeclaredObject, lease: Lease) -> bytes:
        """The bytes of a held object of `file`, under `lease`.

        Raises:
            OriginalClosedError: it is the original, and no second person agreed, or the time is over.
            StaleLeaseError: the lease is over, is on another case, or nothing says in the log that its holder looks.
            KeyGoneError: the object's key was destroyed.
            BlobMissingError: its bytes are not in the store.
            UnsealError: it is not what the device sealed.
        """
        return self._unsealed(file, declared, *self._released(file, declared, lease))

    def open_consented(self, file: CaseFile, declared: DeclaredObject) -> bytes:
        """The bytes of a held object of a settled case, to train with; whoever asks has entered the export in the log.

        Raises:
            KeyGoneError: its household does not consent to training, or no longer; or the object's key was destroyed.
            BlobMissingError: its bytes are not in the store.
            UnsealError: it is not what the device sealed.
        """
        with self.database.reading() as conn:
            device_id, public_key = _sender(conn, declared)
            if file.line.state is not CaseState.FINAL or not trains(conn, device_id, file.event.consent_id, self.now()):
                msg = "the clip's household does not consent to training, or the case is not settled"
                raise KeyGoneError(msg)
        return self._unsealed(file, declared, device_id, public_key)

    def _unsealed(self, file: CaseFile, declared: DeclaredObject, device_id: int, public_key: bytes) -> bytes:
        if declared.blob_key is None:
            msg = "the clip has not arrived"
            raise BlobMissingError(msg)
        ciphertext = self.blobs.read(declared.blob_key)
        clip = next(clip for clip in file.event.clips if clip.tier == declared.tier)
        if clip.wrapped_sha256 is None:  # taken by a version before sealing
            return ciphertext
        wrapped = self.keys.find(device_id, file.event_id, declared.tier)
        context = seal_context(file.event, declared.tier, declared.media_type, key_id(public_key))
        try:
            return open_object(SealedObject(ciphertext, wrapped), self.identity.sealing_key, context)
        except SealError as error:
            raise UnsealError(str(error)) from error

    def _released(self, file: CaseFile, declared: DeclaredObject, lease: Lease) -> tuple[int, bytes]:
        """The sender's row and key, once the database itself confirms the claim and the entry of the look."""
        with self.database.reading() as conn:
            row = conn.execute(select(leases).where(leases.c.lease_id == lease.lease_id)).first()
            is_live = row is not None and row.ended_at is None and row.expires_at > self.now() and row.case_id == file.line.case_id
            seen = select(evidence_views.c.lease_id).where(evidence_views.c.lease_id == lease.lease_id).limit(1)
            if not is_live or conn.execute(seen).first() is None:
                msg = "your claim on this case has ended, so nothing is opened; claim it again to go on"
                raise StaleLeaseError(msg)
            if declared.tier == ORIGINAL_TIER:
                require_open(conn, lease, self.now())
            return _sender(conn, declared)


def _sender(conn: Connection, declared: DeclaredObject) -> tuple[int, bytes]:
    sender = select(events.c.device_id, device_keys.c.public_key).outerjoin(device_keys, device_keys.c.device_id == events.c.device_id)
    device_id, public_key = conn.execute(sender.where(events.c.event_row == declared.event_row)).one()
    return device_id, public_key or b""
