"""The resources in a Bundle of JSON, byte by byte as they stand there: what is kept is what was sent. Pure."""

import re
from collections.abc import Iterator
from typing import Final

from atna.fhir_reading import BOM, DECODER

__all__ = ["entries_of"]

_BLANKS: Final = re.compile(r"[ \t\r\n]*")


def entries_of(data: bytes) -> list[bytes | None]:
    """The resource of each entry; ``None`` where an entry has none.

    ``data`` was read by ``read_json`` before, so it is an object of JSON, and no property in it stands twice.
    """
    text = data.removeprefix(BOM).decode()
    for name, start in _members(text, _behind_blanks(text, 0)):
        if name == "entry" and text[start] == "[":
            return [_resource(text, place) for place in _items(text, start)]
    return []


def _behind_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    assert found is not None
    return found.end()


def _behind(text: str, place: int, mark: str) -> int:
    """The place behind a mark that may stand there, and the blanks around it."""
    place = _behind_blanks(text, place)
    return _behind_blanks(text, place + 1) if text[place] == mark else place


def _members(text: str, place: int) -> Iterator[tuple[str, int]]:
    """(name, place of its value) of the object that begins there."""
    place = _behind_blanks(text, place + 1)
    while text[place] != "}":
        name, place = DECODER.raw_decode(text, place)
        place = _behind(text, place, ":")
        yield name, place
        place = _behind(text, DECODER.raw_decode(text, place)[1], ",")


def _items(text: str, place: int) -> Iterator[int]:
    """The place of each value of the list that begins there."""
    place = _behind_blanks(text, place + 1)
    while text[place] != "]":
        yield place
        place = _behind(text, DECODER.raw_decode(text, place)[1], ",")


def _resource(text: str, place: int) -> bytes | None:
    if text[place] == "{":
        for name, start in _members(text, place):
            if name == "resource" and text[start] == "{":
                return text[start : DECODER.raw_decode(text, start)[1]].encode()
    return None
