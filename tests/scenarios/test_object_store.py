"""A whole Dossier whose documents lie in a bucket: in over ITI-41, out over ITI-43, through the command line."""

import hashlib
import os
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from dossier.console import CommandError
from dossier.demo import serving
from tests.object_store import SECRET, seaweedfs  # noqa: F401 - the fixture
from tests.store_proxy import do, proxied, refuse

PATIENT = "bucket^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"


@pytest.fixture(scope="module")
def behind(seaweedfs, tmp_path_factory):  # noqa: F811 - the fixture
    """The services, the proxy between them and the object store, and a store on the same place."""
    data = tmp_path_factory.mktemp("bucket")
    with proxied(seaweedfs) as proxy:
        values = seaweedfs.values("versioned", endpoint=proxy.endpoint)
        (data / "dossier.toml").write_text(seaweedfs.toml(values))
        with serving(data, config=data / "dossier.toml") as running:
            yield running, proxy, seaweedfs.store("versioned", prefix=values["store"].rpartition("/")[2])


@pytest.fixture(scope="module")
def patient(behind):
    behind[0].run("feed", "--patient", PATIENT, "--family", "Bucket")
    return PATIENT


def submit(running, path, patient):
    return running.run("submit", str(path), "--patient", patient, "--type", "11502-2")["documents"][0]["unique_id"]


@pytest.mark.parametrize("size", [300, 12_000_001])
def test_documents_go_in_and_come_out_byte_for_byte(behind, patient, tmp_path, size):
    running, _, store = behind
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF-1.4 " + os.urandom(size))
    before = {found.key for found in store.objects()}
    unique_id = submit(running, path, patient)
    (stored,) = (found for found in store.objects() if found.key not in before)
    assert (stored.size, stored.complete) == (size + 9, True)
    (fetched,) = running.run("fetch", unique_id, "--out", str(tmp_path / "out"))
    assert fetched["checked"] is True
    assert hashlib.sha256(Path(fetched["file"]).read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()


def ready(running):
    with urlopen(f"http://127.0.0.1:{running.base_port + 29}/health/ready", timeout=20) as answer:
        return answer.status


def test_a_store_that_refuses_is_told_nothing_is_kept_and_the_service_goes_on(behind, patient, tmp_path):
    running, proxy, store = behind
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF-1.4 " + os.urandom(6_000_000))
    before = {found.key for found in store.objects()}
    proxy.rule = lambda asked: do(refuse, status=507, code="XMinioStorageFull") if asked.kind == "part" else None
    with pytest.raises(CommandError, match="XDSRepositoryOutOfResources"):
        submit(running, path, patient)
    assert {found.key for found in store.objects()} == before
    proxy.rule = lambda asked: None
    assert ready(running) == 200
    assert submit(running, path, patient)


def test_readiness_follows_the_store(behind):
    running, proxy, _ = behind
    proxy.rule = lambda asked: do(refuse, status=403)
    with pytest.raises(HTTPError) as refused:
        ready(running)
    assert refused.value.code == 503
    assert b'"store":"failed"' in refused.value.read().replace(b" ", b"")
    refused.value.close()
    proxy.rule = lambda asked: None
    assert ready(running) == 200


def test_no_secret_stands_in_the_log(behind):
    text = (behind[0].data / "server.log").read_text()
    assert SECRET not in text
