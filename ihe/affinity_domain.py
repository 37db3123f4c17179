"""What an affinity domain agreed on: code sets, mime types, who assigns patient ids (ITI TF-1: Appendix L).

Code file: CSV, UTF-8, comma; the first line names the columns ``attribute,code,scheme,display_name`` and, where
wanted, ``valid_from`` and ``valid_to``, in any order. ``attribute`` is the framework's name; a mimeType has no scheme;
dates are YYYY-MM-DD, inclusive, empty for no bound; ``#`` begins a comment line. An attribute without any line is not
restricted.
"""

import csv
import io
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from itertools import groupby
from types import MappingProxyType
from typing import Final

from ihe.datatypes import is_mime_type, normalise_oid
from ihe.matricule import MatriculePolicy

REQUIRED_COLUMNS: Final = ("attribute", "code", "scheme", "display_name")
COLUMNS: Final = (*REQUIRED_COLUMNS, "valid_from", "valid_to")
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
_SHOWN_CODES: Final = 8
_SHOWN_MIME_TYPES: Final = 20
"""As many as a refusal lists; of a longer set it names the nearest."""
_NEAREST: Final = 3
_COMPARED: Final = 12
"""Neighbours in the order of codes, on either side, that the nearest are sought among: a message may hold thousands of
wrong codes, and each comparison takes microseconds."""
_LONGEST_SHOWN: Final = 128


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

    def out_of_date(self, day: str) -> str:
        """What to say of a code that may not be used on ``day``."""
        if self.valid_to is not None and day > self.valid_to:
            bound = f"expired on {_iso(self.valid_to)}"
        else:
            bound = f"is valid from {_iso(self.valid_from or day)} on"
        return f"{bound} and cannot be used on {_iso(day)}, the day of submissionTime"


