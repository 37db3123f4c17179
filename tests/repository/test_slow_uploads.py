"""Twelve uploads of 64 kB/s beside ordinary traffic: nobody else waits for them, and they are not held in memory."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from repository.store.keyring import new_line
from repository.store.opening import open_store
from tests.repository.apart import apart
from tests.repository.sending import Upload
from tests.repository.stand import ScriptedRegistry, provide, retrieve, served, settings_for, unique_ids
from tests.repository.test_iti41_provide_and_register_document_set_b import as_it_comes_from_a_source

MIB = 2**20
REGISTRY = "http://127.0.0.1:9/registry"
UPLOADS = 12
SIZE, AT_ONCE = 20 * MIB, 12 * MIB
ORDINARY = 30
STEP, STEPS_PER_S = 6_400, 10

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel does not tell the peak memory of a process"
)


class Slow:
    """One upload: most of it at once, so that who holds it in memory is found out; then 64 kB/s until told to end."""

    def __init__(self, upload, ending):
        self.upload, self._ending, self.status = upload, ending, None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        self.upload.send(AT_ONCE)
        while not self._ending.wait(1 / STEPS_PER_S) and self.upload.sent < SIZE - MIB:
            self.upload.send(STEP)
        self.status = self.upload.send().answer().status


def ordinary(address):
    """A submission of two documents, one of them large, and their retrieval."""
    objects = as_it_comes_from_a_source(entries=2)
    documents = {"Document01": b"a short report", "Document02": bytes(2 * MIB)}
    assert provide(address, objects, documents).status == "Success"
    given = dict(retrieve(address, *unique_ids(objects)).documents())
    assert list(given.values()) == list(documents.values())


@pytest.fixture(params=["plain in a directory", "sealed in a bucket"])
def settings(request, tmp_path):
    if request.param == "plain in a directory":
        return {}
    (tmp_path / "keys").write_text(new_line("k1"))
    return request.getfixturevalue("object_store").values() | {"keyring": str(tmp_path / "keys")}


def on_their_way(folder, settings):
    """(uploads that have begun, bytes of them that lie in the store, where it tells)."""
    found = [one for one in open_store(settings_for(folder, REGISTRY, **settings)).objects() if not one.complete]
    return len(found), sum(one.size for one in found)


def test_slow_uploads_hold_nobody_up_and_are_not_held_in_memory(tmp_path, settings):
    content = bytes(range(256)) * (SIZE // 256)
    ending = threading.Event()
    with (
        served(ScriptedRegistry(), "/registry", name="registry") as registry,
        apart(tmp_path, registry, **settings) as server,
    ):
        for _ in range(3):
            ordinary(server.address)
        idle = server.resident_bytes()
        server.forget_peak()
        with ExitStack() as stack:
            slow = []
            stack.callback(ending.set)
            for _ in range(UPLOADS):
                objects = as_it_comes_from_a_source()
                upload = stack.enter_context(Upload(server.address, objects, {"Document01": content}))
                slow.append(Slow(upload, ending))
            while min(one.upload.sent for one in slow) < AT_ONCE:
                time.sleep(0.05)
            for _ in range(ORDINARY):
                ordinary(server.address)
            assert all(one.upload.silent and one.upload.sent < SIZE for one in slow), "the slow ones had ended before"
            begun, stored = on_their_way(tmp_path, settings)
            assert begun == UPLOADS
            assert settings or stored > UPLOADS * (AT_ONCE - 2 * MIB)
            ending.set()
            for one in slow:
                one.thread.join(60)
            assert [one.status for one in slow] == ["Success"] * UPLOADS
        assert server.resident_bytes(peak=True) - idle < 64 * MIB
