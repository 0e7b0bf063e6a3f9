"""Keeps deletions true over a restored backup: what the key store, which no backup holds, remembers as deleted is deleted anew."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from earmark_review.blobs import BlobStore
from earmark_review.errors import BlobStoreError
from earmark_review.keystore import KeyStore
from earmark_review.store.database import Database
from earmark_review.store.deletion import delete_again, tombstoned

logger = logging.getLogger(__name__)


def erase_again(database: Database, keys: KeyStore, blobs: BlobStore, now: datetime) -> int:
    """Delete what was deleted before and is back, and refuse from now on what was to be refused; return how many events."""
    noted = keys.erased()
    with database.reading() as conn:
        known = tombstoned(conn)
    keys.note_erased(known - noted)  # deleted by a version that noted nothing, or before the store of keys was replaced
    if not noted - known:
        return 0
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
    return len(again)
