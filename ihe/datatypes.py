r"""Data types of metadata values: parse, print, normalise (ITI TF-3: 4.2.3.1.7, Table 4.2.3.1.7-2; HL7 2.5 chapter 2A).

Parsing raises ``ValueError`` with a reason that says what is allowed and never repeats the value: values name patients.
Normalising never raises: what cannot be read comes back as it was, for the rules to report.

HL7 separators are ``| ^ & ~ \``; inside a component they are written ``\F\ \S\ \T\ \R\ \E\``, no other escape exists.
"""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_UUID: Final = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*")
_MIME: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_URN: Final = re.compile(r"urn:[a-z0-9][a-z0-9-]{0,30}[a-z0-9]:\S+", re.IGNORECASE)
_DTM: Final = re.compile(r"[0-9]{4}(?:[0-9]{2}){0,5}")
_LOOSE_DTM: Final = re.compile(r"([0-9]{4}(?:[0-9]{2}){0,5})(?:\.[0-9]{1,4})?(Z|[+-](?:0[0-9]|1[0-4])[0-5][0-9])?")
_PATIENT_FIELD: Final = re.compile(r"PID-[1-9][0-9]?\|.*", re.DOTALL)
_URN_OID: Final = "urn:oid:"
_LONGEST_REMEMBERED: Final = 256
_PARTS_OF_A_CX: Final = 4


# ------------------------------------------------------------------------------------------ single words


def is_oid(text: str) -> bool:
    """ISO object identifier: at least two arcs, the first 0 to 2, no leading zeros, at most 64 characters."""
    return len(text) <= 64 and _OID.fullmatch(text) is not None


def is_oid_urn(text: str) -> bool:
    """``urn:oid:`` followed by an OID."""
    return text.startswith(_URN_OID) and is_oid(text.removeprefix(_URN_OID))


def is_uuid(text: str) -> bool:
    """``urn:uuid:`` followed by an RFC 4122 UUID in lower case."""
    return _UUID.fullmatch(text) is not None


def is_symbolic(identifier: str) -> bool:
    """An id of the request only, replaced on acceptance: anything that does not begin with ``urn:uuid:``."""
    return not identifier.lower().startswith("urn:uuid:")


def is_sha1(text: str) -> bool:
    """40 hexadecimal digits in lower case."""
    return _SHA1.fullmatch(text) is not None


def is_size(text: str) -> bool:
    """A number of bytes, digits only, below 2^63."""
    return text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < 2**63


def is_language_tag(text: str) -> bool:
    """The shape of an RFC 5646 tag, any case: ``fr``, ``de-LU``."""
    return len(text) <= 64 and _LANGUAGE.fullmatch(text) is not None


def is_mime_type(text: str) -> bool:
    """``type/subtype`` without parameters (RFC 6838: 4.2)."""
    return _MIME.fullmatch(text) is not None


def is_urn(text: str) -> bool:
    """``urn:`` namespace ``:`` something (RFC 8141)."""
    return _URN.fullmatch(text) is not None


def is_patient_field(text: str) -> bool:
    """A value of sourcePatientInfo: ``PID-n|`` and the field; unknown fields, lists and partial fields included."""
    return _PATIENT_FIELD.fullmatch(text) is not None


# ------------------------------------------------------------------------------------------ normalisers


def normalise_uuid(text: str) -> str:
    """Blanks around an id removed; a UUID URN in lower case."""
    text = text.strip()
    lower = text.lower()
    return lower if is_uuid(lower) else text


def normalise_oid(text: str) -> str:
    """Blanks removed; ``urn:oid:`` before an OID removed."""
    text = text.strip()
    if text[:8].lower() == _URN_OID and is_oid(text[8:]):
        return text[8:]
    return text


def normalise_oid_urn(text: str) -> str:
    """Blanks removed; a bare OID gets ``urn:oid:``."""
    oid = normalise_oid(text)
    return _URN_OID + oid if is_oid(oid) else text.strip()


def normalise_sha1(text: str) -> str:
    """Blanks removed; lower case."""
    return text.strip().lower()


def normalise_mime_type(text: str) -> str:
    """Parameters and blanks removed: ``text/xml; charset=utf-8`` is ``text/xml``."""
    return text.partition(";")[0].strip()


def normalise_components(text: str) -> str:
    """XCN, XON, XTN: blanks around and trailing separators removed."""
    return text.strip().rstrip("^& ")


def normalise_cx(text: str) -> str:
    """The one way to write a CX (``print_cx``), whichever of the forms of ``parse_cx`` it came in."""
    try:
        return print_cx(parse_cx(text))
    except ValueError:
        return text.strip()


