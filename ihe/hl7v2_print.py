"""Writing HL7 v2: acknowledgements to a feed, and the feed messages of our own command line (ITI TF-2: 3.8)."""

import re
from typing import Final

from ihe.hl7v2 import CONTROL, AckCode, Demographics, Header, Identifier, Problem

__all__ = ["print_acknowledgement", "print_feed"]

VERSION: Final = "2.3.1"
ENCODING_CHARACTERS: Final = "^~\\&"

_VERSION: Final = re.compile(r"2\.[0-9](\.[0-9])?")


def _escape(text: str) -> str:
    marks = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}
    return "".join(marks.get(character, character) for character in CONTROL.sub(" ", text))


def _fields(*values: str) -> str:
    return "|".join(values).rstrip("|")


def print_acknowledgement(
    to: Header, *, control_id: str, time: str, problem: Problem | None = None, text: str | None = None
) -> bytes:
    """ACK to the message whose header is ``to`` (ITI TF-2: 3.8.4.1.3; HL7 2.3.1: 2.13.1): AA, or what ``problem`` says.

    ``control_id`` is the new message's own MSH-10, ``time`` its MSH-7 (HL7 TS). Version, character set and event are
    those of the request. ERR-1 is written as in 2.3.1; from 2.5 on its successors are filled as well.
    """
    version = to.version if to.version and _VERSION.fullmatch(to.version) else VERSION
    event = _escape(to.event) if to.event else ""
    msh = _fields(
        *("MSH", ENCODING_CHARACTERS),
        *(_escape(name or "") for name in (to.receiving_application, to.receiving_facility)),
        *(_escape(name or "") for name in (to.sending_application, to.sending_facility)),
        *(time, "", f"ACK^{event}^ACK" if event else "ACK", control_id, _escape(to.processing_id or "P"), version),
        *("", "", "", "", "", _escape(to.charset or "")),
    )
    code = problem.ack if problem is not None else AckCode.ACCEPT
    told = problem.text if problem is not None else text
    segments = [msh, _fields("MSA", code, _escape(to.control_id or ""), _escape(told or ""))]
    if problem is not None:
        segments.append(_error(problem, version))
    return ("\r".join(segments) + "\r").encode(to.encoding, "replace")


def _error(problem: Problem, version: str) -> str:
    place = [*problem.location.split("^"), "", "", ""][:3]
    first = "^".join((*place, f"{problem.code}&{problem.code.text}&HL70357"))
    if version < "2.5":
        return _fields("ERR", first)
    coded = f"{problem.code}^{problem.code.text}^HL70357"
    return _fields("ERR", first, "^".join(place).rstrip("^"), coded, "E", "", "", "", _escape(problem.text))


def print_feed(
    event: str,
    patient: Identifier,
    demographics: Demographics,
    *,
    control_id: str,
    time: str,
    sender: tuple[str, str] = ("DOSSIER", "DOSSIER"),
    receiver: tuple[str, str] = ("REGISTRY", "DOSSIER"),
) -> bytes:
    """ADT^A01, A04, A05 or A08 in version 2.3.1 and UTF-8 (ITI TF-2: 3.8.4.1.2); pairs are (application, facility)."""
    names = (_escape(name) for name in (*sender, *receiver))
    msh = _fields(
        *("MSH", ENCODING_CHARACTERS, *names, time, "", f"ADT^{event}^ADT_A01", control_id, "P", VERSION),
        *("", "", "", "", "", "UNICODE UTF-8"),
    )
    authority = "&".join(
        _escape(part or "") for part in (patient.namespace, patient.universal_id, patient.universal_id_type)
    )
    name = f"{_escape(demographics.family or '')}^{_escape(demographics.given or '')}".rstrip("^")
    pid = _fields(
        *("PID", "", "", f"{_escape(patient.id)}^^^{authority}", "", name, ""),
        *(_escape(demographics.birth or ""), _escape(demographics.sex or "")),
    )
    return "\r".join((msh, _fields("EVN", event, time), pid, "PV1||N", "")).encode()
