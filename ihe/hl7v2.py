r"""HL7 v2 messages of the patient identity feed and their acknowledgements (ITI TF-2: 3.8; HL7 2.3.1 chapters 2 and 3).

Bytes in, values out: ``parse_feed`` for ADT messages, ``parse_acknowledgement`` for answers; the other way goes
``ihe.hl7v2_print``.
Only MSH, EVN, PID and MRG are looked at; whatever else an ADT message carries is not split. Segments end with CR;
CR LF and LF are taken too. MSH-1 and MSH-2 say which separators hold. HL7's null (``""``) means "erase".

Character set, MSH-18 (HL7 table 0211): absent or ASCII is UTF-8 where the bytes are valid UTF-8, else ISO 8859-1.

Reading raises ParseError and nothing else, whatever the bytes; its text never repeats a value of the message.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import hl7

__all__ = [
    "AckCode",
    "Acknowledgement",
    "Demographics",
    "ErrorCode",
    "FeedMessage",
    "Header",
    "Identifier",
    "ParseError",
    "PatientGroup",
    "Problem",
    "parse_acknowledgement",
    "parse_feed",
    "read_header",
]

MAX_SEGMENT_CHARACTERS: Final = 65_536
"""A MSH, EVN, PID or MRG longer than this is refused: each separator costs memory far beyond its byte."""
MAX_IDENTIFIERS: Final = 100
MAX_GROUPS: Final = 100
"""Patients of one message."""
MAX_HEADER_FIELD: Final = 250

_WANTED: Final = ("EVN", "PID", "MRG")
_SEPARATORS: Final = re.compile(r"MSH([!-/:-@\[-`{-~])([!-/:-@\[-`{-~]{4,5}?)\1")
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")
_HEX: Final = re.compile(r"X(?:[0-9A-Fa-f]{2})+")
_NULL: Final = '""'
_UNREADABLE: Final = "\ufffd"
"""Stands for bytes that are not in the character set."""

_CHARSETS: Final[Mapping[str, str]] = MappingProxyType(
    {f"8859/{part}": f"iso8859-{part}" for part in (*range(1, 12), 13, 14, 15, 16)}
    | {"UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "UTF-8": "utf-8", "UTF8": "utf-8"}
    | {"ISO-8859-1": "iso8859-1", "ISO8859-1": "iso8859-1", "ISO-8859-15": "iso8859-15", "WINDOWS-1252": "cp1252"}
    | {"GB 18030-2000": "gb18030", "KS X 1001": "euc_kr", "BIG-5": "big5"}
)
"""HL7 table 0211 and what senders write instead, to Python's names. Case does not count."""


class AckCode(StrEnum):
    """MSA-1 (HL7 table 0008): accepted; understood and refused; not processed at all."""

    ACCEPT = "AA"
    ERROR = "AE"
    REJECT = "AR"


class ErrorCode(StrEnum):
    """HL7 table 0357; the name in lower case, blanks for underscores, is its text."""

    SEGMENT_SEQUENCE_ERROR = "100"
    REQUIRED_FIELD_MISSING = "101"
    DATA_TYPE_ERROR = "102"
    TABLE_VALUE_NOT_FOUND = "103"
    UNSUPPORTED_MESSAGE_TYPE = "200"
    UNSUPPORTED_EVENT_CODE = "201"
    UNSUPPORTED_VERSION_ID = "203"
    UNKNOWN_KEY_IDENTIFIER = "204"
    APPLICATION_INTERNAL_ERROR = "207"

    @property
    def text(self) -> str:
        """As table 0357 words it."""
        return self.name.replace("_", " ").capitalize()


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a message is not accepted; ``location`` is ``PID^1^3`` (segment, sequence, field) or empty.

    ``text`` goes to the sender: what is expected, no value of the message, ASCII.
    """

    ack: AckCode
    code: ErrorCode
    text: str
    location: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """MSH: applications and facilities, ``message_type`` ADT, ``event`` A01, both upper case; absent is ``None``.

    ``charset`` is MSH-18 as sent, ``encoding`` the Python codec the message was read with.
    """

    sending_application: str | None = None
    sending_facility: str | None = None
    receiving_application: str | None = None
    receiving_facility: str | None = None
    message_type: str | None = None
    event: str | None = None
    control_id: str | None = None
    processing_id: str | None = None
    version: str | None = None
    charset: str | None = None
    encoding: str = "utf-8"

    @property
    def sender(self) -> str:
        """MSH-4, pipe, MSH-3, as audit records name it."""
        return f"{self.sending_facility or ''}|{self.sending_application or ''}"

    @property
    def receiver(self) -> str:
        """MSH-6, pipe, MSH-5."""
        return f"{self.receiving_facility or ''}|{self.receiving_application or ''}"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One repetition of PID-3 (CX): id, the parts of the assigning authority (HD), type of the identifier (CX.5)."""

    id: str
    namespace: str | None = None
    universal_id: str | None = None
    universal_id_type: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Demographics:
    """PID-5, 7 and 8. ``None``: the message doesn't say; empty text: the message says to erase it (HL7 null)."""

    family: str | None = None
    given: str | None = None
    birth: str | None = None
    sex: str | None = None


