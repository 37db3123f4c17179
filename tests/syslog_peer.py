"""A scripted receiver of syslog streams: plain or TLS, it ends each connection as its script says."""

import os
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress

from atna.iti20_record_audit_event import FrameDecoder, FrameError

__all__ = ["SyslogPeer"]


class SyslogPeer:
    """``script`` names the end of each connection in turn, and is ``"orderly"`` once it is used up; ``context`` makes TLS.

    orderly         reads to the sender's close, then closes
    abrupt N        reads N octets, then closes without a word, the rest unread
    reset N         reads N octets, then resets
    early N         reads N octets, closes its own side in order and goes on reading
    silent          reads everything and never closes
    ragged          reads to the sender's close, then closes beneath TLS only
    deaf            does not read at all
    talks           sends an octet, and goes away a little later
    slow            reads in small pieces, with pauses; orderly
    breaks TEXT     resets when TEXT has come; orderly without it

    ``messages`` are those of connections that ended orderly, ``read`` all the octets of each connection.
    """

    def __init__(self, *script, context=None, port=0):
        self.script = list(script)
        self.context = context
        self.messages = []
        self.read = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self):
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self):
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            end, _, argument = (self.script.pop(0) if self.script else "orderly").partition(" ")
            thread = threading.Thread(target=self._connection, args=(connection, end, argument))
            self._threads.append(thread)
            thread.start()

    def _connection(self, connection, end, argument):
        connection.settimeout(5)
        with suppress(OSError):
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
            with connection:
                self._talk(connection, end, argument)

    def _talk(self, connection, end, argument):
        data = bytearray()
        self.read.append(data)
        if end == "deaf":
            self._stop.wait(5)
        elif end in {"abrupt", "reset"}:
            self._read(connection, data, most=int(argument))
            if end == "reset":
                reset(connection)
        elif end == "early":
            self._read(connection, data, most=int(argument))
            beneath = socket.socket(fileno=os.dup(connection.fileno()))
            with beneath, suppress(ssl.SSLWantReadError):
                if self.context is None:
                    connection.shutdown(socket.SHUT_WR)
                else:
                    connection.settimeout(0)
                    connection.unwrap()
            self._stop.wait(0.5)
        elif end == "talks":
            connection.sendall(b"!")
            self._stop.wait(0.3)
        else:
            self._to_the_end(connection, data, end, argument)

    def _to_the_end(self, connection, data, end, argument):
        while chunk := connection.recv(20_000 if end == "slow" else 65536):
            data += chunk
            if end == "breaks" and argument.encode() in data:
                reset(connection)
                return
            if end == "slow":
                time.sleep(0.002)
        if end == "silent":
            self._stop.wait(5)
        if end == "ragged":
            return
        self.messages += frames(data)
        if self.context is not None:
            connection.unwrap()

    @staticmethod
    def _read(connection, data, most):
        while len(data) < most:
            chunk = connection.recv(most - len(data))
            if not chunk:
                return
            data += chunk


def frames(data):
    decoder = FrameDecoder(10**8)
    with suppress(FrameError):
        return decoder.feed(bytes(data))
    return []


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