class CodeFileError(ValueError):
    """The code file cannot be used; ``faults`` names every one, each beginning with its line and, if one, column."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True, slots=True)
class AffinityDomain:
    """The agreement as a value. Empty ``assigning_authorities`` means any; OIDs without ``urn:oid:``.

    ``codes`` maps an attribute to its (code, scheme) pairs, ``agreed`` holds the lines behind them: names and validity
    (of a mime type under its name in lower case, without scheme). An attribute that is missing in ``codes`` and an
    empty ``mime_types`` restrict nothing. ``code_file`` is the name of the file, for messages; ``lines`` are those of
    each attribute in the order of their codes.
    """

    home_community_id: str
    assigning_authorities: frozenset[str] = frozenset()
    codes: Mapping[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    mime_types: frozenset[str] = frozenset()
    agreed: Mapping[tuple[str, str, str], AgreedCode] = field(default_factory=dict)
    matricules: MatriculePolicy = field(default_factory=MatriculePolicy)
    code_file: str = "the code file"
    lines: Mapping[str, tuple[AgreedCode, ...]] = field(default_factory=dict)

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

    def accepts_mime_type(self, mime_type: str, day: str | None = None) -> bool:
        """Whether documents of this type are taken, on ``day`` if known; letter case does not count (RFC 2045: 5.1)."""
        if not self.mime_types:
            return True
        agreed = self.agreed.get((_MIME_TYPE, mime_type.lower(), ""))
        return mime_type.lower() in self.mime_types and (agreed is None or day is None or agreed.valid_on(day))

    def why_not(self, attribute: str, code: str, scheme: str, day: str | None = None) -> str:
        """Why a code (or mime type, without scheme) is not accepted: names it, its scheme, and what is allowed."""
        known = code.lower() if attribute == _MIME_TYPE else code
        asked = f"{_shown(code)} of scheme {_shown(scheme)}" if attribute != _MIME_TYPE else _shown(code)
        agreed = self.agreed.get((attribute, known, scheme))
        if agreed is not None and day is not None and not agreed.valid_on(day):
            return f"code {asked} {agreed.out_of_date(day)}; {self._allowed(attribute, code, day)}"
        wrong = f"code {asked} is not in the set of this affinity domain"
        others = {one.scheme for one in self._valid(attribute, day) if one.code == code} - {scheme}
        if others:
            wrong += f", though it is with scheme {' and '.join(sorted(others)[:_NEAREST])}"
        return f"{wrong}; {self._allowed(attribute, code, day)}"

    def _valid(self, attribute: str, day: str | None) -> list[AgreedCode]:
        return [one for one in self.lines.get(attribute, ()) if day is None or one.valid_on(day)]

    def _allowed(self, attribute: str, code: str, day: str | None) -> str:
        """The whole set where it is short, else the codes most like this one and how many there are."""
        lines = self._valid(attribute, day)
        if len(lines) > (_SHOWN_MIME_TYPES if attribute == _MIME_TYPE else _SHOWN_CODES):
            place = bisect_left(lines, code, key=lambda one: one.code)
            around = lines[max(0, place - _COMPARED) : place + _COMPARED]
            alike = get_close_matches(code[:_LONGEST_SHOWN], [one.code for one in around], _NEAREST)
            near = [one for one in around if one.code in alike][:_NEAREST]
            shown = f"allowed are {_named(near)} and {len(lines) - len(near)} more" if near else ""
            return f"{shown or f'allowed are {len(lines)} codes'}, listed for {attribute} in {self.code_file}"
        return f"allowed are {_named(lines)}" if lines else f"no code of {attribute} is valid on that day"

    def how_many(self) -> Mapping[str, int]:
        """Lines of the code file by attribute, in the order of their names."""
        return {attribute: len(lines) for attribute, lines in self.lines.items()}

    def display_name(self, attribute: str, code: str, scheme: str) -> str | None:
        """The agreed name of a code, if the code file has it."""
        agreed = self.agreed.get((attribute, code, scheme))
        return agreed.display_name or None if agreed else None


def affinity_domain(
    home_community_id: str,
    assigning_authorities: Iterable[str] = (),
    agreed: Iterable[AgreedCode] = (),
    matricules: MatriculePolicy | None = None,
    code_file: str = "the code file",
) -> AffinityDomain:
    """Join settings and code file into the value the rules ask."""
    sets: dict[str, set[tuple[str, str]]] = {}
    lines: dict[tuple[str, str, str], AgreedCode] = {}
    mime_types: set[str] = set()
    for one in agreed:
        if one.attribute == _MIME_TYPE:
            mime_types.add(one.code.lower())
            lines[one.attribute, one.code.lower(), ""] = one
            continue
        sets.setdefault(one.attribute, set()).add((one.code, one.scheme))
        lines[one.attribute, one.code, one.scheme] = one
    codes = {attribute: frozenset(pairs) for attribute, pairs in sets.items()}
    ordered = sorted(lines.values(), key=lambda one: (one.attribute, one.code, one.scheme))
    by_attribute = {attribute: tuple(group) for attribute, group in groupby(ordered, lambda one: one.attribute)}
    return AffinityDomain(
        home_community_id,
        frozenset(assigning_authorities),
        MappingProxyType(codes),
        frozenset(mime_types),
        MappingProxyType(lines),
        matricules or MatriculePolicy(),
        code_file,
        MappingProxyType(by_attribute),
    )


def _iso(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:8]}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")


def _named(lines: Iterable[AgreedCode]) -> str:
    return ", ".join(f"{one.code} ({one.scheme})" if one.scheme else one.code for one in lines)


def read_codes(text: str) -> tuple[AgreedCode, ...]:
    """Read a code file; raises ``CodeFileError`` with every fault, its line and its column."""
    lines = _lines(text)
    number, header = next(lines, (1, []))
    columns = [cell.strip() for cell in header]
    _check_header(number, columns)
    faults: list[str] = []
    found: dict[tuple[str, str, str], AgreedCode] = {}
    for number, cells in lines:
        if len(cells) != len(columns):
            faults.append(f"line {number}: {len(cells)} columns instead of {len(columns)}")
            continue
        row = dict.fromkeys(COLUMNS, "") | dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        code = row["code"].lower() if row["attribute"] == _MIME_TYPE else row["code"]
        key = (row["attribute"], code, normalise_oid(row["scheme"]))
        wrong = list(_faults(row))
        if key in found:
            wrong.append(("code", "this attribute, code and scheme stand on an earlier line already"))
        faults += [f"line {number}, column {column}: {fault}" for column, fault in wrong]
        if not wrong:
            found[key] = AgreedCode(
                key[0], row["code"], key[2], row["display_name"], _day(row["valid_from"]), _day(row["valid_to"])
            )
    if not found and not faults:
        # Cut off behind its first line it would let every code pass.
        faults.append(f"line {number}: no code follows")
    if faults:
        raise CodeFileError(faults)
    return tuple(found.values())


def _check_header(number: int, columns: Sequence[str]) -> None:
    needed, known = set(REQUIRED_COLUMNS), set(COLUMNS)
    if len(set(columns)) != len(columns) or not needed <= set(columns) <= known:
        text = f"the first line must name the columns {','.join(REQUIRED_COLUMNS)} and may name valid_from,valid_to"
        raise CodeFileError([f"line {number}: {text}"])


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of the line they end on; empty and comment lines left out, a byte order mark too."""
    in_a_row = False

    def without_comments() -> Iterator[str]:
        # A comment is no CSV, whatever quotes are in it; inside a quoted cell that goes on, # begins nothing.
        nonlocal in_a_row
        for line in io.StringIO(text.removeprefix("\ufeff"), newline=""):
            is_comment = not in_a_row and line.lstrip().startswith("#")
            in_a_row = True
            yield "\n" if is_comment else line

    reader = csv.reader(without_comments(), strict=True)
    try:
        for cells in reader:
            in_a_row = False
            # A spreadsheet quotes a comment with commas in it.
            if any(cell.strip() for cell in cells) and not cells[0].lstrip().startswith("#"):
                yield reader.line_num, cells
    except csv.Error as error:
        raise CodeFileError([f"line {reader.line_num}: not CSV: {error}"]) from error


