"""Judges one object by the rows of ``ihe.rule_rows`` (ITI TF-3: 4.2.3): how often, of which type, how long, agreed.

Every submission passes here, nearly always without a fault: nothing is built for a message before there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ihe import vocabulary as v
from ihe.affinity_domain import AffinityDomain
from ihe.datatypes import is_mime_type
from ihe.findings import Finding, finding, named
from ihe.registry_objects import Classification, RegistryObject, Slot
from ihe.rule_rows import AUTHOR_IS_ONE_OF, Datatype, Place, Row

_MANY: Final = 2**31
_BOUNDS: Final = {"0": (0, 0), "1": (1, 1), "0..1": (0, 1), "0..*": (0, _MANY), "1..*": (1, _MANY)}
_ALLOWED: Final = {"1": "exactly one", "0..1": "at most one", "1..*": "at least one"}


@dataclass(frozen=True, slots=True)
class Judge:
    """What an object is judged by: the agreement, the slots of an author, the day (YYYYMMDD) codes must be valid on.

    ``on_demand``: by the columns of ITI-61, of ITI-42, or (``None``) by those of the entry's own type.
    """

    domain: AffinityDomain
    author_rows: tuple[Row, ...]
    on_demand: bool | None
    day: str | None

    def object(self, obj: RegistryObject, rows: Sequence[Row]) -> list[Finding]:
        """Every fault of one object, in the order of the rows."""
        sheet = _Sheet(obj)
        slots, coded = _filled(obj.slots), obj.by_scheme()
        on_demand = obj.object_type == v.ON_DEMAND if self.on_demand is None else self.on_demand
        for row in rows:
            how_often = row.on_demand if on_demand and row.on_demand is not None else row.how_often
            match row.place:
                case Place.SLOT:
                    sheet.values(row, row.attribute, how_often, slots.get(row.key, ()))
                case Place.CODE:
                    codes = coded.get(row.key, ())
                    sheet.count(row, row.attribute, how_often, len(codes))
                    for one in codes:
                        self._code(sheet, row, one)
                case Place.AUTHOR:
                    for number, author in enumerate(coded.get(row.key, ()), 1):
                        self._author(sheet, row, number, author)
                case Place.IDENTIFIER:
                    _identifier(sheet, row, how_often, obj)
                case Place.NAME:
                    # one title in several languages is one title: the longest is judged
                    titles = sorted((text.value for text in obj.name if text.value.strip()), key=len)
                    sheet.values(row, row.attribute, how_often, titles[-1:])
                case Place.XML:
                    value: str | None = getattr(obj, row.key)
                    sheet.values(row, row.attribute, how_often, [value] if value and value.strip() else ())
                    if row.key == "mime_type":
                        self._mime_type(sheet, row, value)
        return sheet.found

    def _code(self, sheet: "_Sheet", row: Row, one: Classification) -> None:
        code = (one.node_representation or "").strip()
        schemes = _filled(one.slots).get("codingScheme", ())
        if not code:
            sheet.says(row, row.attribute, "nodeRepresentation (the code) is missing")
        if len(schemes) != 1:
            wrong = f"the slot codingScheme holds {len(schemes)} values; allowed is exactly one"
            sheet.says(row, row.attribute, wrong)
        if not any(text.value.strip() for text in one.name):
            sheet.says(row, row.attribute, "the display name (Name) of the code is missing", lenient=True)
        if code and len(schemes) == 1 and not self.domain.accepts_code(row.attribute, code, schemes[0], self.day):
            wrong = self.domain.why_not(row.attribute, code, schemes[0], self.day)
            sheet.says(row, row.attribute, wrong, lenient=True)

    def _mime_type(self, sheet: "_Sheet", row: Row, mime_type: str | None) -> None:
        if mime_type and is_mime_type(mime_type) and not self.domain.accepts_mime_type(mime_type, self.day):
            wrong = self.domain.why_not(row.attribute, mime_type, "", self.day)
            sheet.says(row, row.attribute, wrong, lenient=True)

    def _author(self, sheet: "_Sheet", row: Row, number: int, author: Classification) -> None:
        here = f"author {number}"
        if (author.node_representation or "").strip():
            sheet.says(row, here, "nodeRepresentation must be empty: an author is not a code")
        slots = _filled(author.slots)
        if not any(name in slots for name in AUTHOR_IS_ONE_OF):
            sheet.says(row, here, f"at least one of {', '.join(AUTHOR_IS_ONE_OF)} must be filled")
        for part in self.author_rows:
            sheet.values(part, f"{here}, {part.attribute}", part.how_often, slots.get(part.key, ()))


class _Sheet:
    """The faults of one object as they are found."""

    __slots__ = ("_obj", "found")

    def __init__(self, obj: RegistryObject) -> None:
        self._obj = obj
        self.found: list[Finding] = []

    def says(self, row: Row, attribute: str, wrong: str, *, lenient: bool = False) -> None:
        rule = f"{self._obj.kind}.{row.attribute}"
        self.found.append(finding(named(self._obj), attribute, wrong, rule, lenient=lenient))

    def count(self, row: Row, attribute: str, how_often: str, found: int) -> None:
        least, most = _BOUNDS[how_often]
        if found < least:
            self.says(row, attribute, f"is missing; required is {_ALLOWED[how_often]}")
        elif found > most:
            allowed = f"found {found}; allowed is {_ALLOWED[how_often]}" if most else "is not allowed in this entry"
            self.says(row, attribute, allowed)

    def values(self, row: Row, attribute: str, how_often: str, texts: Sequence[str]) -> None:
        self.count(row, attribute, how_often, len(texts))
        if how_often == "0" or not texts:
            return
        for number, text in enumerate(texts, 1):
            fault = None if row.type is None else _fault(row.type, text)
            too_long = row.longest is not None and len(text) > row.longest
            if fault is None and not too_long:
                continue
            numbered = attribute if len(texts) == 1 else f"{attribute}, value {number}"
            if fault is not None:
                reason, lenient = fault
                self.says(row, numbered, reason, lenient=lenient)
            if too_long:
                self.says(row, numbered, f"has {len(text)} characters; allowed are at most {row.longest}")


def _fault(datatype: Datatype, text: str) -> tuple[str, bool] | None:
    """What is wrong with a value, and whether only its writing is: then the strictness setting decides."""
    try:
        (datatype.strict or datatype.parse)(text)
    except ValueError as strict:
        reason, lenient = strict, False
        if datatype.strict is not None:
            try:
                datatype.parse(text)
                lenient = True
            except ValueError as always:
                reason = always
        return f"is no valid {datatype.name}: {reason}", lenient
    return None


def _filled(slots: Sequence[Slot]) -> Mapping[str, Sequence[str]]:
    """Values by slot name; empty values, and a slot repeated word by word, have rules of their own."""
    lists = {slot.name: slot.values for slot in slots}
    if len(lists) != len(slots):
        lists = _joined(slots)
    return {name: filled for name, values in lists.items() if (filled := [text for text in values if text.strip()])}


def _joined(slots: Sequence[Slot]) -> dict[str, tuple[str, ...]]:
    lists: dict[str, tuple[str, ...]] = {}
    for name, values in dict.fromkeys((slot.name, slot.values) for slot in slots):
        lists[name] = lists.get(name, ()) + values
    return lists


def _identifier(sheet: _Sheet, row: Row, how_often: str, obj: RegistryObject) -> None:
    identifiers = [one for one in obj.external_identifiers if one.scheme == row.key]
    name = f"XDS{obj.kind}.{row.attribute}"
    if any([text.value.strip() for text in one.name] != [name] for one in identifiers):
        sheet.says(row, row.attribute, f"the Name of this ExternalIdentifier must be {name}")
    values = [one.value for one in identifiers]
    # An empty one counts beside another: whoever reads takes the first, and it would hide the one that was judged.
    sheet.values(row, row.attribute, how_often, values if any(map(str.strip, values)) else ())
