"""A full disk under each of the four places where something is kept: the right error each, nothing half-written, no loss.

Each place in turn lies on a small tmpfs of its own, which takes the right to mount.
"""

import os
import random
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.builders import new_oid
from tests.soak.plain import plain
from tests.soak.server import serving
from tests.soak.source import compose, patient_id
from tests.soak.stores import audit_faults, backlog, store_faults, waiting

MIB = 2**20
MANY = 600
PATIENT = patient_id("full-disk")


class SmallDisk:
    """A mounted tmpfs that can be filled to its last byte and emptied again."""

    def __init__(self, folder):
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, leave=0):
        with self._filler.open("wb", buffering=0) as filler:
            found = os.statvfs(self.folder)
            rest = found.f_bavail * found.f_frsize - leave
            while rest > 0:
                try:
                    rest -= filler.write(bytes(min(rest, MIB)))
                except OSError:
                    return

    def make_room(self):
        self._filler.unlink()


@contextmanager
def small_disk(folder, mebibytes):
    if os.geteuid() != 0:
        pytest.skip("a small disk takes the right to mount one: run as root")
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def stand(tmp_path, room, mebibytes, **settings):
    """(disk, server, plain client, addresses of the databases); the patient is known."""
    data = tmp_path / "data"
    data.mkdir()
    with small_disk(tmp_path / "small", mebibytes) as disk:
        urls = {name: f"sqlite:///{data}/{name}.db" for name in ("registry", "repository", "audit")}
        if room == "store":
            settings["REPOSITORY__STORE"] = f"file://{disk.folder}"
        else:
            urls[room] = f"sqlite:///{disk.folder}/{room}.db"
            settings[f"{room.upper()}__DATABASE_URL"] = urls[room]
        with serving(data, REPOSITORY__SWEEP_INTERVAL_S="1", **settings) as server, plain(server) as client:
            assert client.feed(new_oid()[:40], PATIENT) == "AA"
            yield disk, server, client, urls


def until_refused(act, make):
    """Ask until it is refused (what lies ready in a write-ahead log is used up first): (what was refused, codes)."""
    for _ in range(MANY):
        wanted = make()
        codes = act(wanted)
        if codes:
            return wanted, codes
    raise AssertionError("a full disk is never noticed")


def in_the_end(server, client, urls, folder):
    """Swept, delivered, stopped: then everything acknowledged is there, nothing else is, and the chain holds."""
    deadline = time.monotonic() + 60
    while (waiting(urls) or backlog(urls)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert server.stop() == 0
    assert [*store_faults(urls, folder, client.ledger), *audit_faults(urls, client.ledger)] == []
    for text in client.texts:
        assert "Traceback" not in text
        assert "Error" not in text
        assert ".py" not in text


def some_files(folder):
    return sorted(path.name for path in Path(folder).rglob("*") if path.is_file() and path.name != "filler")


def test_document_store(tmp_path):
    rng = random.Random(1)
    with stand(tmp_path, "store", 24, REPOSITORY__MIN_FREE_BYTES="0") as (disk, server, client, urls):
        assert client.provide(compose(rng, PATIENT, [rng.randbytes(2000)])) == []
        before = some_files(disk.folder)
        for leave, size in ((0, 2000), (2 * MIB, 5 * MIB)):
            disk.fill(leave)
            package = compose(rng, PATIENT, [rng.randbytes(size)])
            assert client.provide(package) == ["XDSRepositoryOutOfResources"]
            assert some_files(disk.folder) == before
            assert waiting(urls) == 0
            assert client.find(PATIENT) == []
            assert client.retrieve(next(iter(client.ledger.documents))) == []
            disk.make_room()
            assert client.provide(package) == []
            before = some_files(disk.folder)
        in_the_end(server, client, urls, disk.folder)


def test_room_is_left_alone_in_the_document_store(tmp_path):
    rng = random.Random(2)
    with stand(tmp_path, "store", 24) as (disk, server, client, urls):
        disk.fill(leave=6 * MIB)
        package = compose(rng, PATIENT, [rng.randbytes(2000)])
        assert client.provide(package) == ["XDSRepositoryOutOfResources"]
        assert some_files(disk.folder) == []
        disk.make_room()
        assert client.provide(package) == []
        in_the_end(server, client, urls, disk.folder)


def test_registry_database(tmp_path):
    rng = random.Random(3)

    def package(provided=True):
        return compose(rng, PATIENT, [rng.randbytes(500)], provided=provided)

    with stand(tmp_path, "registry", 16) as (disk, server, client, urls):
        disk.fill()
        refused, codes = until_refused(client.register, lambda: package(provided=False))
        assert codes == ["XDSRegistryOutOfResources"]
        provided, codes = until_refused(client.provide, package)
        assert codes == ["XDSRegistryOutOfResources"]
        assert waiting(urls) == 0
        assert until_refused(client.find, lambda: PATIENT)[1] == ["XDSRegistryOutOfResources"]
        fed, code = until_refused(lambda one: "" if (got := client.feed(*one)) == "AA" else got, new_patient)
        assert code == "AE"
        disk.make_room()
        assert client.register(refused) == []
        assert client.provide(provided) == []
        assert client.find(PATIENT) == []
        assert client.feed(*fed) == "AA"
        in_the_end(server, client, urls, server.data / "documents")


def new_patient():
    name = new_oid()[-20:]
    return name, patient_id(name)


def test_repository_database(tmp_path):
    rng = random.Random(4)
    with stand(tmp_path, "repository", 16) as (disk, server, client, urls):
        assert client.provide(compose(rng, PATIENT, [b"first"])) == []
        (stored,) = client.ledger.documents
        disk.fill()
        refused, codes = until_refused(client.provide, lambda: compose(rng, PATIENT, [rng.randbytes(500)]))
        assert codes == ["XDSRepositoryOutOfResources"]
        large = compose(rng, PATIENT, [rng.randbytes(2 * MIB)])
        assert client.provide(large) == ["XDSRepositoryOutOfResources"]
        assert until_refused(client.retrieve, lambda: stored)[1] == ["XDSRepositoryOutOfResources"]
        assert client.find(PATIENT) == []
        disk.make_room()
        assert client.provide(refused) == []
        assert client.provide(large) == []
        assert client.retrieve(stored) == []
        in_the_end(server, client, urls, server.data / "documents")


def test_audit_database(tmp_path):
    rng = random.Random(5)
    with stand(tmp_path, "audit", 16) as (disk, server, client, urls):
        disk.fill()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert client.provide(compose(rng, PATIENT, [rng.randbytes(500)])) == []
            assert client.find(PATIENT) == []
            time.sleep(0.2)
            if backlog(urls) > 20:
                break
        time.sleep(1)
        assert backlog(urls) > 20, "the audit service never refused"
        disk.make_room()
        in_the_end(server, client, urls, server.data / "documents")
