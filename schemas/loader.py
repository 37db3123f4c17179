"""Our schema and WSDL files: compiled for checking, and as they are served at ``?wsdl`` and ``?xsd=NAME``.

The WSDL files import the strict schemas by relative path, so that they can also be read where they lie; what is served
has these paths and the soap:address replaced (WSDL 1.1: 3.8; SOAP 1.2 binding for WSDL 1.1).
"""

import re
import threading
from functools import cache
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from lxml import etree

# libxml2 fills the table of XSD's built-in types at the first compilation, without a lock: two threads of a process
# that has just started would leave it damaged, and every later compilation fails or the process crashes.
_compiling: Final = threading.Lock()

_FILES: Final = Path(__file__).parent
_ACTORS: Final = ("registry", "repository", "responding_gateway", "initiating_gateway")
_PUBLISHED: Final = ("xml.xsd", "rim.xsd", "rs.xsd", "lcm.xsd", "query.xsd", "xdsb.xsd", "rmd.xsd", "hl7v3.xsd")
_LOCATION: Final = re.compile(rb'schemaLocation="(?:strict/)?([a-z0-9]+\.xsd)"')
_ADDRESS: Final = re.compile(rb'(<soap12:address location=)"[^"]*"')


def compiled(kind: str) -> etree.XMLSchema:
    """Compile the ``lenient`` or ``strict`` schemas, or that of ``audit`` messages (2 ms).

    One object per thread: it keeps its last errors.
    """
    with _compiling:
        return etree.XMLSchema(file=str(_FILES / kind / "all.xsd"))


def wsdl(actor: str, address: str) -> bytes:
    """The WSDL of the actor ``registry``, ``repository``, ``responding_gateway`` or ``initiating_gateway``.

    ``address`` is the endpoint's URL without query; the schemas are imported from ``address?xsd=NAME``. Raises
    ValueError for another actor.
    """
    if actor not in _ACTORS:
        raise ValueError(f"no WSDL for {actor!r}")
    served = _with_locations(_read(f"{actor}.wsdl"), address)
    quoted = _quoted(address)
    return _ADDRESS.sub(lambda found: found[1] + b'"' + quoted + b'"', served)


def xsd(name: str, base_address: str) -> bytes | None:
    """The strict schema ``name``, e.g. ``rim.xsd``, importing from ``base_address?xsd=NAME``; ``None``: no such."""
    if name not in _PUBLISHED:
        return None
    return _with_locations(_read(f"strict/{name}"), base_address)


@cache
def _read(name: str) -> bytes:
    return (_FILES / name).read_bytes()


def _with_locations(text: bytes, address: str) -> bytes:
    base = _quoted(address)
    return _LOCATION.sub(lambda found: b'schemaLocation="' + base + b"?xsd=" + found[1] + b'"', text)


def _quoted(address: str) -> bytes:
    return escape(address, {'"': "&quot;"}).encode()
