"""What a store of clips promises, asked of the folder and of an S3 store; below, what only one of them can be asked."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from earmark_review.blob_bucket import PART_BYTES, BlobBucket
from earmark_review.blob_folder import BlobFolder
from earmark_review.blobs import HeldBlob, copy_blobs
from earmark_review.errors import BlobMissingError, BlobStoreError, ObjectMismatchError, SettingsError, TooLargeError

PAYLOAD = b"some bytes of a clip" * 50
LONG = os.urandom(1000) * (2 * PART_BYTES // 1000 + 1)  # takes three parts
OWNER = "0123456789abcdef"


@pytest.fixture
def folder(tmp_path):
    return BlobFolder(tmp_path / "blobs")


@pytest.fixture
def bucket(s3):
    return BlobBucket(f"s3://{s3.bucket()}/some/where", OWNER)


@pytest.fixture(params=["folder", "bucket"])
def store(request):
    return request.getfixturevalue(request.param)


def stored(store, payload=PAYLOAD, declared=None):
    declared = payload if declared is None else declared
    with store.receive(len(LONG)) as incoming:
        for at in range(0, len(payload), 2**20):
            incoming.write(payload[at : at + 2**20])
        assert incoming.key not in store.list_keys()
        return incoming.promote(len(declared), hashlib.sha256(declared).hexdigest())


@pytest.mark.parametrize("payload", [PAYLOAD, LONG, b"", b"x" * PART_BYTES], ids=["short", "long", "empty", "one part"])
def test_a_promoted_object_is_found_under_its_key(store, payload):
    key = stored(store, payload)
    assert store.read(key) == payload
    assert store.list_keys() == [key]


def test_the_same_bytes_twice_are_two_objects_that_live_apart(store):
    first, second = stored(store), stored(store)
    store.remove(first)
    store.remove(first)  # gone already
    assert store.read(second) == PAYLOAD
    assert store.list_keys() == [second]
    with pytest.raises(BlobMissingError, match="not in the store"):
        store.read(first)


@pytest.mark.parametrize(
    "payload", [PAYLOAD[:-1], PAYLOAD + b"!", PAYLOAD[:-1] + b"!", b"", LONG], ids=["short", "more", "other", "no", "long"]
)
def test_other_bytes_than_declared_leave_nothing(store, payload):
    with pytest.raises(ObjectMismatchError):
        stored(store, payload, declared=PAYLOAD)
    assert store.list_keys() == []


def test_the_cap_holds_to_the_byte(store):
    with store.receive(10) as incoming:
        incoming.write(b"0123456789")
        with pytest.raises(TooLargeError):
            incoming.write(b"x")
    assert store.list_keys() == []


@pytest.mark.parametrize("payload", [PAYLOAD, LONG], ids=["short", "long"])
def test_an_upload_that_breaks_off_leaves_nothing(store, payload):
    def break_off():
        with store.receive(len(payload)) as incoming:
            incoming.write(payload)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    assert store.list_keys() == []


def test_the_sweep_takes_old_orphans_and_nothing_else(store):
    live, orphan = stored(store), stored(store)
    now = datetime.now(UTC)
    assert store.sweep({live}, now - timedelta(hours=1)) == 0
    assert store.sweep({live}, now + timedelta(seconds=5)) == 1
    assert store.list_keys() == [live]
    assert store.read(live) == PAYLOAD
    assert orphan != live


@pytest.mark.parametrize("key", ["../../etc/passwd", "", "0" * 31, "0" * 33, "G" * 32, "/" * 32])
def test_no_name_from_outside_becomes_a_path(store, key):
    for act in (store.read, store.remove, lambda key: store.receive(1, key or "no")):
        with pytest.raises(AssertionError):
            act(key)


def test_objects_move_to_another_store_under_their_keys_and_what_cannot_is_told(store, tmp_path):
    keys = [stored(store, PAYLOAD + bytes([number])) for number in range(3)]
    held = [HeldBlob(key, 1001, hashlib.sha256(PAYLOAD + bytes([number])).hexdigest()) for number, key in enumerate(keys)]
    store.remove(keys[0])
    held[1] = HeldBlob(keys[1], 1001, "0" * 64)
    target = BlobFolder(tmp_path / "moved")
    faults = copy_blobs(store, target, held)
    assert target.list_keys() == [keys[2]]
    assert [key in fault for key, fault in zip(keys, faults, strict=False)] == [True, True]


# The folder alone.


def files_in(folder):
    return [path for path in (*folder.objects.rglob("*"), *folder.incoming.iterdir()) if path.is_file()]


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


def test_a_half_written_file_is_swept_once_it_is_old(folder):
    fresh, abandoned = (folder.incoming / (letter * 32) for letter in "01")
    for path in (fresh, abandoned):
        path.write_bytes(b"half")
    long_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    os.utime(abandoned, (long_ago, long_ago))
    assert folder.sweep(set(), datetime.now(UTC) - timedelta(hours=1)) == 1
    assert files_in(folder) == [fresh]


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_disk_that_takes_no_more_is_told_and_keeps_nothing(folder, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    with folder.receive(100) as incoming:
        if step == "write":
            os.dup2(os.open("/dev/full", os.O_WRONLY), incoming._file.fileno())
        else:
            monkeypatch.setattr(*{"fsync": (os, "fsync"), "rename": (Path, "rename")}[step], full)
        with pytest.raises(BlobStoreError, match="No space left"):  # noqa: PT012 - whichever of the two meets it
            incoming.write(b"x")
            incoming.promote(1, hashlib.sha256(b"x").hexdigest())
    monkeypatch.undo()
    assert files_in(folder) == []


def test_the_folder_is_its_owners_alone(folder):
    assert folder.objects.stat().st_mode & 0o077 == 0


# S3 alone.


def test_two_installations_in_one_bucket_do_not_see_one_another(s3):
    name = s3.bucket()
    ours, theirs = BlobBucket(f"s3://{name}", OWNER), BlobBucket(f"s3://{name}", "f" * 16)
    key = stored(theirs)
    assert ours.list_keys() == []
    assert ours.sweep(set(), datetime.now(UTC) + timedelta(days=1)) == 0
    assert theirs.read(key) == PAYLOAD


def test_a_long_upload_leaves_no_parts_behind(s3):
    name = s3.bucket()
    bucket = BlobBucket(f"s3://{name}", OWNER)
    with pytest.raises(ObjectMismatchError):
        stored(bucket, LONG, declared=PAYLOAD)
    assert s3.unfinished(name) == 0


def test_a_store_that_does_not_answer_is_told_and_acknowledges_nothing(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    bucket = BlobBucket("s3://clips", OWNER)
    with pytest.raises(BlobStoreError, match="no answer from it"):
        stored(bucket)
    for act in (lambda: bucket.remove("0" * 32), bucket.list_keys, lambda: bucket.sweep(set(), datetime.now(UTC))):
        with pytest.raises(BlobStoreError):
            act()
    with pytest.raises(BlobMissingError, match="cannot be read"):
        bucket.read("0" * 32)


def test_a_bucket_that_is_not_there_is_told(s3):
    bucket = BlobBucket("s3://nobody-made-this", OWNER)
    with pytest.raises(BlobStoreError, match="NoSuchBucket"):
        stored(bucket)


def test_without_its_library_an_s3_store_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(SettingsError, match=r"earmark\[cluster\]"):
        BlobBucket("s3://clips", OWNER)
