from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from earmark_review.blobs import BlobFolder
from earmark_review.errors import BlobMissingError, ObjectMismatchError, TooLargeError

PAYLOAD = b"some bytes of a clip" * 50


@pytest.fixture
def folder(tmp_path):
    return BlobFolder(tmp_path / "blobs")


def files_in(folder):
    return [path for path in (*folder.objects.rglob("*"), *folder.incoming.iterdir()) if path.is_file()]


def stored(folder, payload=PAYLOAD, declared=None):
    declared = payload if declared is None else declared
    with folder.receive(10_000) as incoming:
        incoming.write(payload)
        return incoming.promote(len(declared), hashlib.sha256(declared).hexdigest())


def test_a_promoted_object_is_found_under_its_key(folder):
    key = stored(folder)
    assert folder.find(key).read_bytes() == PAYLOAD
    assert list(folder.incoming.iterdir()) == []


def test_the_same_bytes_twice_are_two_objects_that_live_apart(folder):
    first, second = stored(folder), stored(folder)
    folder.remove(first)
    assert folder.find(second).read_bytes() == PAYLOAD
    with pytest.raises(BlobMissingError):
        folder.find(first)


@pytest.mark.parametrize("payload", [PAYLOAD[:-1], PAYLOAD + b"!", PAYLOAD[:-1] + b"!", b""])
def test_other_bytes_than_declared_leave_nothing(folder, payload):
    with pytest.raises(ObjectMismatchError):
        stored(folder, payload, declared=PAYLOAD)
    assert files_in(folder) == []


def test_the_cap_holds_to_the_byte(folder):
    with folder.receive(10) as incoming:
        incoming.write(b"0123456789")
        with pytest.raises(TooLargeError):
            incoming.write(b"x")
    assert files_in(folder) == []


def test_an_upload_that_breaks_off_leaves_nothing(folder):
    def break_off():
        with folder.receive(10_000) as incoming:
            incoming.write(PAYLOAD)
            assert len(files_in(folder)) == 1
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    assert files_in(folder) == []


def test_an_object_is_synced_before_it_gets_its_name(folder, monkeypatch):
    order = []
    fsync, rename = os.fsync, os.rename

    def noting_fsync(handle):
        order.append("bytes" if stat.S_ISREG(os.fstat(handle).st_mode) else "folder")
        fsync(handle)

    monkeypatch.setattr("os.fsync", noting_fsync)
    monkeypatch.setattr("os.rename", lambda *names, **more: (order.append("rename"), rename(*names, **more)))
    key = stored(folder)
    assert order == ["bytes", "folder", "rename", "folder"]  # a new folder's own name, then the object's
    order.clear()
    folder.remove(key)
    assert order == ["folder"]


def test_the_sweep_takes_old_orphans_and_nothing_else(folder):
    live, orphan, fresh = stored(folder), stored(folder), stored(folder)
    abandoned = folder.incoming / ("0" * 32)
    abandoned.write_bytes(b"half")
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    for path in (folder.path_for(live), folder.path_for(orphan), abandoned):
        os.utime(path, (long_ago, long_ago))
    assert folder.sweep({live}, datetime.now(UTC) - timedelta(hours=1)) == 2
    assert {path.name for path in files_in(folder)} == {live, fresh}


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "0" * 31, "0" * 33, "G" * 32, "/" * 32])
def test_no_name_from_outside_becomes_a_path(folder, key):
    with pytest.raises(AssertionError):
        folder.path_for(key)


def test_the_folder_is_its_owners_alone(folder):
    assert folder.objects.stat().st_mode & 0o077 == 0
