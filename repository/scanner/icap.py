"""A scanner behind ICAP (RFC 3507): the document is the body of an HTTP response (RESPMOD) or request (REQMOD).

RESPMOD is used where the service offers it, else REQMOD; OPTIONS tells. 204 "no modification" is clean. An answer 200
is a changed message: it names the malware in one of the headers that scanners use, or it holds an HTTP error page in
place of the document. A 200 that says neither is no verdict: the document counts as not scanned, never as clean.
No preview is sent: a service that decides by the first bytes that it does not look at a document would say "clean".
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from repository.scanner.address import ScannerAddress
from repository.scanner.connection import Conversation
from repository.scanner.protocol import ScanFailed, malware

__all__ = ["Icap"]

LONGEST_HEAD: Final = 16_384
_THREAT: Final = re.compile(r"Threat=([^;]*)")
_FOUND: Final = ("x-infection-found", "x-virus-id", "x-violations-found", "x-virus-name")
"""Names scanners give what they found; draft-stecher-icap-subid and what followed its example."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]


class Icap:
    """``repository.scanner.protocol.Scanner`` of an ICAP service; a connection for each document."""

    scans: Final = True

    def __init__(self, address: ScannerAddress, timeout_s: float) -> None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._address: Final = address
        self._timeout_s: Final = timeout_s
        self._host: Final = f"{host}:{address.port}"
        self._url: Final = f"icap://{self._host}/{address.service}"
        self._method: str | None = None

    def scan(self, blocks: Iterable[bytes], size: int) -> str | None:
        """See ``Scanner``."""
        method = self._method or self._offered()
        try:
            with Conversation(self._address, self._timeout_s) as icap:
                going = icap.send(self._head(method, size))
                for piece in _chunks(blocks):
                    going = going and icap.send(piece)
                    if not going:
                        break
                verdict = _verdict(icap, _answer(icap))
        except ScanFailed:
            self._method = None  # asked anew: the service may be another one when it comes back
            raise
        self._method = method
        return verdict

    def check(self) -> bool:
        """Whether the service is there and takes documents."""
        return bool(self._offered())

    def _offered(self) -> str:
        with Conversation(self._address, self._timeout_s) as icap:
            icap.send(self._request("OPTIONS", "Encapsulated: null-body=0"))
            answer = _answer(icap)
        offered = {name.strip().upper() for name in answer.headers.get("methods", "").split(",")}
        if answer.status == 200:
            for method in ("RESPMOD", "REQMOD"):
                if method in offered:
                    return method
        raise ScanFailed(f"the malware scanner offers no service ({answer.status})", again=True)

    def _request(self, method: str, *headers: str) -> bytes:
        lines = (f"{method} {self._url} ICAP/1.0", f"Host: {self._host}", "User-Agent: Dossier", *headers, "", "")
        return "\r\n".join(lines).encode("ascii")

    def _head(self, method: str, size: int) -> bytes:
        """The ICAP head and the HTTP head of a message whose body is the document; nothing in it is of the sender."""
        told = f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        if method == "RESPMOD":
            asked = "GET /document HTTP/1.1\r\nHost: dossier.invalid\r\n\r\n"
            given = f"HTTP/1.1 200 OK\r\n{told}"
            offsets = f"req-hdr=0, res-hdr={len(asked)}, res-body={len(asked) + len(given)}"
            http = asked + given
        else:
            http = f"POST /document HTTP/1.1\r\nHost: dossier.invalid\r\n{told}"
            offsets = f"req-hdr=0, req-body={len(http)}"
        return self._request(method, "Allow: 204", f"Encapsulated: {offsets}") + http.encode("ascii")


def _chunks(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The body of an ICAP message is always chunked (RFC 3507: 4.4.1)."""
    for block in blocks:
        if block:
            yield b"%x\r\n" % len(block) + block + b"\r\n"
    yield b"0\r\n\r\n"


def _answer(icap: Conversation) -> _Answer:
    lines = icap.read_until(b"\r\n\r\n", LONGEST_HEAD).decode("latin-1").split("\r\n")
    words = lines[0].split(None, 2)
    if len(words) < 2 or not words[0].startswith("ICAP/") or not re.fullmatch(r"[1-5][0-9]{2}", words[1]):
        raise ScanFailed("the malware scanner gave no ICAP answer", again=True)
    pairs = (line.partition(":") for line in lines[1:])
    return _Answer(int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs})


def _verdict(icap: Conversation, answer: _Answer) -> str | None:
    if answer.status == 204:
        return None
    if answer.status not in {200, 201}:
        raise ScanFailed(f"the malware scanner answered {answer.status}", again=answer.status >= 500)
    told = next((answer.headers[name] for name in _FOUND if answer.headers.get(name)), None)
    if told is not None:
        threat = _THREAT.search(told)
        return malware(threat.group(1).strip() if threat else told[:100])
    status_line = icap.read_until(b"\r\n", LONGEST_HEAD).decode("latin-1")
    if re.match(r"HTTP/[0-9.]+ [45][0-9]{2}\b", status_line):
        return "blocked by the scanner"
    raise ScanFailed("the malware scanner changed the document without saying why", again=False)
