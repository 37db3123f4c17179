"""An ITI-41 that is sent piece by piece, as slow and as broken as a test wants it."""

import http.client
import re
import select
import socket

from tests.builders import provide_and_register_xml
from tests.repository.stand import ACTION, answered, envelope, multipart

__all__ = ["Upload", "packed"]


def packed(objects, documents):
    """(content type, body) of an MTOM request; ``documents`` are bytes by entry id."""
    cids = {symbol: f"{symbol}@source" for symbol in documents}
    body = provide_and_register_xml(objects, documents, content_ids=cids)
    root = envelope(ACTION + "ProvideAndRegisterDocumentSet-b", body)
    return multipart(root, {cids[symbol]: data for symbol, data in documents.items()})


class Upload:
    """One request on a connection of its own; ``length=False`` sends it chunked, ``declared`` says another length."""

    def __init__(self, address, objects, documents, *, length=True, declared=None):
        content_type, self.body = packed(objects, documents)
        self.sent, self._chunked = 0, not length
        host, port, path = re.fullmatch(r"http://([^:/]+):(\d+)(/.*)", address).groups()
        self.peer = socket.create_connection((host, int(port)), timeout=30)
        size = f"Content-Length: {len(self.body) if declared is None else declared}"
        framing = "Transfer-Encoding: chunked" if self._chunked else size
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
        self.peer.sendall(head.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.close()

    def send(self, size=None):
        """The next ``size`` bytes, by default all that is left."""
        piece = self.body[self.sent :][:size]
        self.sent += len(piece)
        if self._chunked:
            piece = b"%x\r\n" % len(piece) + piece + b"\r\n" + (b"0\r\n\r\n" if self.sent == len(self.body) else b"")
        self.peer.sendall(piece)
        return self

    @property
    def silent(self):
        """Whether nothing was answered so far and the connection stands."""
        return not select.select([self.peer], [], [], 0)[0]

    def answer(self):
        """What the service answered."""
        response = http.client.HTTPResponse(self.peer, method="POST")
        try:
            response.begin()
            return answered(response.status, response.getheader("content-type"), response.read())
        finally:
            response.close()