# ------------------------------------------------------------------------------------------ HL7 components

_ESCAPES: Final = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_ESCAPED: Final = str.maketrans({mark: f"\\{letter}\\" for letter, mark in _ESCAPES.items()})


def hl7_unescape(text: str) -> str:
    r"""Undo ``\F\ \S\ \T\ \R\ \E\``; ``ValueError`` for a backslash that is no such escape."""
    if "\\" not in text:
        return text
    pieces = text.split("\\")
    if len(pieces) % 2 == 0 or any(piece not in _ESCAPES for piece in pieces[1::2]):
        raise ValueError("a backslash is allowed only in the escapes F, S, T, R, E between two backslashes")
    return "".join(_ESCAPES[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def hl7_escape(text: str) -> str:
    """Escape every HL7 separator in a component."""
    return text.translate(_ESCAPED)


def _components(text: str) -> list[str]:
    parts = text.strip().split("^")
    while parts and not parts[-1].strip("& "):
        parts.pop()
    return parts


def _part(parts: Sequence[str], number: int) -> str | None:
    """Component ``number`` (from 1), unescaped; ``None`` when absent or empty."""
    return (hl7_unescape(parts[number - 1]).strip() or None) if len(parts) >= number else None


def _authority(component: str, where: str) -> str:
    """The OID of an HD component ``[namespace]&OID&ISO``."""
    parts = [part.strip() for part in component.split("&")]
    while parts and not parts[-1]:
        parts.pop()
    oid = normalise_oid(parts[1]) if len(parts) > 1 else ""
    if len(parts) != 3 or parts[2].upper() != "ISO" or not is_oid(oid):
        raise ValueError(f"{where} must be &OID&ISO, with a valid OID of at most 64 characters")
    return oid


@dataclass(frozen=True, slots=True)
class CX:
    """A patient identifier: ``id`` unescaped, ``authority`` the OID of who assigned it."""

    id: str
    authority: str


def parse_cx(text: str) -> CX:
    """Read ``id^^^&OID&ISO``.

    Taken as well, since peers send them: a namespace before the OID, ``iso``, trailing separators, ``&`` escaped twice.
    """
    # A message names its patient a dozen times; what is remembered is bounded in number and length.
    return _parsed_cx(text) if len(text) <= _LONGEST_REMEMBERED else _parsed_cx.__wrapped__(text)


@lru_cache(maxsize=1024)
def _parsed_cx(text: str) -> CX:
    parts = _components(text.replace("&amp;", "&"))
    if len(parts) != _PARTS_OF_A_CX or any(part.strip() for part in parts[1:3]):
        raise ValueError("exactly components 1 and 4 must be filled: id^^^&OID&ISO")
    identifier = hl7_unescape(parts[0]).strip()
    if not identifier or "&" in parts[0] or "~" in parts[0]:
        raise ValueError("component 1 must hold one identifier without unescaped separators: id^^^&OID&ISO")
    return CX(identifier, _authority(parts[3], "component 4"))


def print_cx(cx: CX) -> str:
    """The one way to write it: ``id^^^&OID&ISO``, separators inside the id escaped."""
    return f"{hl7_escape(cx.id)}^^^&{cx.authority}&ISO"


@dataclass(frozen=True, slots=True)
class XCN:
    """A person; components 1 to 7 unescaped, ``authority`` the OID of component 9; absent is ``None``."""

    id: str | None
    family_name: str | None
    given_name: str | None = None
    further_names: str | None = None
    suffix: str | None = None
    prefix: str | None = None
    degree: str | None = None
    authority: str | None = None


def parse_xcn(text: str) -> XCN:
    """Read a person; components beyond the ninth are ignored, an id without authority is taken."""
    parts = _components(text)
    identifier, family_name, *names = (_part(parts, number) for number in range(1, 8))
    if identifier is None and family_name is None:
        raise ValueError("component 1 (id) or component 2 (family name) must be filled")
    authority = _authority(parts[8], "component 9") if len(parts) > 8 and parts[8].strip() else None
    given_name, further_names, suffix, prefix, degree = names
    return XCN(identifier, family_name, given_name, further_names, suffix, prefix, degree, authority)


def print_xcn(xcn: XCN) -> str:
    """Write a person, trailing separators left out."""
    names = (xcn.id, xcn.family_name, xcn.given_name, xcn.further_names, xcn.suffix, xcn.prefix, xcn.degree)
    authority = "" if xcn.authority is None else f"&{xcn.authority}&ISO"
    return "^".join([*(hl7_escape(name or "") for name in names), "", authority]).rstrip("^")


@dataclass(frozen=True, slots=True)
class XON:
    """An organisation; ``authority`` is the OID of component 6 and names who assigned ``id`` (component 10)."""

    name: str
    id: str | None = None
    authority: str | None = None


def parse_xon(text: str) -> XON:
    """Read an organisation; whether an id that is no OID needs its authority is for ``xon_is_complete`` to say."""
    parts = _components(text)
    name, identifier = _part(parts, 1), _part(parts, 10)
    if name is None:
        raise ValueError("component 1 (name) must be filled")
    if len(parts) > 10 or any(part.strip() for at, part in enumerate(parts, 1) if at not in (1, 6, 10)):
        raise ValueError("only components 1 (name), 6 (&OID&ISO) and 10 (id) may be filled")
    authority = _authority(parts[5], "component 6") if len(parts) > 5 and parts[5].strip() else None
    return XON(name, identifier, authority)


def xon_is_complete(xon: XON) -> bool:
    """An id that is no OID says who assigned it."""
    return xon.id is None or xon.authority is not None or is_oid(normalise_oid(xon.id))


def print_xon(xon: XON) -> str:
    """Write an organisation, trailing separators left out."""
    authority = "" if xon.authority is None else f"&{xon.authority}&ISO"
    return "^".join([hl7_escape(xon.name), "", "", "", "", authority, "", "", "", hl7_escape(xon.id or "")]).rstrip("^")


@dataclass(frozen=True, slots=True)
class XTN:
    """A telecommunication address: ``address`` for mail (type Internet), else ``number`` with its parts."""

    type: str
    use: str | None = None
    address: str | None = None
    country: str | None = None
    area: str | None = None
    number: str | None = None
    extension: str | None = None
    unformatted: str | None = None


def parse_xtn(text: str) -> XTN:
    """Read ``^^Internet^address``, ``^NET^Internet^address`` or ``^use^type^^country^area^number^extension``."""
    parts = _components(text)
    use, kind, address = (_part(parts, number) for number in (2, 3, 4))
    if kind is None:
        raise ValueError("component 3 must say what it is: Internet, PH, CP, FX, BP, ...")
    if kind == "Internet":
        if address is None:
            raise ValueError("component 4 must hold the mail address: ^^Internet^address")
        return XTN(kind, use, address)
    country, area, number, extension, unformatted = (_part(parts, at) for at in (5, 6, 7, 8, 12))
    if number is None and unformatted is None:
        raise ValueError("component 7 must hold the telephone number (or component 12 the whole number unformatted)")
    return XTN(kind, use, None, country, area, number, extension, unformatted)


def print_xtn(xtn: XTN) -> str:
    """Write a telecommunication address, trailing separators left out."""
    parts = ["", xtn.use, xtn.type, xtn.address, xtn.country, xtn.area, xtn.number, xtn.extension, "", "", ""]
    return "^".join(hl7_escape(part or "") for part in [*parts, xtn.unformatted]).rstrip("^")


# CXi.5 values that need an authority in CXi.4, and those that allow none (ITI TF-3: 4.2.3.1.7, Table 4.2.3.1.7-2)
_WITH_AUTHORITY: Final = frozenset(
    {
        "urn:ihe:iti:xds:2013:referral",
        "urn:ihe:iti:xds:2013:order",
        "urn:ihe:iti:xds:2015:encounterId",
    }
)
_WORKFLOW: Final = "urn:ihe:iti:xdw:2013:workflowInstanceId"
_WITHOUT_AUTHORITY: Final = frozenset({_WORKFLOW, "urn:ihe:iti:xds:2016:studyInstanceUID"})


@dataclass(frozen=True, slots=True)
class CXi:
    """A reference id; ``authority`` is component 4 as sent (``&uid&type`` or a namespace), ``home`` component 6."""

    id: str
    type: str
    authority: str | None = None
    home: str | None = None


def parse_cxi(text: str) -> CXi:
    """Read ``id^^^authority^type[^home]``."""
    parts = _components(text)
    identifier, kind, home = _part(parts, 1), _part(parts, 5), _part(parts, 6)
    if identifier is None or kind is None:
        raise ValueError("components 1 (id) and 5 (type of the id) must be filled: id^^^&OID&ISO^type")
    if len(parts) > 6 or any(part.strip() for part in parts[1:3]):
        raise ValueError("only components 1, 4, 5 and 6 may be filled: id^^^&OID&ISO^type")
    authority = parts[3].strip() or None
    if kind in _WITH_AUTHORITY and authority is None:
        raise ValueError("component 4 (&OID&ISO) must be filled for this type of id")
    if kind in _WITHOUT_AUTHORITY and authority is not None:
        raise ValueError("component 4 must be empty for this type of id")
    return CXi(identifier, kind, authority, home)


def strict_cxi(text: str) -> CXi:
    """``parse_cxi``, with what the parts may be: the authority ``&universalId&type``, an OID where that is ISO or none.

    A namespace alone is an authority too; what identifies a workflow is an OID (ITI TF-3: Table 4.2.3.1.7-2).
    """
    cxi = parse_cxi(text)
    if "&" in (cxi.authority or ""):
        parts = [part.strip() for part in (cxi.authority or "").split("&")]
        if len(parts) != 3 or not all(parts[1:]) or (parts[2] == "ISO" and not is_oid(parts[1])):
            raise ValueError("component 4 must be a namespace, or &universalId&type with an OID for ISO: &OID&ISO")
    if cxi.type == _WORKFLOW and not is_oid(cxi.id):
        raise ValueError("component 1 must be an OID for this type of id")
    return cxi


def normalise_cxi(text: str) -> str:
    """The one way to write a reference id: blanks and trailing separators removed, authority and home as in a CX.

    Good for a pattern of a stored query as well: a component that holds a wildcard stays as it is.
    """
    parts = [part.strip() for part in _components(text.replace("&amp;", "&"))]
    for at in (3, 5):
        if len(parts) > at:
            parts[at] = _normalised_authority(parts[at])
    if len(parts) > 4 and parts[4] in _WITHOUT_AUTHORITY:
        parts[0] = normalise_oid(parts[0])
    return "^".join(parts) or text.strip()


def _normalised_authority(component: str) -> str:
    """``&OID&ISO`` for an OID, whatever is written around it; a namespace alone, and what is no OID, stays."""
    try:
        return f"&{_authority(component, 'it')}&ISO"
    except ValueError:
        return component.rstrip("& ")


def print_cxi(cxi: CXi) -> str:
    """Write a reference id, trailing separators left out."""
    parts = [hl7_escape(cxi.id), "", "", cxi.authority or "", hl7_escape(cxi.type), cxi.home or ""]
    return "^".join(parts).rstrip("^")


# ------------------------------------------------------------------------------------------ times


@dataclass(frozen=True, slots=True)
class DTM:
    """A time in UTC, ``YYYY[MM[DD[hh[mm[ss]]]]]``: a span as long as its precision. ``ValueError`` for anything else.

    ``lower`` and ``upper`` are the first and the last second of that span, 14 digits each.
    """

    text: str

    def __post_init__(self) -> None:
        if _DTM.fullmatch(self.text) is None:
            raise ValueError("allowed are YYYY[MM[DD[hh[mm[ss]]]]], 4 to 14 digits, UTC, no zone and no fraction")
        try:
            _instant(self.lower)
        except ValueError:
            raise ValueError("there is no such day or time in the calendar") from None

    @property
    def lower(self) -> str:
        """First second, ``YYYYMMDDhhmmss``."""
        return self.text + "00000101000000"[len(self.text) :]

    @property
    def upper(self) -> str:
        """Last second, ``YYYYMMDDhhmmss``."""
        month = self.text[:6] if len(self.text) >= 6 else self.text + "12"
        last_day = calendar.monthrange(int(month[:4]), int(month[4:]))[1]
        return self.text + f"{month}{last_day:02}235959"[len(self.text) :]


def _instant(digits: str) -> datetime:
    day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    return datetime(*day, int(digits[8:10]), int(digits[10:12]), int(digits[12:]), tzinfo=UTC)


def loose_dtm(text: str) -> DTM:
    """Read a DTM with fraction or zone as well: the fraction is cut, a time of day is turned into UTC.

    A zone behind a bare date says nothing about a time of day; it is left out. There is none beyond 14 hours.
    """
    match = _LOOSE_DTM.fullmatch(text.strip())
    if match is None:
        raise ValueError("allowed are YYYY[MM[DD[hh[mm[ss]]]]], 4 to 14 digits, UTC")
    digits, zone = match.groups()
    dtm = DTM(digits)
    if zone in (None, "Z") or len(digits) < 10:
        return dtm
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    try:
        utc = _instant(dtm.lower) - offset if zone[0] == "+" else _instant(dtm.lower) + offset
    except OverflowError:
        raise ValueError("there is no such day or time in the calendar") from None
    # strftime does not pad years before 1000 on every platform
    whole = f"{utc.year:04}{utc:%m%d%H%M%S}"
    return DTM(whole[: len(digits)])
