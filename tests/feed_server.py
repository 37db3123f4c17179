"""An MLLP listener on a free loopback port, in a thread of its own, and the bytes of the messages tests send it."""

import asyncio
import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field

from wire.mllp import MllpLimits, serve_mllp

START, END = b"\x0b", b"\x1c\r"


@dataclass
class Served:
    """Where it listens; ``stop()`` drains it and returns; ``failed`` lists handshakes that failed."""

    port: int
    loop: asyncio.AbstractEventLoop
    ending: asyncio.Event
    thread: threading.Thread
    failed: list = field(default_factory=list)

    def stop(self):
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            self.loop.call_soon_threadsafe(self.ending.set)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def connect(self, tls: ssl.SSLContext | None = None, timeout=10):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")


@contextlib.contextmanager
def mllp_server(handler, *, limits=MllpLimits(), tls=None):  # noqa: B008 - frozen
    failed, ready, made = [], threading.Event(), {}
    listening = socket.create_server(("127.0.0.1", 0))

    async def serve():
        made.update(loop=asyncio.get_running_loop(), ending=asyncio.Event())
        await serve_mllp(
            *(handler, listening),
            limits=limits,
            tls=tls,
            stop=made["ending"],
            started=ready.set,
            handshake_failed=lambda *failure: failed.append(failure),
        )

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    served = Served(listening.getsockname()[1], made["loop"], made["ending"], thread, failed)
    try:
        yield served
    finally:
        served.stop()
        listening.close()


def read_frame(connection):
    """One answer without its blocks; empty when the peer closed first. Byte by byte: what follows is not ours."""
    got = b""
    while not got.endswith(END):
        block = connection.recv(1)
        if not block:
            assert not got, f"half an answer: {got!r}"
            return b""
        got += block
    assert got.startswith(START)
    return got[1:-2]


def ask(connection, message):
    connection.sendall(START + message + END)
    return read_frame(connection)


def msa(answer):
    """(MSA-1, MSA-2, MSA-3) of an answer."""
    segment = next(line for line in answer.split(b"\r") if line.startswith(b"MSA|"))
    fields = (segment.split(b"|") + [b""] * 3)[1:4]
    return tuple(value.decode("latin-1") for value in fields)


def adt(
    event="A01",
    pid3="PAT1^^^&1.3.6.1.4.1.21367.13.20.1000&ISO",
    *,
    control="M1",
    charset="",
    version="2.3.1",
    encoding="utf-8",
    extra="",
):
    lines = [
        f"MSH|^~\\&|ADT|HOSPITAL|XDS|AD|20261122120000||ADT^{event}^ADT_A01|{control}|P|{version}||||||{charset}",
        f"EVN|{event}|20261122120000",
        f"PID|||{pid3}||Müller^Änne||19700101|F",
        "PV1||I",
    ]
    return ("\r".join(lines) + "\r" + extra).encode(encoding)


def merge(survivor, *subsumed, control="M40", groups=()):
    """An A40; ``groups`` are further (survivor, subsumed) pairs."""
    segments = "".join(f"MRG|{one}\r" for one in subsumed)
    segments += "".join(f"PID|||{pid}\rMRG|{mrg}\r" for pid, mrg in groups)
    return adt("A40", pid3=survivor, control=control, extra=segments).replace(b"PV1||I\r", b"")


def unlink(one, other, control="M37"):
    """An A37 of the two."""
    return adt("A37", pid3=one, control=control, extra=f"PID|||{other}\r")


def link_change(new, local, previous, subsumed=None, control="M43"):
    """An A43: what ``previous`` has with the local id is of ``new``."""
    prior = f"{previous}~{subsumed}" if subsumed else previous
    return adt("A43", pid3=f"{new}~{local}", control=control, version="2.5", extra=f"MRG|{prior}\r")
