"""The contract of DocumentStore, on every store alike: directory, memory, and real S3 servers."""

import errno
import os
import time
from pathlib import Path

import pytest

from repository.store.directory import DirectoryStore
from repository.store.memory import MemoryStore
from repository.store.protocol import ObjectMissing, StoreUnavailable
from repository.store.s3 import S3Store

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


PART = 5 * 2**20
STORES = ["directory", "memory", "seaweedfs", "seaweedfs versioned", "minio", "minio versioned"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One root for all tests: its 4,096 folders cost more than most of them."""
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(params=STORES)
def store(request, folder):
    if request.param == "directory":
        directory = DirectoryStore(folder)
        yield directory
        for left in list(directory.objects()):
            directory.delete(left.key)
    elif request.param == "memory":
        yield MemoryStore()
    else:
        server, *versioned = request.param.split()
        yield request.getfixturevalue(server).store("versioned" if versioned else "documents")


@pytest.fixture
def unfinished(request):
    """What is listed of an unfinished upload; MinIO's server tells of one only to who knows its whole name."""
    return [] if "minio" in request.node.callspec.params["store"] else [(KEY, False)]


def put(store, key, *blocks):
    upload = store.begin(key)
    for block in blocks:
        upload.write(block)
    upload.finish()


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\r\n", b"\x00" * 7, *map(os.urandom, (65536, 65537, 700_001, PART, PART + 1, 12 * 2**20))],
    ids=len,
)
def test_bytes_out_are_bytes_in(store, data):
    put(store, KEY, *(data[n : n + 99_999] for n in range(0, len(data), 99_999)))
    assert b"".join(store.open(KEY)) == data
    assert store.size(KEY) == len(data)


@pytest.mark.parametrize("size", [4, PART + 4])
def test_an_object_is_visible_only_when_finished(store, unfinished, size):
    upload = store.begin(KEY)
    upload.write(b"x" * size)
    assert store.size(KEY) is None
    with pytest.raises(ObjectMissing):
        next(iter(store.open(KEY)))
    if isinstance(store, S3Store) and size < PART:
        unfinished = []  # nothing of it is in the store yet
    assert [(o.key, o.complete) for o in store.objects()] == unfinished
    upload.finish()
    assert [(o.key, o.size, o.complete) for o in store.objects()] == [(KEY, size, True)]


@pytest.mark.parametrize("size", [1, PART + 1])
@pytest.mark.parametrize("finished", [False, True])
def test_abort_leaves_nothing(store, finished, size):
    upload = store.begin(KEY)
    upload.write(b"x" * size)
    if finished:
        upload.finish()
    upload.abort()
    upload.abort()
    assert list(store.objects()) == []
    assert store.size(KEY) is None


@pytest.mark.parametrize("size", [1, PART + 1])
def test_finish_twice_is_finishing_once(store, size):
    upload = store.begin(KEY)
    upload.write(b"x" * size)
    upload.finish()
    upload.finish()
    assert b"".join(store.open(KEY)) == b"x" * size


def test_delete_removes_finished_and_unfinished_and_nothing_else(store):
    put(store, OTHER, b"stays")
    put(store, KEY, b"goes")
    store.delete(KEY)
    store.delete(KEY)
    for size in (1, PART + 1):
        store.begin(KEY).write(b"x" * size)
        store.delete(KEY)
    assert [o.key for o in store.objects()] == [OTHER]


@pytest.mark.parametrize("size", [6, PART + 6])
def test_an_object_is_never_overwritten(store, size):
    put(store, KEY, b"first")
    with pytest.raises(StoreUnavailable):
        put(store, KEY, b"x" * size)
    assert b"".join(store.open(KEY)) == b"first"


def test_taking_back_what_was_refused_leaves_the_object_that_is_there(store):
    put(store, KEY, b"first")
    uploads = []
    with pytest.raises(StoreUnavailable):
        uploads.append(store.begin(KEY))  # refused already by a store in memory
        uploads[0].write(b"second")
        uploads[0].finish()
    for upload in uploads:
        upload.abort()
    assert b"".join(store.open(KEY)) == b"first"
    assert [(one.key, one.complete) for one in store.objects()] == [(KEY, True)]


