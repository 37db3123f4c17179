"""Real certificates and a real server for the wire's tests: sockets, TLS and a small ASGI application, no mocks."""

import asyncio
import datetime as dt
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.wire.soap_peer import EchoActor, served
from wire.body import BodyError, BodyReader, ClientGone
from wire.http_server import serve_http
from wire.settings import LimitSettings


@dataclass(frozen=True)
class Identity:
    certificate: Path
    key: Path
    x509: x509.Certificate
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Pki:
    """A test authority: ``issue`` signs, ``self_signed`` does not, ``revoke`` writes a CRL."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = self._make("Test Authority", None, authority=True)
        self.other_ca = self._make("Other Authority", None, authority=True)
        self.server = self.issue("server")
        self.client = self.issue("client-x")
        self.stranger = self._make("client-x", self.other_ca)

    def issue(self, name: str, private: rsa.RSAPrivateKey | None = None, **more) -> Identity:
        return self._make(name, self.ca, private=private, **more)

    def authority(self, name: str, issuer: Identity | None = None) -> Identity:
        return self._make(name, issuer or self.ca, authority=True)

    def issue_by(self, issuer: Identity, name: str) -> Identity:
        """The file holds the certificate and behind it the issuer's, as a node presents them."""
        made = self._make(name, issuer)
        with made.certificate.open("ab") as file:
            file.write(issuer.certificate.read_bytes())
        return made

    def self_signed(self, name: str) -> Identity:
        return self._make(name, None)

    def revoke(self, *identities: Identity, by: Identity | None = None, days: float = 1) -> Path:
        """A list in force of the authority ``by``, in a file of its own; of negative ``days`` one that has expired."""
        by, now = by or self.ca, dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(by.x509.subject)
            .last_update(now - dt.timedelta(days=30))
            .next_update(now + dt.timedelta(days=days))
        )
        for identity in identities:
            one = x509.RevokedCertificateBuilder().serial_number(identity.x509.serial_number).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        path = self.directory / f"{len(list(self.directory.iterdir()))}.crl"
        path.write_bytes(builder.sign(by.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _make(
        self, name: str, issuer: Identity | None, authority: bool = False, private=None, days: float = 5, usages=None
    ) -> Identity:
        private = private or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Hospital A"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        signer = private if issuer is None else issuer.private
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.x509.subject)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=30))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        )
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            usages = usages or [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        certificate = builder.sign(signer, hashes.SHA256())
        stem = self.directory / f"{name.replace(' ', '-')}-{certificate.serial_number:x}"
        stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        stem.with_suffix(".key").write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Identity(stem.with_suffix(".crt"), stem.with_suffix(".key"), certificate, private)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@dataclass
class ProbeApp:
    """The ASGI application under the server: echoes, counts, streams, breaks, by path; notes what happened to it."""

    limits: LimitSettings
    max_bytes: int = 2**20
    seen: list[str] = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        route = getattr(self, "_" + scope["path"].strip("/"), self._echo)
        try:
            await route(scope, receive, send)
        except BodyError as error:
            self.seen.append(type(error).__name__)
            await answer(send, error.status, str(error).encode())
        except ClientGone:
            self.seen.append("ClientGone")

    async def _echo(self, scope, receive, send):
        reader = BodyReader(scope, receive, max_bytes=self.max_bytes, limits=self.limits)
        body = await reader.read()
        self.seen.append(f"whole {len(body)}")
        await answer(send, 200, body)

    async def _count(self, scope, receive, send):
        reader = BodyReader(scope, receive, max_bytes=2**40, limits=self.limits)
        async for _ in reader:
            pass
        await answer(send, 200, str(reader.decoded_bytes).encode())

    async def _peer(self, scope, receive, send):
        peer = scope["dossier.peer"]
        found = {"address": peer.address, "node": peer.node, "fingerprint": peer.fingerprint}
        await answer(send, 200, json.dumps(found).encode())

    async def _forbidden(self, scope, receive, send):
        await answer(send, 401, b"no")

    async def _chunks(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async def _slow(self, scope, receive, send):
        await asyncio.sleep(0.4)
        await answer(send, 200, b"slow")

    async def _broken(self, scope, receive, send):
        raise KeyError(secret_name())

    async def _breaks(self, scope, receive, send):
        await self._unfinished(send)
        raise KeyError(secret_name())

    async def _aborts(self, scope, receive, send):
        await self._unfinished(send)
        scope["dossier.connection"].abort()

    async def _unfinished(self, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.sleep(0.05)

    async def _pour(self, scope, receive, send):
        """Streams without end until the connection is lost."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not scope["dossier.connection"].lost:
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
            await asyncio.sleep(0)
        self.seen.append("lost")


def secret_name():
    """Not spelled out, since source lines stand in a trace and values must not."""
    return "MANN".title().join(["Muster", ""])


async def answer(send, status, body):
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@dataclass
class Running:
    port: int
    app: ProbeApp
    stop: "object"
    failures: list[tuple[str, int, str]]

    def connect(self, timeout=10.0):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def wait_for(self, condition, seconds=5.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not happen; seen: {self.app.seen}"
            time.sleep(0.01)


@contextmanager
def running(limits: LimitSettings, tls, loop_factory, max_bytes: int, forwarded=None) -> Iterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    app = ProbeApp(limits, max_bytes)
    failures: list[tuple[str, int, str]] = []
    ready = threading.Event()
    control: dict[str, object] = {}

    async def main():
        control["loop"], control["stop"] = asyncio.get_running_loop(), asyncio.Event()
        await serve_http(
            app,
            [listener],
            limits=limits,
            tls=tls,
            stop=control["stop"],
            started=ready.set,
            forwarded=forwarded,
            handshake_failed=lambda *failure: failures.append(failure),
        )

    def run():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    port = listener.getsockname()[1]
    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)

    def stop(wait=True):
        if thread.is_alive():
            control["loop"].call_soon_threadsafe(control["stop"].set)
        if wait:
            thread.join(20)
            assert not thread.is_alive()

    try:
        yield Running(port, app, stop, failures)
    finally:
        stop()


@pytest.fixture
def serve():
    """``with serve(header_timeout_s=1) as server``: the probe application on a free port, with these limits."""

    def start(tls=None, loop_factory=asyncio.new_event_loop, max_bytes=2**20, forwarded=None, **limits):
        return running(LimitSettings(**{"drain_s": 2, **limits}), tls, loop_factory, max_bytes, forwarded)

    return start


def _exchange(server, data, *, timeout=10.0, half_close=False):
    with server.connect(timeout) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return _read_to_end(connection)


def _read_to_end(connection):
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    return answer


@pytest.fixture
def exchange():
    """``exchange(server, bytes)``: send on a new connection, read until the server closes, return what came."""
    return _exchange


@pytest.fixture
def read_to_end():
    return _read_to_end


@pytest.fixture
def beside_a_black_hole(monkeypatch):
    """Given the port of a server at 127.0.0.1, localhost has two addresses: the first swallows what is sent to it."""
    name, asked = "localhost", socket.getaddrinfo
    taken = []

    def give(port):
        hole = socket.create_server(("127.0.0.2", port), backlog=0)
        taken.append(hole)
        for _ in range(3):  # more than may wait to be accepted: the system drops what comes behind them
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(hole.getsockname())
            taken.append(waiting)

    def resolve(host, port, *args, **more):
        if host != name:
            return asked(host, port, *args, **more)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield give
    for one in taken:
        one.close()


@pytest.fixture
def actor(tmp_path):
    """What a SOAP endpoint hands its requests to: it keeps what it saw, and answers as it is told."""
    return EchoActor(tmp_path)


@pytest.fixture
def endpoint(actor):
    """``actor`` served on a free port."""
    with served(actor) as it:
        yield it
