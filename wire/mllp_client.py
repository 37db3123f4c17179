"""The sending side of MLLP: one connection, one message at a time, its answer awaited (ITI TF-2: 3.8).

Blocking sockets. What went wrong tells the caller whether sending again is safe: after NotSent nothing reached the
peer; after NoAnswer the message may have been handled (a feed may be repeated with the same MSH-10 in any case).
"""

import socket
import ssl
import time
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from wire.mllp_framing import Framer, Garbage, Whole, frame
from wire.tls import reason_of

__all__ = ["MllpClient", "MllpFailed", "NoAnswer", "NotSent", "feed_address"]

MAX_ANSWER_BYTES: Final = 2**20
READ_BYTES: Final = 65_536


class MllpFailed(Exception):  # noqa: N818 - an outcome
    """The peer did not answer; the text says why, in a line for the user."""


class NotSent(MllpFailed):
    """Nothing reached the peer."""


class NoAnswer(MllpFailed):
    """The message was sent, wholly or in part; no readable answer came."""


def feed_address(url: str) -> tuple[str, int, bool]:
    """``mllp://host:port`` or ``mllps://host:port`` as host, port, whether TLS is asked for; ValueError otherwise."""
    parts = urlsplit(url)
    if parts.scheme not in {"mllp", "mllps"} or not parts.hostname or parts.port is None:
        raise ValueError(f"{url!r} is no feed address: mllp://host:port or mllps://host:port is expected")
    return parts.hostname, parts.port, parts.scheme == "mllps"


class MllpClient:
    """Use as a context manager; connects at the first ``send`` and again after a failure.

    ``tls`` is a client's context, ``None`` for plain TCP. Times in seconds: ``connect_timeout_s`` with the handshake,
    ``answer_timeout_s`` from the first byte sent to the last byte received.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        connect_timeout_s: float = 10,
        answer_timeout_s: float = 60,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connect_timeout_s = connect_timeout_s
        self._answer_timeout_s = answer_timeout_s
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; ``send`` opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, message: bytes) -> bytes:
        """The peer's answer to ``message``, both without their blocks. Raises NotSent or NoAnswer."""
        if self._socket is not None and self._ended(self._socket):
            self.close()  # the peer closed it between two messages
        if self._socket is None:
            self._socket = self._connect()
        deadline = time.monotonic() + self._answer_timeout_s
        try:
            self._socket.settimeout(self._answer_timeout_s)
            self._socket.sendall(frame(message))
            return self._receive(self._socket, deadline)
        except (OSError, Garbage) as error:  # ssl.SSLError and TimeoutError are OSErrors
            self.close()
            raise NoAnswer(f"no answer from {self._name}: {_reason(error)}") from error
        except NoAnswer:
            self.close()
            raise

    @property
    def _name(self) -> str:
        return f"{self._host}:{self._port}"

    def _connect(self) -> socket.socket:
        try:
            plain = socket.create_connection((self._host, self._port), timeout=self._connect_timeout_s)
        except OSError as error:
            raise NotSent(f"{self._name} can't be reached: {_reason(error)}") from error
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._host)
        except OSError as error:
            plain.close()
            raise NotSent(f"no TLS with {self._name}: {_reason(error)}") from error

    @staticmethod
    def _ended(connection: socket.socket) -> bool:
        """Whether the peer has closed, seen without waiting."""
        connection.settimeout(0)
        try:
            return not connection.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True

    def _receive(self, connection: socket.socket, deadline: float) -> bytes:
        framer = Framer(MAX_ANSWER_BYTES)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoAnswer(f"no answer from {self._name} in {self._answer_timeout_s:g} seconds")
            connection.settimeout(left)
            data = connection.recv(READ_BYTES)
            if not data:
                raise NoAnswer(f"{self._name} closed the connection without an answer")
            for one in framer.feed(data):
                if one.whole is not Whole.YES:
                    raise NoAnswer(f"the answer from {self._name} is not whole")
                return one.message


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return reason_of(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