def _faults(row: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong) of one line."""
    attribute, code = row["attribute"], row["code"]
    if attribute == _MIME_TYPE:
        if not is_mime_type(code):
            yield "code", f"{_shown(code)} is no mime type; write type/subtype without parameters"
        if row["scheme"]:
            yield "scheme", "a mimeType has no scheme"
    elif attribute not in CODED_ATTRIBUTES:
        allowed = ", ".join(sorted({_MIME_TYPE, *CODED_ATTRIBUTES}))
        yield "attribute", f"{_shown(attribute)} is no coded attribute; allowed: {allowed}"
    elif not row["scheme"]:
        yield "scheme", "the scheme is missing"
    if not code:
        yield "code", "the code is missing"
    if not row["display_name"] and attribute != _MIME_TYPE:
        yield "display_name", "the name is missing"
    for column in ("code", "scheme"):
        if len(row[column]) > _LONGEST:
            yield column, f"longer than {_LONGEST} characters"
    yield from _date_faults(row["valid_from"], row["valid_to"])


def _date_faults(valid_from: str, valid_to: str) -> Iterator[tuple[str, str]]:
    bad = False
    for column, text in (("valid_from", valid_from), ("valid_to", valid_to)):
        try:
            _day(text)
        except ValueError:
            bad = True
            yield column, "must be a day YYYY-MM-DD or empty"
    if not bad and valid_from and valid_to and valid_from > valid_to:
        yield "valid_from", "is later than valid_to"


def _day(text: str) -> str | None:
    """YYYYMMDD of YYYY-MM-DD, ``None`` of nothing."""
    if not text:
        return None
    if len(text) != len("YYYY-MM-DD") or text[4] != "-" or text[7] != "-":
        raise ValueError("not YYYY-MM-DD")
    return date.fromisoformat(text).strftime("%Y%m%d")