def test_a_directory_that_is_gone_is_no_missing_object(tmp_path):
    directory = DirectoryStore(tmp_path / "documents")
    put(directory, KEY, b"kept")
    (tmp_path / "documents").rename(tmp_path / "unmounted")
    for asked in (directory.size, directory.delete, lambda key: next(directory.open(key)), directory.begin):
        with pytest.raises(StoreUnavailable, match=r"folders are not there|No such file"):
            asked(KEY)
    with pytest.raises(StoreUnavailable):
        list(directory.objects())
    (tmp_path / "unmounted").rename(tmp_path / "documents")
    assert b"".join(directory.open(KEY)) == b"kept"
    assert directory.size(OTHER) is None
    directory.delete(OTHER)


def test_what_others_put_into_a_directory_keeps_nobody_from_listing_it(tmp_path):
    directory = DirectoryStore(tmp_path)
    put(directory, KEY, b"kept")
    for name in (".DS_Store", "objects/.DS_Store", "objects/012/.DS_Store", "incoming/.DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "objects" / "lost+found").mkdir()
    assert [one.key for one in directory.objects()] == [KEY]


def test_objects_know_their_age(store):
    put(store, KEY, b"x")
    (found,) = store.objects()
    assert abs(found.modified - time.time_ns() // 1000) < 60_000_000


def test_a_reader_that_stops_leaves_the_store_usable(store):
    put(store, KEY, os.urandom(2 * PART))
    for _ in range(40):
        blocks = store.open(KEY)
        assert next(blocks)
        blocks.close()
    assert store.size(KEY) == 2 * PART


def test_a_write_after_the_end_is_refused(store):
    upload = store.begin(KEY)
    upload.finish()
    with pytest.raises(StoreUnavailable):
        upload.write(b"late")


def test_memory_store_is_full_at_its_capacity():
    store = MemoryStore(capacity=10)
    upload = store.begin(KEY)
    with pytest.raises(StoreUnavailable) as refused:
        upload.write(b"x" * 11)
    assert refused.value.full
    assert store.free_bytes() == 10


# ----------------------------------------------------------------------------------------- directory alone


@pytest.mark.parametrize("store", ["directory", "seaweedfs"], indirect=True)
@pytest.mark.parametrize("key", ["../../etc/passwd", "", "a" * 31, "A" * 32, "/" * 32])
def test_only_keys_become_paths(store, key):
    with pytest.raises(ValueError, match="not an object key"):
        store.begin(key)


def test_files_are_for_their_owner_alone(tmp_path):
    store = DirectoryStore(tmp_path / "documents")
    put(store, KEY, b"x")
    for path in (tmp_path / "documents").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_file_and_folder_are_synced_before_finish_returns(tmp_path, monkeypatch):
    store = DirectoryStore(tmp_path)
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), real(handle))
    )
    put(store, KEY, b"x")
    assert synced == [str(tmp_path / "incoming" / KEY), str(tmp_path / "objects" / KEY[:3])]


def test_a_failed_fsync_is_never_taken_for_a_good_one(tmp_path, monkeypatch):
    store = DirectoryStore(tmp_path)
    upload = store.begin(KEY)
    upload.write(b"x")

    def broken(_handle):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(StoreUnavailable) as refused:
            upload.finish()
    assert not refused.value.full
    with pytest.raises(StoreUnavailable):
        upload.finish()
    assert store.size(KEY) is None


def test_a_full_disk_is_told_apart(tmp_path, monkeypatch):
    store = DirectoryStore(tmp_path)
    upload = store.begin(KEY)

    def full(_handle, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreUnavailable) as refused:
        upload.write(b"x")
    assert refused.value.full
    monkeypatch.undo()
    upload.abort()
    assert list(store.objects()) == []


def test_room_for_others_is_left_alone(tmp_path):
    store = DirectoryStore(tmp_path, min_free_bytes=2**60)
    with pytest.raises(StoreUnavailable) as refused:
        store.begin(KEY)
    assert refused.value.full


def test_a_read_only_file_system_has_no_room(tmp_path, monkeypatch):
    from repository.store.opening import answers

    store = DirectoryStore(tmp_path)
    assert answers(store, 0)
    real = os.statvfs(tmp_path)
    read_only = os.statvfs_result((*real[:8], real.f_flag | os.ST_RDONLY, real.f_namemax))
    monkeypatch.setattr(os, "statvfs", lambda _path: read_only)
    assert store.free_bytes() == 0
    assert not answers(store, 0)
