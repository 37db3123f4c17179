"""One conversation with a scanner on a socket: every step within one deadline, every failure a ScanFailed."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from repository.scanner.address import ScannerAddress
from repository.scanner.protocol import ScanFailed

__all__ = ["Conversation"]

READ_BYTES: Final = 4096


class Conversation:
    """Connects at once. ``timeout_s`` is for all of it, from the connection to the last byte read.

    A scanner may answer before it was sent everything (it has found something, or takes no more): ``send`` says so, and
    the answer is there to be read although the connection may be closed already.
    """

    def __init__(self, address: ScannerAddress, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._deadline: Final = time.monotonic() + timeout_s
        self._read = b""
        with self._told():
            self._socket: Final = self._connected(address)

    def _connected(self, address: ScannerAddress) -> socket.socket:
        if not address.path:
            return socket.create_connection((address.host, address.port), timeout=self._left())
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(self._left())
            connection.connect(address.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            text = f"the malware scanner did not answer within {self._timeout_s:g} s"
            raise ScanFailed(text, again=True) from error
        except OSError as error:
            raise ScanFailed(
                f"the malware scanner cannot be asked: {error.strerror or type(error).__name__}", again=True
            ) from error

    def send(self, data: bytes) -> bool:
        """Send it all; False: the scanner has begun to answer or wants no more, read what it says."""
        with self._told():
            if select.select([self._socket], [], [], 0)[0]:
                return False
            self._socket.settimeout(self._left())
            try:
                self._socket.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True

    def read_until(self, end: bytes, most: int) -> bytes:
        """Bytes up to and without ``end``, which may be missing if the scanner closes instead."""
        while end not in self._read:
            with self._told():
                self._socket.settimeout(self._left())
                piece = self._socket.recv(READ_BYTES)
            self._read += piece
            if not piece or len(self._read) > most:
                break
        found, _, self._read = self._read.partition(end)
        return found
