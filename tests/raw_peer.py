"""A peer that does what it wants with a connection: silent, dripping, flooding, or an answer as scripted."""

import contextlib
import socket
import threading
from contextlib import contextmanager

DRIP_S = 0.05


class Performer:
    """Lets ``play(connection, ended)`` perform on each connection, in a thread of its own; it may be exchanged."""

    def __init__(self, play) -> None:
        self.play = play
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._serve)]
        self.threads[0].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.threads.append(threading.Thread(target=self._perform, args=(connection,)))
                self.threads[-1].start()

    def _perform(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.play(connection, self.ended)

    def close(self) -> None:
        self.ended.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


@contextmanager
def performing(play):
    peer = Performer(play)
    try:
        yield peer
    finally:
        peer.close()


def request_of(connection) -> bytes:
    """Head and body of a request that has a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def drip(connection, ended, data: bytes) -> None:
    """A byte every 50 ms: each wait of the client is short, all together would take minutes."""
    for at in range(len(data)):
        connection.sendall(data[at : at + 1])
        if ended.wait(DRIP_S):
            return


def silent(connection, ended) -> None:
    """Takes the request and says nothing."""
    connection.recv(65536)
    ended.wait()


def dripping_headers(connection, ended) -> None:
    connection.recv(65536)
    drip(connection, ended, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000)
