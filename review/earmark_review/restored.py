"""Keeps deletions and withdrawals true over a restored backup: the key store, which no backup holds, remembers both."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from earmark_review.blobs import BlobStore
from earmark_review.errors import BlobStoreError
from earmark_review.keystore import KeyStore
from earmark_review.store.consents import take_again, withdrawn
from earmark_review.store.database import Database
from earmark_review.store.deletion import delete_again, tombstoned
from earmark_review.store.retention import end_training_keep, end_withdrawn

logger = logging.getLogger(__name__)


def catch_up(database: Database, keys: KeyStore, blobs: BlobStore, now: datetime) -> None:
    """Delete what was deleted before and is back, and put records of consent into their places that were taken since the backup."""
    _take_consents_again(database, keys, now)
    _erase_again(database, keys, blobs, now)


def _take_consents_again(database: Database, keys: KeyStore, now: datetime) -> None:
    noted = keys.noted_consents()
    with database.reading() as conn:
        known = withdrawn(conn)
    for (device_id, consent_id), record in known.items():
        if noted.get((device_id, consent_id)) != record:  # withdrawn before a version that notes it, or before the store was replaced
            keys.note_consent(device_id, consent_id, record)
    if not noted:
        return
    with database.writing() as conn:
        count = take_again(conn, noted, now)
        if count:
            end_withdrawn(conn, now)
            end_training_keep(conn, now)
    if count:
        logger.warning("took %d records of consent anew that a restored backup did not know", count)


def _erase_again(database: Database, keys: KeyStore, blobs: BlobStore, now: datetime) -> None:
    noted = keys.erased()
    with database.reading() as conn:
        known = tombstoned(conn)
    keys.note_erased(known - noted)  # deleted by a version that noted nothing, or before the store of keys was replaced
    if not noted - known:
        return
    with database.writing() as conn:
        again, blob_keys = delete_again(conn, noted, now)
    database.truncate_log()
    for device_id, event_id in again:
        keys.destroy(device_id, event_id)
    with suppress(BlobStoreError):  # without their keys they are noise, and the sweep takes them
        for key in blob_keys:
            blobs.remove(key)
    if again:
        logger.warning("deleted %d events anew that a restored backup had brought back or forgotten", len(again))
