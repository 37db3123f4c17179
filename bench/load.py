"""A load generator: keeps some connections busy with prepared messages for some seconds, and counts.

Run as ``python -m bench.load FILE``: FILE is a pickled Plan; prints one JSON object. Raw sockets and threads: about
40 microseconds of CPU a request, so that what is measured is the server.
"""

import json
import pickle
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MARK = b"@UNIQUE-NUMBER@"
"""Replaced in every message by as many digits that are never used again."""


@dataclass(frozen=True)
class Plan:
    """What to send: ``messages`` are HTTP bodies in turn; ``head`` is the request head without Content-Length."""

    port: int
    head: bytes
    messages: tuple[bytes, ...]
    connections: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """``p50`` and ``p99`` in milliseconds; ``bytes`` received per request."""

    rps: float
    requests: int
    failures: int
    p50: float
    p99: float
    bytes: int


def soap_head(path: str, content_type: str = "application/soap+xml; charset=UTF-8") -> bytes:
    """Head of a POST, kept alive."""
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n".encode()


def run(plan: Plan, processes: int = 2) -> Result:
    """Run the plan in some processes, its connections divided among them."""
    each = Plan(plan.port, plan.head, plan.messages, max(1, plan.connections // processes), plan.seconds)
    with tempfile.NamedTemporaryFile() as file:
        pickle.dump(each, file)
        file.flush()
        command = [sys.executable, "-m", "bench.load", file.name]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
        parts = [json.loads(process.communicate()[0]) for process in running]
    times = sorted(t for part in parts for t in part["times"])
    requests = len(times)
    failures = sum(part["failures"] for part in parts)
    return Result(
        rps=requests / plan.seconds,
        requests=requests,
        failures=failures,
        p50=1000 * times[len(times) // 2] if times else 0.0,
        p99=1000 * times[int(len(times) * 0.99)] if times else 0.0,
        bytes=sum(part["bytes"] for part in parts) // max(1, requests),
    )


def in_turn(plans: Sequence[Plan], seconds: float) -> list[float]:
    """p50 of each plan in milliseconds, one connection each, one request to each in turn.

    What else the machine does meets all of them alike, so the ratio of two holds where a rate would not. RuntimeError
    when a request fails.
    """
    links = [socket.create_connection(("127.0.0.1", plan.port)) for plan in plans]
    times: list[list[float]] = [[] for _ in plans]
    until, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < until or not times[0]:
        for plan, link, taken in zip(plans, links, times, strict=True):
            message = plan.messages[number % len(plan.messages)].replace(MARK, b"%015d" % secrets.randbelow(10**15))
            whole = plan.head + b"Content-Length: %d\r\n\r\n" % len(message) + message
            began = time.perf_counter()
            link.sendall(whole)
            answer = _answer(link)
            taken.append(time.perf_counter() - began)
            if b"ResponseStatusType:Success" not in answer:
                raise RuntimeError(f"a request failed: {answer[:2000]!r}")
        number += 1
    for link in links:
        link.close()
    return [1000 * statistics.median(taken) for taken in times]


class _Connection(threading.Thread):
    def __init__(self, plan: Plan, number: int, until: float) -> None:
        super().__init__()
        self.plan, self.number, self.until = plan, number, until
        self.times: list[float] = []
        self.failures = 0
        self.bytes = 0

    def run(self) -> None:
        plan = self.plan
        link = socket.create_connection(("127.0.0.1", plan.port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        heads = [plan.head + b"Content-Length: %d\r\n\r\n" % len(message) for message in plan.messages]
        at = self.number
        while True:
            began = time.perf_counter()
            if began > self.until:
                break
            at = (at + 1) % len(plan.messages)
            message = plan.messages[at]
            if MARK in message:
                message = message.replace(MARK, b"%015d" % secrets.randbelow(10**15))
            link.sendall(heads[at] + message)
            answer = _answer(link)
            self.times.append(time.perf_counter() - began)
            self.bytes += len(answer)
            self.failures += b"ResponseStatusType:Success" not in answer
        link.close()


def _answer(link: socket.socket) -> bytes:
    data = link.recv(262_144)
    while b"\r\n\r\n" not in data:
        data += _more(link)
    head, _, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    pieces, have = [body], len(body)
    if length is None:  # chunked: whole when the last chunk has come
        while not pieces[-1].endswith(b"0\r\n\r\n"):
            pieces.append(_more(link))
        return b"".join(pieces)
    while have < int(length.group(1)):
        more = _more(link)
        pieces.append(more)
        have += len(more)
    return b"".join(pieces)


def _more(link: socket.socket) -> bytes:
    data = link.recv(262_144)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def main() -> None:
    plan: Plan = pickle.loads(Path(sys.argv[1]).read_bytes())
    until = time.perf_counter() + plan.seconds
    threads = [_Connection(plan, number, until) for number in range(plan.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        json.dumps(
            {
                "times": [t for thread in threads for t in thread.times],
                "failures": sum(thread.failures for thread in threads),
                "bytes": sum(thread.bytes for thread in threads),
            }
        )
    )


if __name__ == "__main__":
    # pickle names the class by module: make "bench.load" and "__main__" one
    from bench import load  # noqa: PLW0406 - as said

    load.main()
