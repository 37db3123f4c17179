"""Documents in a bucket, beside the contract of all stores: what S3 servers and the way to them can do to us."""

import datetime as dt
import os
import re
import socket
import threading
from itertools import islice
from time import sleep

import pytest
from minio.commonconfig import GOVERNANCE
from minio.retention import Retention
from minio.versioningconfig import ENABLED, VersioningConfig

from repository.store.opening import answers
from repository.store.protocol import ObjectLocked, ObjectMissing, StoreUnavailable
from repository.store.s3_parts import SENT_AT_ONCE
from tests.object_store import ACCESS, SECRET
from tests.soak.test_full_disk import small_disk
from tests.store_proxy import answer, cut_answer, cut_request, do, hang, lose_answer, proxied, refuse

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
PART = 5 * 2**20
SMALL = b"small"
LARGE = os.urandom(12 * 2**20)
TWO_PARTS = LARGE[: PART + 2**20]


@pytest.fixture(params=["seaweedfs", "minio"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def proxy(object_store):
    with proxied(object_store) as running:
        yield running


@pytest.fixture
def far(object_store, proxy):
    """A store behind the proxy."""
    return object_store.store(endpoint=proxy.endpoint)


def put(store, data, key=KEY):
    upload = store.begin(key)
    for start in range(0, len(data), 2**20):
        upload.write(data[start : start + 2**20])
    upload.finish()


def get(store, key=KEY):
    return b"".join(store.open(key))


def parts_of(server, store, key=KEY):
    client = server.minio()
    bucket = store._client.bucket
    found = client._list_multipart_uploads(bucket, prefix=store.name(key)).uploads
    return [(one.object_name, one.upload_id) for one in found]


def versions_of(server, store, key=KEY):
    client, bucket = server.minio(), store._client.bucket
    return list(client.list_objects(bucket, store.name(key), recursive=True, include_version=True))


# ------------------------------------------------------------------------------------------------- multipart


def test_what_fits_one_part_is_one_request(far, proxy):
    put(far, os.urandom(PART))
    assert [one.kind for one in proxy.asked] == ["put"]


def test_larger_ones_go_in_parts_and_an_upload_holds_one_of_them(far, proxy):
    upload = far.begin(KEY)
    held = []
    for start in range(0, len(LARGE), 300_000):
        upload.write(LARGE[start : start + 300_000])
        held.append(upload._part.size)
    upload.finish()
    assert max(held) <= PART
    assert [one.kind for one in proxy.asked] == ["create", "part", "part", "part", "complete", "head"]
    assert [len(one.body) for one in proxy.asked if one.kind == "part"] == [PART, PART, 2 * 2**20]
    assert get(far) == LARGE


@pytest.fixture
def small_temporary_folder(monkeypatch, tmp_path):
    """Folder of temporary files on a file system of 2 MiB."""
    with small_disk(tmp_path / "temporary", 2) as disk:
        monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
        yield disk.folder


def test_a_full_folder_of_temporary_files_is_told_and_leaves_nothing(object_store, small_temporary_folder):
    store = object_store.store()
    upload = store.begin(KEY)
    with pytest.raises(StoreUnavailable, match="folder of temporary files: No space left") as refused:
        for _ in range(4):
            upload.write(bytes(2**20))
    assert refused.value.full
    upload.abort()
    assert list(store.objects()) == []
    put(store, b"x" * 2**20)
    assert len(get(store)) == 2**20
    assert list(small_temporary_folder.iterdir()) == []


def test_parts_that_wait_to_be_sent_are_not_all_in_memory(object_store, monkeypatch):
    store, inside, most, gate = object_store.store(), [], [], threading.Lock()
    real = store._client.put_part

    def watched(*arguments):
        with gate:
            inside.append(1)
            most.append(len(inside))
        sleep(0.05)
        with gate:
            inside.pop()
        return real(*arguments)

    monkeypatch.setattr(store._client, "put_part", watched)
    threads = [threading.Thread(target=put, args=(store, TWO_PARTS, f"{n:032x}")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == SENT_AT_ONCE
    assert all(get(store, f"{n:032x}") == TWO_PARTS for n in range(6))


def test_one_huge_block_is_cut_into_parts(object_store):
    store = object_store.store()
    upload = store.begin(KEY)
    upload.write(LARGE)
    upload.finish()
    assert get(store) == LARGE


def test_an_unfinished_upload_is_found_by_its_key_and_removed(server):
    store = server.store()
    upload = store.begin(KEY)
    upload.write(LARGE)
    assert len(parts_of(server, store)) == 1
    del upload  # as a process does that dies
    server.store().delete(KEY)  # of another place: nothing of ours
    assert len(parts_of(server, store)) == 1
    store.delete(KEY)
    assert parts_of(server, store) == []
    assert list(store.objects()) == []


def test_parts_too_many_for_s3_are_refused(object_store, monkeypatch):
    monkeypatch.setattr("repository.store.s3.MOST_PARTS", 1)
    upload = object_store.store().begin(KEY)
    with pytest.raises(StoreUnavailable, match="upload_part_bytes is too small"):
        upload.write(LARGE)
    upload.abort()


# ------------------------------------------------------------------------------------------- answers that are lost


STEPS = [("put", SMALL), ("create", TWO_PARTS), ("part", TWO_PARTS), ("complete", TWO_PARTS), ("head", TWO_PARTS)]
FAULTS = [("documents", lose_answer), ("versioned", lose_answer), ("documents", cut_request)]
FAULTS += [("documents", do(refuse, status=503, code="SlowDown"))]


@pytest.mark.parametrize(("kind", "data"), STEPS, ids=[kind for kind, _ in STEPS])
@pytest.mark.parametrize(("bucket", "action"), FAULTS, ids=["lost", "lost versioned", "cut", "busy"])
def test_a_request_whose_outcome_is_unknown_is_settled_by_looking(object_store, proxy, kind, data, bucket, action):
    store = object_store.store(bucket, endpoint=proxy.endpoint)
    proxy.rule = lambda asked: action if (asked.kind, asked.number) == (kind, 1) else None
    put(store, data)
    proxy.rule = lambda asked: None
    assert get(store) == data
    assert [(o.key, o.size, o.complete) for o in store.objects()] == [(KEY, len(data), True)]
    assert len(versions_of(object_store, store)) == 1
    assert parts_of(object_store, store) == []


@pytest.mark.parametrize(("kind", "data"), [STEPS[0], *STEPS[2:4]], ids=["put", "part", "complete"])
def test_a_server_that_stays_away_loses_the_upload_and_its_rest_is_removed(object_store, far, proxy, kind, data):
    proxy.rule = lambda asked: None if asked.kind == "create" else do(lose_answer)
    upload = far.begin(KEY)
    with pytest.raises(StoreUnavailable) as refused:
        upload.write(data)
        upload.finish()
    assert not refused.value.full
    with pytest.raises(StoreUnavailable, match="already closed"):
        upload.finish()
    with pytest.raises(StoreUnavailable):
        upload.abort()
    proxy.rule = lambda asked: None
    upload.abort()
    assert list(far.objects()) == []
    assert parts_of(object_store, far) == []


@pytest.mark.parametrize("data", [SMALL, TWO_PARTS], ids=["small", "large"])
def test_a_server_that_refuses_the_condition_gets_the_object_without_it(far, proxy, data):
    def asks(asked):
        return b"if-none-match" in asked.head.lower()

    proxy.rule = lambda asked: do(refuse, status=501, code="NotImplemented") if asks(asked) else None
    for key in (KEY, OTHER):
        put(far, data, key)
        assert get(far, key) == data
    assert sum(map(asks, proxy.asked)) == 1


def test_an_upload_somebody_else_removed_is_not_finished(object_store):
    store = object_store.store()
    upload = store.begin(KEY)
    upload.write(LARGE)
    store.delete(KEY)
    with pytest.raises(StoreUnavailable):
        upload.finish()
    assert store.size(KEY) is None


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_aborting_what_was_refused_leaves_the_object_that_is_there(object_store, data):
    store = object_store.store()
    put(store, b"first")
    upload = store.begin(KEY)
    upload.write(data)
    with pytest.raises(StoreUnavailable, match="already in use"):
        upload.finish()
    upload.abort()
    assert get(store) == b"first"
    assert parts_of(object_store, store) == []


def test_a_complete_that_says_200_and_fails_is_a_failure(object_store, far, proxy):
    proxy.rule = lambda asked: (
        do(answer, body=b"<Error><Code>InternalError</Code></Error>") if asked.kind == "complete" else None
    )
    upload = far.begin(KEY)
    upload.write(LARGE)
    with pytest.raises(StoreUnavailable, match="could not join"):
        upload.finish()
    proxy.rule = lambda asked: (
        do(answer, body=b"<Error><Code>InternalError</Code></Error>")
        if (asked.kind, asked.number) == ("complete", 4)
        else None
    )
    upload.abort()
    put(far, LARGE)
    assert get(far) == LARGE


# --------------------------------------------------------------------------------------------- broken downloads


@pytest.mark.parametrize("after", [0, 1, 300_000, len(LARGE) - 1])
def test_a_download_that_breaks_never_ends_like_a_whole_one(far, proxy, after):
    put(far, LARGE)
    proxy.rule = lambda asked: do(cut_answer, after=after) if asked.kind == "get" else None
    got = b""
    with pytest.raises(StoreUnavailable, match="broke off"):
        for block in far.open(KEY):
            got += block
    assert LARGE.startswith(got)
    assert len(got) < len(LARGE)
    proxy.rule = lambda asked: None
    assert get(far) == LARGE


def test_blocks_are_bounded(object_store):
    store = object_store.store()
    put(store, LARGE)
    assert {len(block) for block in store.open(KEY)} == {256 * 1024}


def test_a_server_that_is_silent_is_given_up_on(object_store, proxy):
    store = object_store.store(endpoint=proxy.endpoint, store_timeout_s=0.2)
    proxy.rule = lambda asked: hang
    with pytest.raises(StoreUnavailable, match="broke or timed out"):
        store.size(KEY)
    assert len(proxy.asked) == 3


def test_a_server_that_is_not_there_cannot_be_reached(object_store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
    store = object_store.store(endpoint=at)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        put(store, SMALL)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        answers(store, 0)


# -------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("status", "code", "full", "words"),
    [
        (507, "XMinioStorageFull", True, "no room left"),
        (507, None, True, "no room left"),
        (403, "QuotaExceeded", True, "no room left"),
        (403, "SignatureDoesNotMatch", False, "refuses our key"),
        (403, "RequestTimeTooSkewed", False, "clock"),
        (404, "NoSuchBucket", False, "bucket is not there"),
        (301, "PermanentRedirect", False, "PermanentRedirect"),
        (400, "BadDigest", False, "BadDigest"),
        (502, None, False, "HTTP 502"),
        (501, None, False, "does not offer"),
        (400, "AKIA and more", False, "HTTP 400"),
    ],
)  # fmt: skip
def test_errors_are_told_in_plain_words_without_secrets(far, proxy, status, code, full, words):
    proxy.rule = lambda asked: do(refuse, status=status, code=code) if asked.kind == "put" else None
    with pytest.raises(StoreUnavailable) as refused:
        put(far, SMALL)
    assert refused.value.full is full
    assert words in str(refused.value)
    for secret in (KEY, ACCESS, SECRET, "AKIA"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"not xml"])
def test_answers_that_cannot_be_read_are_no_success(far, proxy, body):
    proxy.rule = lambda asked: do(answer, body=body) if asked.kind in {"create", "complete", "list"} else None
    with pytest.raises(StoreUnavailable):
        put(far, LARGE)
    with pytest.raises(StoreUnavailable):
        list(far.objects())


def test_other_bytes_than_were_sent_are_noticed(far, proxy):
    def other(running, asked, upstream):
        head, body = running.forward(asked, upstream)
        return re.sub(rb'(?i)(etag: ")[0-9a-f]{32}', rb"\g<1>" + b"0" * 32, head), body

    proxy.rule = lambda asked: other if asked.kind in {"put", "part"} else None
    for data in (SMALL, LARGE):
        upload = far.begin(KEY)
        with pytest.raises(StoreUnavailable, match="other bytes"):
            upload.write(data)
            upload.finish()
        upload.abort()
    assert list(far.objects()) == []


def test_a_wrong_secret_is_refused(server):
    store = server.store(store_secret_key="another-secret-altogether")
    for ask in (lambda: store.size(KEY), lambda: list(store.objects()), lambda: put(store, SMALL), lambda: get(store)):
        with pytest.raises(StoreUnavailable, match="refuses our key"):
            ask()


def test_a_bucket_that_is_gone_is_not_a_document_that_is_gone(server):
    store = server.store("nobodys-bucket")
    for ask in (lambda: store.size(KEY), lambda: get(store), lambda: answers(store, 0)):
        with pytest.raises(StoreUnavailable, match="bucket is not there"):
            ask()


def test_a_store_that_answers_is_ready_though_it_knows_no_free_room(server):
    store = server.store()
    assert store.free_bytes() is None
    assert answers(store, 2**40)


# ------------------------------------------------------------------------------------------------ versions, locks


def test_deleting_leaves_no_version_and_no_marker(server):
    store = server.store("versioned")
    put(store, SMALL)
    server.put("versioned", store.name(KEY), b"somebody else's")
    server.minio().remove_object("versioned", store.name(KEY))
    assert len(versions_of(server, store)) == 3
    store.delete(KEY)
    assert versions_of(server, store) == []


def test_a_bucket_that_gets_versions_later_is_noticed(server):
    bucket = "late-versions"
    client = server.minio()
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    store = server.store(bucket)
    put(store, SMALL)
    store.delete(KEY)
    client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    put(store, SMALL)
    store.delete(KEY)
    assert versions_of(server, store) == []


def test_an_object_under_lock_stays_until_its_time(server):
    store = server.store("locked")
    put(store, SMALL)
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
    (version,) = versions_of(server, store)
    server.minio().set_object_retention(
        "locked", store.name(KEY), Retention(GOVERNANCE, until), version_id=version.version_id
    )
    for _ in range(2):
        with pytest.raises(ObjectLocked, match=f"locked until {until:%Y-%m-%d}"):
            store.delete(KEY)
    assert get(store) == SMALL
    assert len(versions_of(server, store)) == 1
    bypass = {"x-amz-bypass-governance-retention": "true"}
    store._client.remove_version(store.name(KEY), version.version_id, bypass)
    assert versions_of(server, store) == []


def test_an_object_under_a_legal_hold_stays(server):
    store = server.store("locked")
    put(store, SMALL)
    (version,) = versions_of(server, store)
    server.minio().enable_object_legal_hold("locked", store.name(KEY), version.version_id)
    with pytest.raises(ObjectLocked, match="legal hold"):
        store.delete(KEY)
    server.minio().disable_object_legal_hold("locked", store.name(KEY), version.version_id)
    store.delete(KEY)
    assert versions_of(server, store) == []


# ------------------------------------------------------------------------------------------------- listing, TLS


def test_more_objects_than_a_page(server):
    store = server.store()
    keys = [f"{number:032x}" for number in range(1100)]

    def write(mine):
        for key in mine:
            put(store, b"", key)

    threads = [threading.Thread(target=write, args=(keys[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.put("documents", store.name(KEY)[:-1] + "x", b"not ours")
    assert sorted(o.key for o in store.objects()) == keys


def test_unfinished_uploads_come_in_pages_too(object_store, monkeypatch):
    store = object_store.store()
    client = store._client._minio
    real = client._list_multipart_uploads
    pages = []
    monkeypatch.setattr(
        client, "_list_multipart_uploads", lambda *a, **n: pages.append(n) or real(*a, **n | {"max_uploads": 2})
    )
    keys = [f"{number:032x}" for number in range(5)]
    for key in keys:
        store._client.create_upload(store.name(key), {})
    assert sorted(o.key for o in store.objects()) == keys
    assert len(pages) >= 3
    for key in keys:
        store.delete(key)
    assert list(store.objects()) == []


def test_tls_with_an_authority_of_ones_own(object_store):
    store = object_store.store(tls=True)
    put(store, LARGE)
    assert get(store) == LARGE


def test_a_certificate_of_an_unknown_authority_is_refused(object_store):
    store = object_store.store(tls=True, store_ca=None)
    with pytest.raises(StoreUnavailable, match="certificate of the object store is not trusted"):
        store.size(KEY)


def test_authorities_that_cannot_be_read_are_told_at_once(object_store, tmp_path):
    (tmp_path / "ca").write_text("no certificate")
    for path in (tmp_path / "ca", tmp_path / "missing"):
        with pytest.raises(StoreUnavailable, match="store_ca"):
            object_store.store(tls=True, store_ca=path)


def test_a_reader_that_stops_gives_its_connection_back(far, proxy):
    put(far, LARGE)
    before = threading.active_count()
    for _ in range(5):
        blocks = far.open(KEY)
        assert list(islice(blocks, 2))
        blocks.close()
    assert get(far) == LARGE
    assert threading.active_count() <= before + 6


def test_an_object_that_is_missing_is_told_before_the_first_block(server):
    store = server.store()
    with pytest.raises(ObjectMissing):
        next(store.open(KEY))
