"""The MLLP client: what comes back, and whether a failure means that nothing was sent."""

import socket
import threading

import pytest

from tests.feed_server import mllp_server
from wire.mllp import MllpLimits
from wire.mllp_client import MllpClient, NoAnswer, NotSent, feed_address


def echo(message, _caller):
    return message


def test_messages_and_answers_on_one_connection():
    callers = []

    def handler(message, caller):
        callers.append(caller)
        return message

    with mllp_server(handler) as server, MllpClient("127.0.0.1", server.port) as client:
        assert [client.send(name) for name in (b"a", b"b" * 100_000)] == [b"a", b"b" * 100_000]


def test_a_connection_the_peer_closed_in_between_is_opened_again():
    with mllp_server(echo, limits=MllpLimits(idle_timeout_s=0.1)) as server:
        with MllpClient("127.0.0.1", server.port) as client:
            assert client.send(b"a") == b"a"
            assert client._socket.recv(1, socket.MSG_PEEK) == b""  # waits until the peer has closed
            assert client.send(b"b") == b"b"


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with MllpClient("127.0.0.1", port) as client, pytest.raises(NotSent, match="can't be reached"):
        client.send(b"a")


@pytest.fixture
def peer():
    """A peer that reads once, then does what the test says."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = []

        def serve(act):
            def run():
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    act(connection)

            threads.append(threading.Thread(target=run))
            threads[-1].start()
            return MllpClient("127.0.0.1", listening.getsockname()[1], answer_timeout_s=0.5)

        yield serve
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"", "closed the connection"), (b"\x0bhalf", "closed"), (b"\x0bone\x0btwo\x1c\r", "not whole")],
)
def test_no_answer_or_half_of_one(peer, answer, reason):
    with peer(lambda connection: connection.sendall(answer)) as client, pytest.raises(NoAnswer, match=reason):
        client.send(b"a")


def test_a_peer_that_is_silent_or_talks_nonsense(peer):
    done = threading.Event()
    with peer(lambda _: done.wait(10)) as client, pytest.raises(NoAnswer, match="no answer"):
        client.send(b"a")
    done.set()
    with peer(lambda connection: connection.sendall(b"x" * 100_000)) as client:
        with pytest.raises(NoAnswer):
            client.send(b"a")


@pytest.mark.parametrize("url", ["http://h:1", "mllp://h", "mllp://:1", "h:1", ""])
def test_an_address_that_is_none(url):
    with pytest.raises(ValueError, match="mllp://host:port"):
        feed_address(url)


def test_addresses():
    assert feed_address("mllp://127.0.0.1:8011") == ("127.0.0.1", 8011, False)
    assert feed_address("mllps://[::1]:2575") == ("::1", 2575, True)
