"""An HTTP proxy before a real S3 server that loses answers, cuts transfers and answers errors, as its ``rule`` says.

The rule is called with each request and gives what happens: None (passed on), or one of the functions here.
"""

import contextlib
import http.client
import socket
import socketserver
import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Asked:
    """A request: ``kind`` in S3's words, and which one of its kind it is (from 1)."""

    method: str
    target: str
    kind: str
    number: int
    head: bytes
    body: bytes


class Cut(Exception):
    """Closes both connections."""


def lose_answer(proxy, asked, upstream):
    """The server does it; nobody hears of it."""
    proxy.forward(asked, upstream)
    raise Cut


def cut_request(proxy, asked, upstream):
    """The server gets half of the body."""
    upstream.sendall(asked.head + asked.body[: len(asked.body) // 2])
    raise Cut


def cut_answer(proxy, asked, upstream, after):
    """The client gets the head and ``after`` bytes of the body."""
    head, body = proxy.forward(asked, upstream)
    return head, body[:after], True


def refuse(proxy, asked, upstream, status, code=None):
    """An error without the server; without a code as something before the server would answer."""
    if code is None:
        body, kind = b"<html>no", b"text/html"
    else:
        body, kind = f"<Error><Code>{code}</Code><Message>AKIA secret</Message></Error>".encode(), b"application/xml"
    head = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
    return head, b"" if asked.method == "HEAD" else body


def answer(proxy, asked, upstream, body):
    """A 200 that says whatever it likes."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head, body


def hang(proxy, asked, upstream):
    """No answer before the proxy ends."""
    proxy.ended.wait(30)
    raise Cut


def do(action, **how):
    return partial(action, **how)


class Proxy:
    """``rule`` may be changed at any time; ``asked`` are the requests so far."""

    def __init__(self, endpoint):
        host, port = endpoint.split(":")
        self.upstream = (host, int(port))
        self.rule = lambda asked: None
        self.asked = []
        self.ended = threading.Event()
        self._counts = Counter()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self):
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def seen(self, head, body):
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        with self._lock:
            kind = _kind(method, target)
            self._counts[kind] += 1
            asked = Asked(method, target, kind, self._counts[kind], head, body)
            self.asked.append(asked)
        return asked

    def forward(self, asked, upstream):
        upstream.sendall(asked.head + asked.body)
        response = http.client.HTTPResponse(upstream, method=asked.method)
        response.begin()
        body = response.read()
        lines = [f"HTTP/1.1 {response.status} {response.reason}"]
        lines += [f"{k}: {v}" for k, v in response.getheaders() if k.lower() != "transfer-encoding"]
        if response.getheader("content-length") is None and response.status != 204:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode(), body


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        with contextlib.suppress(Cut, OSError, http.client.HTTPException):
            while head := self._head():
                self._one(head)

    def _head(self):
        lines = []
        while (line := self.rfile.readline()) not in {b"", b"\r\n"}:
            lines.append(line)
        return b"".join(lines) + b"\r\n" if lines else b""

    def _one(self, head):
        names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = self.rfile.read(int(names.get(b"content-length", 0)))
        asked = self.proxy.seen(head, body)
        action = self.proxy.rule(asked)
        with contextlib.closing(socket.create_connection(self.proxy.upstream)) as upstream:
            out = self.proxy.forward(asked, upstream) if action is None else action(self.proxy, asked, upstream)
        self.wfile.write(out[0] + out[1])
        if len(out) == 3:
            raise Cut


def _kind(method, target):
    _path, _, query = target.partition("?")
    if method == "POST":
        return "create" if query.startswith("uploads") else "complete"
    if "uploadId=" in query:
        return "part" if method == "PUT" else "abort"
    if method == "GET" and ("list-type" in query or "versions" in query or "uploads" in query or "versioning" in query):
        return "list"
    return {"PUT": "put", "GET": "get", "HEAD": "head", "DELETE": "delete"}[method]


@contextlib.contextmanager
def proxied(server):
    proxy = Proxy(server.endpoint)
    try:
        yield proxy
    finally:
        proxy.close()
