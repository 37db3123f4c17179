"""What the SOAP client sends: the bytes of one POST, an envelope or an MTOM package."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ihe import mtom
from ihe.mtom import multipart_content_type, multipart_overhead, multipart_writer
from ihe.soap import CONTENT_TYPE

__all__ = ["OutPart", "Post", "as_envelope", "as_package"]

_AT_ONCE: Final = 2**18
_BLOCK: Final = 2**16
_ROOT_ID: Final = "root@dossier"


@dataclass(frozen=True, slots=True)
class OutPart:
    """An attachment to send. The body names it by ``ihe.mtom.xop_include(content_id)``.

    ``chunks`` is called once per request, when its turn comes; ``size`` in bytes, ``None`` if unknown (then the request
    is sent in chunks).
    """

    content_id: str
    content_type: str
    chunks: Callable[[], Iterator[bytes]]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """One request; ``only_asks``: it may reach the peer twice."""

    url: str
    headers: dict[str, str]
    content: bytes | Iterator[bytes]
    deadline: float | None
    only_asks: bool


def as_envelope(root: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a plain request."""
    return {"content-type": f"{CONTENT_TYPE}; charset=UTF-8"}, root


def as_package(root: bytes, parts: Sequence[OutPart]) -> tuple[dict[str, str], bytes | Iterator[bytes]]:
    """Headers and body of an MTOM request: at once when small, with its length when all sizes are known."""
    boundary = f"MIMEBoundary_{uuid.uuid4().hex}"
    outgoing = (mtom.OutPart(part.content_id, part.content_type, _when_asked(part)) for part in parts)
    content = multipart_writer([root], outgoing, boundary=boundary, start=_ROOT_ID)
    headers = {"content-type": multipart_content_type(boundary, start=_ROOT_ID)}
    sizes = [part.size for part in parts]
    if None in sizes:
        return headers, _gathered(content)
    names = [(part.content_id, part.content_type) for part in parts]
    total = len(root) + sum(size or 0 for size in sizes) + multipart_overhead(names, boundary=boundary, start=_ROOT_ID)
    if total <= _AT_ONCE:
        return headers, b"".join(content)
    return headers | {"content-length": str(total)}, _gathered(content)


def _when_asked(part: OutPart) -> Iterator[bytes]:
    yield from part.chunks()


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: each becomes a packet of its own."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
