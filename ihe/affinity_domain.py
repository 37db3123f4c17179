"""What an affinity domain agreed on: code sets, mime types, who assigns patient ids (ITI TF-1: Appendix L).

Code file: CSV, UTF-8, comma, first line ``attribute,code,scheme,display_name,valid_from,valid_to``. ``attribute`` is
the framework's name; a mimeType has no scheme; dates are YYYY-MM-DD, inclusive, empty for no bound; ``#`` begins a
comment line. An attribute without any line is not restricted.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final

from ihe.datatypes import is_mime_type, normalise_oid
from ihe.matricule import MatriculePolicy

COLUMNS: Final = ("attribute", "code", "scheme", "display_name", "valid_from", "valid_to")
CODED_ATTRIBUTES: Final = frozenset(
    {
        "associationDocumentation",
        "classCode",
        "codeList",
        "confidentialityCode",
        "contentTypeCode",
        "eventCodeList",
        "formatCode",
        "healthcareFacilityTypeCode",
        "practiceSettingCode",
        "typeCode",
    }
)
"""Attributes a code file may list, beside mimeType; ``codeList`` is the Folder's."""
_MIME_TYPE: Final = "mimeType"
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class AgreedCode:
    """One line of the code file; ``valid_from`` and ``valid_to`` are YYYYMMDD, inclusive, ``None`` without bound."""

    attribute: str
    code: str
    scheme: str
    display_name: str
    valid_from: str | None = None
    valid_to: str | None = None

    def valid_on(self, day: str) -> bool:
        """Whether the code may be used on ``day`` (YYYYMMDD)."""
        return (self.valid_from or day) <= day <= (self.valid_to or day)


