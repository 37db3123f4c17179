"""A whole Dossier whose registry database is stopped and killed under load: every answer is right and in time."""

import random
import subprocess
import sys
import threading
import time

import psycopg

from dossier.demo import free_base_port
from registry.store.tables import metadata
from tests.builders import new_oid
from tests.postgres import restartable  # noqa: F401 - fixture
from tests.registry.store.test_migrations import migrated
from tests.soak.plain import plain
from tests.soak.server import serving
from tests.soak.source import compose, patient_id

PATIENT = patient_id("restarts")
NOT_NOW = (["XDSRegistryError"], ["XDSRegistryBusy"])
PATIENCE_S = 20
HALF_WRITTEN = """
    SELECT (SELECT count(*) FROM object_key) - (SELECT count(*) FROM entry) - (SELECT count(*) FROM submission_set)
         - (SELECT count(*) FROM association),
           (SELECT count(*) FROM entry) - (SELECT count(*) FROM submission_set),
           (SELECT count(*) FROM entry) - (SELECT count(*) FROM association),
           (SELECT count(*) FROM unique_id_key) - 2 * (SELECT count(*) FROM entry)
"""


class Writer(threading.Thread):
    """Registers and asks without a pause, and keeps what it was told."""

    def __init__(self, server, seed, until):
        super().__init__()
        self.server, self.rng, self.until = server, random.Random(seed), until
        self.told = []
        self.slowest = 0.0
        self.acknowledged = []
        self.texts = []
        self.fault = None

    def run(self):
        try:
            with plain(self.server) as client:
                client.ledger.fed("", PATIENT)
                while time.monotonic() < self.until:
                    package = compose(self.rng, PATIENT, [self.rng.randbytes(200)], provided=False)
                    for act in (lambda: client.register(package), lambda: client.find(PATIENT)):  # noqa: B023
                        began = time.monotonic()
                        self.told.append(act())
                        self.slowest = max(self.slowest, time.monotonic() - began)
                self.acknowledged = list(client.ledger.documents)
                self.texts = client.texts
        except Exception as error:
            self.fault = error


def test_the_database_is_stopped_and_killed_under_load(tmp_path, restartable):  # noqa: F811
    with serving(tmp_path, REGISTRY__DATABASE_URL=restartable.url(), REGISTRY__WORKERS="2") as server:
        with plain(server) as client:
            assert client.feed(new_oid()[:40], PATIENT) == "AA"
        writers = [Writer(server, seed, time.monotonic() + 12) for seed in range(3)]
        for writer in writers:
            writer.start()
        for mode in ("fast", "immediate"):
            time.sleep(2)
            restartable.stop(mode)
            time.sleep(1)
            restartable.start()
            time.sleep(1)
            restartable.terminate()
        for writer in writers:
            writer.join()
        with plain(server) as client:
            assert client.find(PATIENT) == []
        assert server.stop() == 0
    told = [codes for writer in writers for codes in writer.told]
    assert [writer.fault for writer in writers] == [None] * 3
    assert [] in told
    assert any(codes in NOT_NOW for codes in told)
    assert [codes for codes in told if codes and codes not in NOT_NOW] == []
    assert max(writer.slowest for writer in writers) < PATIENCE_S
    assert not [text for writer in writers for text in writer.texts if "Traceback" in text or ".py" in text]
    acknowledged = {unique_id for writer in writers for unique_id in writer.acknowledged}
    with psycopg.connect(restartable.url().replace("+psycopg", "")) as connection:
        assert connection.execute(HALF_WRITTEN).fetchone() == (0, 0, 0, 0)
        there = {row[0] for row in connection.execute("SELECT unique_id FROM entry")}
    assert acknowledged
    assert acknowledged <= there


def test_a_service_on_an_older_schema_says_so_and_ends_with_2(tmp_path, run_command):
    data = tmp_path / "data"
    run_command("db", "upgrade", "--data", str(data))
    (data / "registry.db").unlink()
    url = f"sqlite:///{data}/registry.db"
    migrated(url, "registry", 1)
    status, out, _err = run_command("db", "status", "--data", str(data), "--json")
    assert status == 1
    assert '"older: run dossier db upgrade"' in out
    command = [sys.executable, "-m", "dossier", "serve", "registry", "--data", str(data)]
    command += ["--base-port", str(free_base_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "this program needs" in done.stderr
    assert "run: dossier db upgrade" in done.stderr
    assert "Traceback" not in done.stderr
    status, out, _err = run_command("db", "upgrade", "--data", str(data))
    assert status == 0
    assert f"registry: version 1 → {metadata.info['version']}\n" in out
    with serving(data) as server:
        assert server.stop() == 0