@dataclass(frozen=True, slots=True)
class PatientGroup:
    """PID-3 of a PID, and MRG-1 of the MRG segments that follow it; a MRG before any PID is a group without PID-3."""

    identifiers: tuple[Identifier, ...] = ()
    prior_identifiers: tuple[Identifier, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedMessage:
    """An ADT message as a registry reads it: what it tells of its first PID, and every group of a merge or unlink.

    ``groups`` is empty where one PID stands alone, and ends with ``MAX_GROUPS`` + 1, so that too many can be seen.
    """

    header: Header
    identifiers: tuple[Identifier, ...] = ()
    demographics: Demographics = Demographics()
    groups: tuple[PatientGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An answer: ``code`` is MSA-1 as sent, ``control_id`` MSA-2, ``text`` MSA-3 and what ERR adds."""

    code: str
    control_id: str | None
    text: str | None


class ParseError(ValueError):
    """Not readable as HL7 v2. ``header`` is as much of MSH as could be read, to address the answer."""

    def __init__(self, problem: Problem, header: Header = Header()) -> None:
        super().__init__(problem.text)
        self.problem = problem
        self.header = header


# ------------------------------------------------------------------------------------------ reading


def read_header(data: bytes) -> Header:
    """As much of MSH as can be read, even from half a message; never raises."""
    try:
        return _parse(data)[0]
    except ParseError as error:
        return error.header


def parse_feed(data: bytes) -> FeedMessage:
    """Read a message that came in one frame. Raises ParseError; what it means is for the caller to judge."""
    header, message = _parse(data)
    try:
        evn, pid = _first(message, "EVN"), _first(message, "PID")
        if header.event is None and evn is not None:
            header = replace(header, event=(_value(evn, 1, header) or "").upper() or None)
        return FeedMessage(
            header,
            _identifiers(pid, 3, header),
            _demographics(pid, header),
            _groups(message, header),
        )
    except ParseError as error:
        raise ParseError(error.problem, header) from None


def parse_acknowledgement(data: bytes) -> Acknowledgement:
    """Read an ACK. Raises ParseError when there is no MSA-1 in it."""
    header, message = _parse(data, wanted=("MSA", "ERR"))
    msa = _first(message, "MSA")
    code = _value(msa, 1, header) if msa is not None else None
    if msa is None or code is None:
        raise _rejected(ErrorCode.SEGMENT_SEQUENCE_ERROR, "the answer has no MSA-1", "MSA^1^1", header)
    return Acknowledgement(code.upper(), _value(msa, 2, header), _value(msa, 3, header))


def _rejected(code: ErrorCode, text: str, location: str = "", header: Header | None = None) -> ParseError:
    return ParseError(Problem(AckCode.REJECT, code, text, location), header or Header())


def _parse(data: bytes, wanted: Sequence[str] = _WANTED) -> tuple[Header, Any]:
    """The header and, as the library's tree, the segments named in ``wanted`` (MSH always first)."""
    data = data.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n \t")
    first = re.split(rb"[\r\n]", data[: MAX_SEGMENT_CHARACTERS + 1], maxsplit=1)[0]
    if len(first) > MAX_SEGMENT_CHARACTERS:
        raise _rejected(ErrorCode.DATA_TYPE_ERROR, f"MSH is longer than {MAX_SEGMENT_CHARACTERS} characters", "MSH^1")
    # Separators and MSH-18 are ASCII, so they can be read before the character set is known.
    rough = _header(_tree(_checked(first.decode("iso8859-1"))), "iso8859-1")
    encoding = _encoding(data, rough)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        text = f"MSH-18 says {rough.charset}, byte {error.start} is not valid in it"
        raise _rejected(ErrorCode.DATA_TYPE_ERROR, text, "MSH^1^18", rough) from None
    segments = re.split(r"[\r\n]+", text)
    if any(segment[:4] == segments[0][:4] for segment in segments[1:]):
        # Answered with one acknowledgement, the second message would be lost, or done unseen as part of the first.
        text = "a second MSH: each message needs a frame of its own; nothing was done"
        raise _rejected(ErrorCode.SEGMENT_SEQUENCE_ERROR, text, "MSH^2", rough)
    kept = [segments[0], *(segment for segment in segments[1:] if segment[:3] in wanted)]
    for segment in kept:
        if len(segment) > MAX_SEGMENT_CHARACTERS:
            text = f"segment {segment[:3]} is longer than {MAX_SEGMENT_CHARACTERS} characters"
            raise _rejected(ErrorCode.DATA_TYPE_ERROR, text, f"{segment[:3]}^1", rough)
    message = _tree("\r".join(kept))
    header = _header(message, encoding)
    return header, message


def _checked(msh: str) -> str:
    found = _SEPARATORS.match(msh)
    if found is None:
        text = r"no HL7 v2 message: MSH|^~\& expected at its beginning"
        raise _rejected(ErrorCode.SEGMENT_SEQUENCE_ERROR, text, "MSH^1")
    separators = found.group(1) + found.group(2)
    if len(set(separators)) != len(separators):
        raise _rejected(ErrorCode.DATA_TYPE_ERROR, "MSH-1 and MSH-2 use one separator for two things", "MSH^1^2")
    return msh


def _tree(text: str) -> Any:
    try:
        return hl7.parse(text)
    except Exception as error:  # the library has no error class of its own for all it trips over
        raise _rejected(ErrorCode.SEGMENT_SEQUENCE_ERROR, "no HL7 v2 message: its segments can't be told") from error


def _encoding(data: bytes, header: Header) -> str:
    name = header.charset.strip().upper() if header.charset else ""
    if name in {"", "ASCII"}:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return "iso8859-1"
        return "utf-8"
    if name not in _CHARSETS:
        text = "MSH-18 names a character set that is not supported; UNICODE UTF-8 and 8859/1 are, among others"
        raise _rejected(ErrorCode.TABLE_VALUE_NOT_FOUND, text, "MSH^1^18", header)
    return _CHARSETS[name]


def _header(message: Any, encoding: str) -> Header:
    msh = message[0]
    blank = Header(encoding=encoding)

    def field(number: int, component: int = 1) -> str | None:
        value = _value(msh, number, blank, component)
        return None if value is None else CONTROL.sub("", value)[:MAX_HEADER_FIELD] or None

    kind, event = field(9), field(9, 2)
    return Header(
        sending_application=field(3),
        sending_facility=field(4),
        receiving_application=field(5),
        receiving_facility=field(6),
        message_type=kind.upper() if kind else None,
        event=event.upper() if event else None,
        control_id=field(10),
        processing_id=field(11),
        version=field(12),
        charset=field(18),
        encoding=encoding,
    )


def _first(message: Any, name: str) -> Any | None:
    return next((segment for segment in message if str(segment[0]) == name), None)


def _value(  # noqa: PLR0917 - HL7's own path, in its order
    segment: Any, field: int, header: Header, component: int = 1, subcomponent: int = 1, repetition: int = 1
) -> str | None:
    """One value, unescaped and stripped, ``None`` when absent or empty; HL7 null comes back as it is.

    The library leaves a level out where its separator does not occur: then the first place holds the whole value.
    """
    node: Any = segment[field] if field < len(segment) else ""
    for place in (repetition, component, subcomponent):
        if isinstance(node, list):
            node = node[place - 1] if place <= len(node) else ""
        elif place != 1:
            return None
    return _unescape(str(node), segment, header).strip() or None


def _unescape(text: str, segment: Any, header: Header) -> str:
    """The escapes of HL7 2.3.1: 2.9. Highlighting and unknown ones are dropped; bytes count in the message's set.

    Not the library's: that one logs what it can't read, and this is a patient's data.
    """
    escape = segment.esc
    if escape not in text:
        return text
    _, field, repetition, component, subcomponent = segment.separators
    marks = {"F": field, "S": component, "T": subcomponent, "R": repetition, "E": escape, ".br": " ", ".sp": " "}
    pieces = text.split(escape)
    if len(pieces) % 2 == 0:  # an escape that nothing closes is a character like any other
        pieces[-2:] = [escape.join(pieces[-2:])]
    for at in range(1, len(pieces), 2):
        piece = pieces[at]
        if _HEX.fullmatch(piece):
            pieces[at] = bytes.fromhex(piece[1:]).decode(header.encoding, "replace")
        else:
            pieces[at] = marks.get(piece, "")
    return "".join(pieces)


def _identifiers(segment: Any | None, field: int, header: Header) -> tuple[Identifier, ...]:
    """Every repetition with an id; one whose id holds control characters or subcomponents is no identifier."""
    if segment is None or field >= len(segment):
        return ()
    repetitions = len(segment[field]) if isinstance(segment[field], list) else 1
    if repetitions > MAX_IDENTIFIERS:
        location = f"{segment[0]}^1^{field}"
        raise _rejected(ErrorCode.DATA_TYPE_ERROR, f"more than {MAX_IDENTIFIERS} identifiers", location, header)
    found = (_identifier(segment, field, header, repetition) for repetition in range(1, repetitions + 1))
    return tuple(identifier for identifier in found if identifier is not None)


def _groups(message: Any, header: Header) -> tuple[PatientGroup, ...]:
    """Segments in their order (HL7 2.3.1 chapter 3, ADT_A39: PID [PD1] MRG [PV1], repeating)."""
    if sum(str(segment[0]) in {"PID", "MRG"} for segment in message) <= 1:
        return ()
    groups: list[PatientGroup] = []
    for segment in message:
        name = str(segment[0])
        if name == "PID" or (name == "MRG" and not groups):
            if len(groups) > MAX_GROUPS:
                break
            groups.append(PatientGroup(_identifiers(segment, 3, header) if name == "PID" else ()))
        if name == "MRG":
            prior = _identifiers(segment, 1, header)
            groups[-1] = replace(groups[-1], prior_identifiers=(*groups[-1].prior_identifiers, *prior))
    return tuple(groups)


def _identifier(segment: Any, field: int, header: Header, repetition: int) -> Identifier | None:
    def part(component: int, subcomponent: int = 1) -> str | None:
        value = _value(segment, field, header, component, subcomponent, repetition)
        return None if value is None or value == _NULL or CONTROL.search(value) else value

    identifier = part(1)
    # Half an id, or one with bytes nobody can read, could be another patient's.
    if identifier is None or _UNREADABLE in identifier or _has_subcomponents(segment, field, repetition):
        return None
    return Identifier(identifier, part(4), part(4, 2), part(4, 3), part(5))


def _has_subcomponents(segment: Any, field: int, repetition: int) -> bool:
    """Whether the first component of a repetition holds more than its first subcomponent."""
    node: Any = segment[field]
    for place in (repetition, 1):
        node = node[place - 1] if isinstance(node, list) else node
    return isinstance(node, list) and any(str(part).strip() for part in node[1:])


def _demographics(pid: Any | None, header: Header) -> Demographics:
    if pid is None:
        return Demographics()

    def part(field: int, component: int = 1) -> str | None:
        value = _value(pid, field, header, component)
        if value is None:
            return None
        return "" if value == _NULL else CONTROL.sub("", value)[:MAX_HEADER_FIELD] or None

    return Demographics(part(5), part(5, 2), part(7), part(8))
