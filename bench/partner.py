"""A Responding Gateway that answers every ITI-38 after a while: ``python -m bench.partner PORT HOME SECONDS``.

One ObjectRef of that home, made once. An asyncio server, so that its waiting costs the measured machine nothing.
"""

import asyncio
import re
import sys
import uuid

from ihe.ebrs import adhoc_query_response, object_ref
from ihe.soap import envelope
from ihe.transactions import ITI_38
from ihe.vocabulary import SUCCESS

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MESSAGE_ID = re.compile(rb"<[^<>]*MessageID[^<>]*>([^<]+)<")


class Partner:
    """One of them."""

    def __init__(self, home: str, seconds: float) -> None:
        self._seconds = seconds
        self._body = adhoc_query_response(SUCCESS, (), [object_ref(uuid.uuid4().urn, home)])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                asked = await reader.readexactly(int(length[1]) if length else 0)
                await asyncio.sleep(self._seconds)
                writer.write(self._answer(asked))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, asked: bytes) -> bytes:
        found = _MESSAGE_ID.search(asked)
        relates_to = found[1].decode() if found else None
        whole = envelope(ITI_38.response_action, self._body, message_id=uuid.uuid4().urn, relates_to=relates_to)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/soap+xml; charset=UTF-8\r\ncontent-length: %d\r\n\r\n"
        return head % len(whole) + whole


async def _main(port: int, home: str, seconds: float) -> None:
    server = await asyncio.start_server(Partner(home, seconds).serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
