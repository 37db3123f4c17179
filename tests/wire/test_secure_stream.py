"""Ends of a connection, over TLS and plain TCP: each side's own, in order, broken, and after the last octet was read."""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress

import pytest

from tests.certificates import issue
from tests.syslog_sender import SyslogSender, tls_context
from wire.secure_stream import PlainStream, SecureStream, TruncatedStream
from wire.settings import TlsSettings
from wire.tls import server_context


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return issue(tmp_path_factory.mktemp("certs"))


@pytest.fixture(params=["tls", "tcp"])
def talk(request, certs):
    return conversation(certs, request.param == "tls")


def conversation(certs, secure):
    """``run(story, peer)``: the coroutine ``story(stream)`` on our side, ``peer(sender)`` in a thread on the other."""
    tls = TlsSettings(certificate=certs / "server.crt", key=certs / "server.key", ca=certs / "ca.crt")

    def run(story, peer):
        said = []

        async def side():
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]

                def other():
                    with SyslogSender(port, tls_context(certs, "client") if secure else None) as sender:
                        said.append(peer(sender))

                thread = threading.Thread(target=other)
                thread.start()
                listener.setblocking(False)
                sock, _address = await asyncio.get_running_loop().sock_accept(listener)
                sock.setblocking(False)
                stream = SecureStream(sock, server_context(tls)) if secure else PlainStream(sock)
                if secure:
                    await stream.handshake()
                try:
                    return await story(stream)
                finally:
                    stream.abort()
                    await asyncio.to_thread(thread.join)

        return asyncio.run(side()), said[0]

    return run


async def everything(stream):
    got = bytearray()
    while data := await stream.receive():
        got += data
    return bytes(got)


def test_an_end_in_order_comes_after_the_last_octet_and_is_answered_only_when_we_say_so(talk):
    answered = []

    async def story(stream):
        got = await everything(stream)
        await asyncio.sleep(0.3)
        early = list(answered)
        await stream.confirm()
        return got, early

    def peer(sender):
        sender.write(b"x" * 300_000)
        answered.append(sender.end())

    assert talk(story, peer)[0] == (b"x" * 300_000, [])
    assert answered == [True]


def test_a_connection_that_is_broken_is_no_end_in_order(talk):
    async def story(stream):
        return await everything(stream)

    assert talk(story, lambda sender: (sender.write(b"abc"), sender.end())[1]) == (b"abc", False)


def test_an_abort_while_the_peer_waits_is_seen_as_one(talk):
    async def story(stream):
        await stream.receive()
        stream.abort()

    assert talk(story, lambda sender: (sender.write(b"abc"), sender.broken())[1]) == (None, True)


@pytest.mark.parametrize(("secure", "end"), [(True, TruncatedStream), (False, None)], ids=["tls", "tcp"])
def test_the_end_of_tcp_is_no_end_of_tls(certs, secure, end):
    async def story(stream):
        try:
            await everything(stream)
        except TruncatedStream as error:
            return type(error)

    def peer(sender):
        sender.write(b"abc")
        with socket.socket(fileno=sender.socket.detach()) as beneath:
            beneath.shutdown(socket.SHUT_WR)

    assert conversation(certs, secure)(story, peer)[0] is end


def test_octets_that_violate_tls_are_no_end_and_what_came_before_is_given(certs):
    async def story(stream):
        got = bytearray()
        try:
            while data := await stream.receive():
                got += data
        except ssl.SSLError:
            return bytes(got)

    def peer(sender):
        sender.write(b"abc")
        with socket.socket(fileno=sender.socket.detach()) as beneath, suppress(OSError):
            beneath.sendall(b"\x17\x03\x03\x00\x20" + b"y" * 32)
            beneath.settimeout(10)
            while beneath.recv(4096):  # session tickets left unread would make its close a reset
                pass

    assert conversation(certs, secure=True)(story, peer)[0] == b"abc"
