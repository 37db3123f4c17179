"""``dossier store check``: what it finds out about real stores, and that it leaves nothing behind."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
from minio.commonconfig import GOVERNANCE
from minio.objectlockconfig import DAYS, ObjectLockConfig

from repository.settings import RepositorySettings, store_bucket
from repository.store import probe as probing
from repository.store.directory import DirectoryStore
from repository.store.probe import probe
from repository.store.s3_client import S3Client
from tests.store_proxy import do, proxied, refuse

QUICK = 1


@pytest.fixture
def small(monkeypatch):
    """Fewer rounds; the sizes stay, a part is 5 MiB."""
    monkeypatch.setattr(probing, "ROUNDS", QUICK)


def found(settings):
    findings = probe(settings)
    assert len({one.what for one in findings}) == len(findings)
    return {one.what: one for one in findings}


def everything(server, bucket):
    client = server.minio()
    return [o.object_name for o in client.list_objects(bucket, recursive=True, include_version=True)]


@pytest.mark.parametrize("name", ["seaweedfs", "minio"])
@pytest.mark.parametrize("bucket", ["documents", "versioned", "locked"])
def test_a_good_server_has_what_production_needs_and_keeps_nothing(request, small, name, bucket):
    server = request.getfixturevalue(name)
    before = everything(server, bucket)
    rows = found(server.settings(bucket))
    assert [one for one in rows.values() if one.missing] == []
    for what in (
        "wrong secret", "no key", "clock", "write and read back", "large object in parts", "listing", "deletion",
        "no overwrite", "checksums", "unfinished uploads removed", "parts of an object", "encryption at rest",
        "nothing left behind", "latency",
    ):  # fmt: skip
        assert rows[what].holds, rows[what]
    assert rows["versioning"].result.startswith("off" if bucket == "documents" else "on")
    assert rows["object lock"].holds is rows["object lock holds"].holds is (bucket == "locked")
    assert rows["unfinished uploads"].holds is (name == "seaweedfs")
    assert everything(server, bucket) == before


def test_tls_is_told_with_its_version(object_store, small):
    rows = found(object_store.settings(tls=True))
    assert rows["TLS"].result.startswith("TLSv1.3, certificate good for ")
    assert not [one for one in rows.values() if one.missing]


def test_a_bucket_that_locks_everything_is_told_and_hardly_written_to(object_store, small):
    client = object_store.minio()
    client.make_bucket("worm", object_lock=True)
    client.set_object_lock_config("worm", ObjectLockConfig(GOVERNANCE, 1, DAYS))
    rows = found(object_store.settings("worm"))
    assert rows["nothing left behind"].holds is False
    assert rows["nothing left behind"].result.startswith("1 objects stay under ")
    assert rows["parts, deletion and the rest"].holds is None
    assert len(set(everything(object_store, "worm"))) == 1


def test_a_server_that_takes_any_secret_is_no_server_for_documents(object_store, small, monkeypatch):
    """As some test servers do: whoever asks, it is answered like the owner."""
    real = probing.bucket_client
    monkeypatch.setattr(probing, "bucket_client", lambda settings, bucket, secret_key=None: real(settings, bucket))
    monkeypatch.setattr(probing, "anonymous_client", real)
    rows = found(object_store.settings())
    assert rows["wrong secret"].missing
    assert rows["no key"].missing
    assert rows["nothing left behind"].holds


def test_clocks_apart_are_told(object_store, small, monkeypatch):
    monkeypatch.setattr(S3Client, "check_bucket", lambda _self: datetime.now(UTC) - timedelta(minutes=5))
    settings = object_store.settings()
    with pytest.raises(probing._Lacking, match="300 s apart"):
        probing._InBucket(settings, store_bucket(settings.store), "x")._clock()


def test_a_server_that_lacks_things_is_told_what_is_missing(object_store, small):
    with proxied(object_store) as proxy:

        def poor(asked):
            if asked.kind == "create":
                return do(refuse, status=501, code="NotImplemented")
            return None

        proxy.rule = poor
        rows = found(object_store.settings(endpoint=proxy.endpoint))
    assert rows["large object in parts"].missing
    assert "NotImplemented" in rows["large object in parts"].result
    assert rows["nothing left behind"].holds


def test_what_cannot_be_removed_is_told(object_store, small):
    with proxied(object_store) as proxy:
        proxy.rule = lambda asked: do(refuse, status=403, code="AccessDenied") if asked.kind == "delete" else None
        rows = found(object_store.settings(endpoint=proxy.endpoint))
    assert rows["deletion"].missing
    assert rows["nothing left behind"].missing
    assert "stay under" in rows["nothing left behind"].result


def test_a_directory_is_tried_too_and_left_as_it_was(tmp_path, small):
    root = tmp_path / "documents"
    rows = found(RepositorySettings(store=root.as_uri()))
    assert not [one for one in rows.values() if one.missing]
    assert rows["no overwrite"].result == "a second object of the same name is refused"
    assert list(tmp_path.iterdir()) == []
    DirectoryStore(root)
    rows = found(RepositorySettings(store=root.as_uri()))
    assert not [one for one in rows.values() if one.missing]
    assert sorted(path.name for path in root.iterdir()) == ["incoming", "objects"]
    root.chmod(0o755)
    rows = found(RepositorySettings(store=root.as_uri(), min_free_bytes=0))
    assert [one.what for one in rows.values() if one.missing] == ["for its user alone"]


def test_a_mistyped_folder_of_data_is_not_made(small, tmp_path, run_command):
    status, out, _ = run_command("store", "check", "--data", str(tmp_path / "new" / "typo"))
    assert (status, "write and read back" in out) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_not_there_is_told_in_one_line(object_store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
    rows = found(object_store.settings(endpoint=at))
    assert rows["reached with our key"].missing
    assert "cannot be reached" in rows["reached with our key"].result


def _config(folder, server, **more):
    path = folder / "dossier.toml"
    path.write_text(server.toml(server.values(**more)))
    return str(path)


def test_the_command_prints_a_table_and_json_and_ends_with_what_is_missing(object_store, small, tmp_path, run_command):
    config = _config(tmp_path, object_store)
    status, out, err = run_command("store", "check", "--config", config)
    assert (status, err) == (0, "dossier: the store has what production needs\n")
    rows = [line.split("\t") for line in out.splitlines()]
    assert ["wrong secret", "ok", "refused", "needed", ""] in rows
    status, out, _ = run_command("store", "check", "--config", config, "--json")
    assert (status, json.loads(out)["missing"]) == (0, [])
    config = _config(tmp_path, object_store, store_secret_key="wrong")
    status, out, err = run_command("store", "check", "--config", config)
    assert status == 1
    assert err == "dossier: production needs what this store lacks: reached with our key\n"
    assert "wrong\t" not in out