class CodeFileError(ValueError):
    """The code file cannot be used; ``faults`` names every one, each beginning with its line number."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, slots=True)
class AffinityDomain:
    """The agreement as a value. Empty ``assigning_authorities`` means any; OIDs without ``urn:oid:``.

    ``codes`` maps an attribute to its (code, scheme) pairs, ``agreed`` holds the lines behind them: names and validity.
    An attribute that is missing in ``codes`` and an empty ``mime_types`` restrict nothing.
    """

    home_community_id: str
    assigning_authorities: frozenset[str] = frozenset()
    codes: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    mime_types: frozenset[str] = frozenset()
    agreed: Mapping[tuple[str, str, str], AgreedCode] = field(default_factory=dict)
    matricules: MatriculePolicy = field(default_factory=MatriculePolicy)

    def accepts_authority(self, oid: str) -> bool:
        """Whether patient ids of this assigning authority belong here."""
        return not self.assigning_authorities or oid in self.assigning_authorities

    def accepts_code(self, attribute: str, code: str, scheme: str, day: str | None = None) -> bool:
        """Whether the code is in the set of the attribute, and valid on ``day`` (YYYYMMDD) when that is known."""
        allowed = self.codes.get(attribute)
        if allowed is None:
            return True
        if (code, scheme) not in allowed:
            return False
        agreed = self.agreed.get((attribute, code, scheme))
        return agreed is None or day is None or agreed.valid_on(day)

    def accepts_mime_type(self, mime_type: str) -> bool:
        """Whether documents of this type are taken; letter case does not count (RFC 2045: 5.1)."""
        return not self.mime_types or mime_type.lower() in self.mime_types

    def display_name(self, attribute: str, code: str, scheme: str) -> str | None:
        """The agreed name of a code, if the code file has it."""
        agreed = self.agreed.get((attribute, code, scheme))
        return agreed.display_name or None if agreed else None


def affinity_domain(
    home_community_id: str,
    assigning_authorities: Iterable[str] = (),
    agreed: Iterable[AgreedCode] = (),
    matricules: MatriculePolicy | None = None,
) -> AffinityDomain:
    """Join settings and code file into the value the rules ask."""
    sets: dict[str, set[tuple[str, str]]] = {}
    lines: dict[tuple[str, str, str], AgreedCode] = {}
    mime_types: set[str] = set()
    for one in agreed:
        if one.attribute == _MIME_TYPE:
            mime_types.add(one.code.lower())
            continue
        sets.setdefault(one.attribute, set()).add((one.code, one.scheme))
        lines[one.attribute, one.code, one.scheme] = one
    codes = {attribute: frozenset(pairs) for attribute, pairs in sets.items()}
    return AffinityDomain(
        home_community_id,
        frozenset(assigning_authorities),
        MappingProxyType(codes),
        frozenset(mime_types),
        MappingProxyType(lines),
        matricules or MatriculePolicy(),
    )


def read_codes(text: str) -> tuple[AgreedCode, ...]:
    """Read a code file; raises ``CodeFileError`` with every fault and its line number."""
    lines = _lines(text)
    number, header = next(lines, (1, []))
    if tuple(cell.strip() for cell in header) != COLUMNS:
        raise CodeFileError([f"line {number}: the first line must be {','.join(COLUMNS)}"])
    faults: list[str] = []
    found: dict[tuple[str, str, str], AgreedCode] = {}
    for number, cells in lines:
        if len(cells) != len(COLUMNS):
            faults.append(f"line {number}: {len(cells)} columns instead of {len(COLUMNS)}")
            continue
        row = dict(zip(COLUMNS, (cell.strip() for cell in cells), strict=True))
        key = (row["attribute"], row["code"], normalise_oid(row["scheme"]))
        wrong = list(_faults(row))
        if key in found:
            wrong.append("this attribute, code and scheme stand on an earlier line already")
        faults += [f"line {number}: {fault}" for fault in wrong]
        if not wrong:
            found[key] = AgreedCode(*key, row["display_name"], _day(row["valid_from"]), _day(row["valid_to"]))
    if faults:
        raise CodeFileError(faults)
    return tuple(found.values())


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line they end on; empty and comment lines left out, a byte order mark too."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                yield reader.line_num, cells
    except csv.Error as error:
        raise CodeFileError([f"line {reader.line_num}: not CSV: {error}"]) from error


def _faults(row: Mapping[str, str]) -> Iterator[str]:
    attribute, code = row["attribute"], row["code"]
    if attribute == _MIME_TYPE:
        if not is_mime_type(code):
            yield f"{code!r} is no mime type; write type/subtype without parameters"
        if row["scheme"]:
            yield "a mimeType has no scheme"
    elif attribute not in CODED_ATTRIBUTES:
        yield f"{attribute!r} is no coded attribute; allowed: {', '.join(sorted({_MIME_TYPE, *CODED_ATTRIBUTES}))}"
    elif not row["scheme"]:
        yield "the scheme is missing"
    if not code:
        yield "the code is missing"
    if not row["display_name"] and attribute != _MIME_TYPE:
        yield "the display_name is missing"
    for column in ("code", "scheme"):
        if len(row[column]) > _LONGEST:
            yield f"{column} is longer than {_LONGEST} characters"
    yield from _date_faults(row["valid_from"], row["valid_to"])


def _date_faults(valid_from: str, valid_to: str) -> Iterator[str]:
    bad = False
    for column, text in (("valid_from", valid_from), ("valid_to", valid_to)):
        try:
            _day(text)
        except ValueError:
            bad = True
            yield f"{column} must be a day YYYY-MM-DD or empty"
    if not bad and valid_from and valid_to and valid_from > valid_to:
        yield "valid_from is later than valid_to"


def _day(text: str) -> str | None:
    """YYYYMMDD of YYYY-MM-DD, ``None`` of nothing."""
    if not text:
        return None
    if len(text) != len("YYYY-MM-DD") or text[4] != "-" or text[7] != "-":
        raise ValueError("not YYYY-MM-DD")
    return date.fromisoformat(text).strftime("%Y%m%d")
