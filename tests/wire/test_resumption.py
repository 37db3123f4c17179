"""Sessions that are taken up again: as long as a full handshake would succeed, and no longer."""

import contextlib
import datetime as dt
import ssl

import pytest

from tests.wire.test_tls import ask, settings_for
from wire import resumption
from wire.reloading import listener_context
from wire.tls import client_context

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
GET = b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Client:
    """Keeps the session of each connection for the next one."""

    def __init__(self, pki, version, identity=None):
        self.context = client_context(settings_for(pki, identity or pki.client))
        self.context.maximum_version = self.context.minimum_version = version
        self.session = None

    def reused(self, server) -> bool:
        """Whether the session was taken up again; an OSError when nothing is answered."""
        with server.connect() as plain, self.context.wrap_socket(plain, session=self.session) as connection:
            connection.sendall(GET)
            if not connection.recv(65536):
                raise ConnectionError("closed without an answer")
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass
            self.session = connection.session
            return connection.session_reused


@pytest.fixture
def later(monkeypatch):
    """Lets the clock of what is looked at again be so many days ahead."""

    def shift(days):
        class Clock(dt.datetime):
            @classmethod
            def now(cls, tz=None):
                return dt.datetime.now(tz) + dt.timedelta(days=days)

        monkeypatch.setattr(resumption, "datetime", Clock)

    return shift


@pytest.fixture
def secured(pki, serve):
    def start(**more):
        return serve(tls=listener_context(settings_for(pki, pki.server, **more), "registry.tls"))

    return start


def test_a_session_of_tls_1_3_is_not_taken_up_again(pki, secured):
    with secured() as server:
        client = Client(pki, TLS13)
        assert [client.reused(server) for _ in range(3)] == [False, False, False]


def test_one_of_tls_1_2_is_while_its_certificate_lasts(pki, secured, later):
    with secured() as server:
        client = Client(pki, TLS12)
        assert [client.reused(server) for _ in range(3)] == [False, True, True]
        later(4)
        assert client.reused(server)
        later(6)  # certificates of the test last five days
        with pytest.raises(OSError):
            client.reused(server)
        server.wait_for(lambda: [one[2] for one in server.failures] == ["certificate expired"])


@pytest.mark.parametrize("check", ["leaf", "chain"])
def test_and_while_its_revocation_list_lasts(pki, secured, later, check):
    more = {"revocation_list": pki.revoke(days=1), "revocation_check": check}
    with secured(**more) as server:
        client = Client(pki, TLS12)
        assert [client.reused(server) for _ in range(2)] == [False, True]
        later(2)
        with pytest.raises(OSError):
            client.reused(server)
        server.wait_for(lambda: [one[2] for one in server.failures] == ["revocation list expired"])


def test_and_while_its_authority_lasts(pki, secured, later):
    until = pki.ca.x509.not_valid_after_utc
    late = pki.issue("outlives its authority", days=(until - dt.datetime.now(dt.UTC)).days + 30)
    with secured() as server:
        client = Client(pki, TLS12, late)
        assert [client.reused(server) for _ in range(2)] == [False, True]
        later((until - dt.datetime.now(dt.UTC)).days + 2)
        with pytest.raises(OSError):
            client.reused(server)


def test_files_that_openssl_alone_can_read_keep_nobody_from_serving(pki, secured, monkeypatch):
    def unreadable(path):
        raise ValueError(path)

    monkeypatch.setattr(resumption, "authority_ends", unreadable)
    monkeypatch.setattr(resumption, "list_ends", unreadable)
    with secured(revocation_list=pki.revoke(days=1)) as server:
        client = Client(pki, TLS12)
        assert [client.reused(server) for _ in range(2)] == [False, True]


def test_a_listed_peer_is_taken_up_again(pki, secured):
    with secured(peers=["CN=client-x,O=Hospital A"]) as server:
        client = Client(pki, TLS12)
        assert [client.reused(server) for _ in range(2)] == [False, True]
        assert ask(server, Client(pki, TLS12).context)
