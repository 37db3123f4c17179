"""The objects of an AdhocQueryResponse as the bytes they came in, for whoever hands them on unread (ITI TF-2: 3.18).

An answer of 2,000 objects has 15 MB, and as a tree five times as much; a gateway changes one attribute of each. This is
for the answer of a registry of one's own, which is trusted to be well-formed: only the message around the objects is
parsed. What is written in any other way than ours (prefix ``rim``, no comments, no CDATA, a home already) is not cut.
"""

import re
from typing import Final

from ihe import vocabulary as v

__all__ = ["cut", "with_home"]

_START, _END = b"<rim:RegistryObjectList>", b"</rim:RegistryObjectList>"
_OBJECTS: Final = (b"<rim:ExtrinsicObject", b"<rim:RegistryPackage", b"<rim:Association", b"<rim:ObjectRef")
_RIM: Final = f'xmlns:rim="{v.RIM}"'.encode()
_DECLARED: Final = re.compile(rb"xmlns(?::([^\s=]+))?\s*=")
_KNOWN: Final = frozenset({b"s", b"a", b"query", b"rs", b"rim"})
# A "<" that begins anything but an element with the prefix rim, or an object whose name no blank follows.
_STRANGE: Final = re.compile(
    rb"<(?!/rim:|rim:(?!(?:ExtrinsicObject|RegistryPackage|Association|ObjectRef)(?! )|RegistryObjectList))"
)


def cut(message: bytes) -> tuple[bytes, bytes] | None:
    """The message without its objects, and these; ``None`` where the bytes do not say for certain which they are.

    Without comments, CDATA and processing instructions a ``<`` begins a tag, wherever it stands.
    """
    begin, end = message.find(_START), message.rfind(_END)
    if begin < 0 or end < begin:
        return None
    head, objects = message[: begin + len(_START)], message[begin + len(_START) : end]
    frame = head + message[end:]
    if b"<!" in frame or b"<?" in frame or not {found or b"" for found in _DECLARED.findall(head)} <= _KNOWN:
        return None
    if message.count(b"xmlns:rim=") != message.count(_RIM) or b"home=" in objects:
        return None
    return None if _STRANGE.search(objects) else (frame, objects)


def with_home(objects: bytes, home: str) -> bytes:
    """What ``cut`` gave, each object and reference with this home (an OID URN); each needs what ``rim`` means."""
    at = f' home="{home}" '.encode()
    for name in _OBJECTS:
        objects = objects.replace(name + b" ", name + at)
    return objects
