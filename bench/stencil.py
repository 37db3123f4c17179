"""Stencils: a registration made once by the house's own code, cut where each copy differs, and copied many times.

A copy costs about a third of a registration: ids, unique ids, hash and times are put in, the fragment is compressed,
the lines go to COPY. What is copied is what ITI-42 would have written: ``registry.store.rows`` made every row of it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from random import Random
from typing import Any, Final

from bench.messages import LOINC, SNOMED, code, entry, membership, patient_id, submission_set
from ihe import transform
from ihe import vocabulary as v
from ihe.registry_objects import (
    Classification,
    ExternalIdentifier,
    Kind,
    LocalizedString,
    RegistryObject,
    Slot,
    SubmittedObjects,
)
from registry.identity import settled
from registry.store.fragments import Codec
from registry.store.protocol import Registration
from registry.store.rows import Rows

_HOLE: Final = re.compile(r"7777777700(\d{6})|200012312359(\d\d)")
"""What stands where copies differ: a number of our own, or a time of the document of that number."""

# type, its name, class, class name, practice setting
_KINDS: Final = (
    ("11502-2", "Laboratory report", "26436-6", "Laboratory studies", "708184003"),
    ("34105-7", "Hospital discharge summary", "18842-5", "Discharge summary", "394802001"),
    ("18748-4", "Diagnostic imaging report", "18748-4", "Imaging studies", "394914008"),
    ("57833-6", "Prescription", "57833-6", "Medication", "394802001"),
    ("11488-4", "Consultation note", "11488-4", "Consultation", "394579002"),
    ("60591-5", "Patient summary", "34133-9", "Summary", "394802001"),
    ("11369-6", "History of immunisation", "11369-6", "Immunisation", "408443003"),
    ("28570-0", "Procedure note", "28570-0", "Procedures", "394609007"),
)
_AUTHORS: Final = ("Weber^Anna", "Muller^Jean", "Schmit^Claire", "Hoffmann^Paul", "Wagner^Lea", "Thill^Marc")


class _Holes:
    """Hands out holes and remembers what each is for."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def digits(self, kind: str) -> str:
        self.kinds.append(kind)
        return f"7777777700{len(self.kinds) - 1:06d}"

    def uuid(self) -> str:
        return f"urn:uuid:{self.digits('uuid')}"

    def key(self) -> int:
        return int(self.digits("key"))


class _Uncompressed:
    """Stands in for the Codec while a stencil is made."""

    def __init__(self, number: int) -> None:
        self.number = number

    @staticmethod
    def compressed(fragment: bytes) -> bytes:
        return fragment


@dataclass(frozen=True, slots=True)
class _Cut:
    """A text with holes: ``text % pick(values)``."""

    text: str
    pick: Any

    @classmethod
    def of(cls, text: str, first_time: int) -> "_Cut":
        holes = [int(m[1]) if m[1] else first_time + int(m[2]) for m in _HOLE.finditer(text)]
        formatted = _HOLE.sub("%s", text.replace("%", "%%"))
        return cls(formatted, itemgetter(*holes) if holes else lambda _: ())

    def filled(self, values: Sequence[str]) -> str:
        return self.text % self.pick(values)


@dataclass(frozen=True, slots=True)
class _Line:
    table: str
    columns: tuple[str, ...]
    cells: _Cut
    fragment: _Cut | None


class Stencil:
    """The rows of one submission of ``documents`` documents; ``variant`` chooses what the documents are."""

    def __init__(self, documents: int, variant: int, codec: Codec) -> None:
        self.documents = documents
        self._codec = codec
        holes = _Holes()
        registration = _registration(documents, variant, holes)
        rows = Rows(registration, _Uncompressed(codec.number), holes.key)  # type: ignore[arg-type]
        made = [*rows.all(), ("unique_id_key", rows.unique_ids())]
        self._kinds = holes.kinds
        self.lines = [
            _line(getattr(table, "name", table), row, len(holes.kinds)) for table, some in made for row in some
        ]

    def copy(self, patient_key: int, first_key: int, chance: Random) -> Iterator[tuple[str, str]]:
        """(table, line for COPY) of one more submission like this, and keys from ``first_key`` on."""
        values = self._values(patient_key, first_key, chance)
        compressed = self._codec.compressed
        for line in self.lines:
            text = line.cells.filled(values)
            if line.fragment is not None:
                text += "\t\\\\x" + compressed(line.fragment.filled(values).encode()).hex()
            yield line.table, text + "\n"

    def _values(self, patient_key: int, first_key: int, chance: Random) -> list[str]:
        values: list[str] = []
        random = os.urandom(20 * len(self._kinds)).hex()
        for number, kind in enumerate(self._kinds):
            h = random[40 * number : 40 * number + 40]
            if kind == "uuid":
                values.append(f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}")
            elif kind == "key":
                values.append(str(first_key + number))
            elif kind == "patient":
                values.append(str(patient_key))
            elif kind == "sha1":
                values.append(h)
            else:
                values.append(str(int(h[:30], 16)))
        for _ in range(self.documents):
            year, month, day = chance.randint(2012, 2026), chance.randint(1, 12), chance.randint(1, 28)
            seconds = chance.randrange(86_400)
            values.append(f"{year}{month:02d}{day:02d}{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}")
        return values

    @property
    def keys(self) -> int:
        """How many keys a copy uses up, at most."""
        return len(self._kinds)


def columns_of(stencils: Sequence[Stencil]) -> dict[str, tuple[str, ...]]:
    """Columns of each table in the order of the lines."""
    return {line.table: line.columns for stencil in stencils for line in stencil.lines}


def _line(table: str, row: dict[str, Any], first_time: int) -> _Line:
    columns = tuple(name for name in row if name != "fragment")
    cells = _Cut.of("\t".join(_cell(row[name]) for name in columns), first_time)
    if "fragment" not in row:
        return _Line(table, columns, cells, None)
    return _Line(table, (*columns, "fragment"), cells, _Cut.of(row["fragment"].decode(), first_time))


def _cell(value: Any) -> str:
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _registration(documents: int, variant: int, holes: _Holes) -> Registration:
    patient = patient_id(0)
    named = [f"Document{number:02d}" for number in range(documents)]
    binders = [_binder(patient, variant, holes)] if variant % 6 == 0 else []
    entries = [_document(patient, symbol, variant + number, number, holes) for number, symbol in enumerate(named)]
    links = [replace(membership(), id=f"Link{number:02d}", target=symbol) for number, symbol in enumerate(named)]
    for binder in binders:
        links += [replace(membership(), id="Bound", target=binder.id)]
        links += [
            replace(membership(), id=f"In{symbol}", source=binder.id, target=symbol, slots=()) for symbol in named
        ]
        links += [replace(membership(), id=f"Has{symbol}", target=f"In{symbol}", slots=()) for symbol in named]
    chosen = submission_set(patient, f"2.25.{holes.digits('number')}")
    if variant % 2 == 0:
        person = Slot("authorPerson", (f"11375^{_AUTHORS[variant % len(_AUTHORS)]}^M^^Dr^^^&1.3.182.9.1&ISO",))
        author = Classification(None, v.SUBMISSION_SET_AUTHOR, None, None, "", slots=(person,))
        chosen = replace(chosen, classifications=(*chosen.classifications, author))
    objects = settled(SubmittedObjects((chosen, *entries, *binders, *links)), holes.uuid).objects
    ready, rest = objects[1 : 1 + documents], objects[1 + documents :]
    return Registration(
        now="20260304101112",
        patient_key=int(holes.digits("patient")),
        submission_set=(transform.submission_set(objects[0]), objects[0]),
        entries=tuple((transform.document_entry(one), one) for one in ready),
        folders=tuple((transform.folder(one), one) for one in rest[: len(binders)]),
        associations=tuple((transform.association(one), one) for one in rest[len(binders) :]),
    )


def _document(patient: str, symbol: str, variant: int, number: int, holes: _Holes) -> RegistryObject:
    kind, name, class_code, class_name, practice = _KINDS[variant % len(_KINDS)]
    size = 4_000 + variant * 7_919 % 900_000
    one = entry(patient, f"2.25.{holes.digits('number')}", size, holes.digits("sha1"), symbol)
    coded = {
        v.ENTRY_TYPE: (kind, LOINC, name),
        v.ENTRY_CLASS: (class_code, LOINC, class_name),
        v.ENTRY_PRACTICE_SETTING: (practice, SNOMED, "Practice setting"),
    }
    time = f"200012312359{number:02d}"
    times = dict.fromkeys(("creationTime", "serviceStartTime", "serviceStopTime"), time)
    times["sourcePatientId"] = f"{holes.digits('number')}^^^&1.3.182.4.4&ISO"
    slots = tuple(Slot(s.name, (times[s.name],)) if s.name in times else s for s in one.slots)
    if variant % 8 == 0:
        order = f"{holes.digits('number')}^^^&1.3.182.9.4&ISO^urn:ihe:iti:xds:2013:order"
        slots += (Slot(v.REFERENCE_ID_LIST, (order,)),)
    classifications = tuple(_coded(c, coded, _AUTHORS[variant % len(_AUTHORS)]) for c in one.classifications)
    if variant % 4 == 0:
        classifications += (code(v.ENTRY_EVENT, "T-D0010", "2.16.840.1.113883.6.5", "Whole body"),)
    return replace(
        one,
        name=(LocalizedString(name, "en-us", "UTF-8"),),
        slots=slots,
        classifications=classifications,
    )


def _binder(patient: str, variant: int, holes: _Holes) -> RegistryObject:
    """A Folder as those of an episode of care."""
    named = (
        (v.FOLDER_PATIENT_ID, patient, "XDSFolder.patientId"),
        (v.FOLDER_UNIQUE_ID, f"2.25.{holes.digits('number')}", "XDSFolder.uniqueId"),
    )
    kind, name, *_ = _KINDS[variant % len(_KINDS)]
    return RegistryObject(
        Kind.FOLDER,
        "Folder",
        name=(LocalizedString(f"Episode: {name}", "en-us", "UTF-8"),),
        classifications=(
            Classification(None, None, v.NODE_FOLDER, None, None),
            code(v.FOLDER_CODE, kind, LOINC, name),
        ),
        external_identifiers=tuple(
            ExternalIdentifier(None, scheme, None, value, (LocalizedString(shown, "en-us", "UTF-8"),))
            for scheme, value, shown in named
        ),
    )


def _coded(found: Classification, coded: dict[str, tuple[str, str, str]], author: str) -> Classification:
    if found.scheme == v.ENTRY_AUTHOR:
        person = Slot("authorPerson", (f"11375^{author}^M^^Dr^^^&1.3.182.9.1&ISO",))
        return replace(found, slots=tuple(person if s.name == person.name else s for s in found.slots))
    if found.scheme not in coded:
        return found
    code, scheme, name = coded[found.scheme]
    return replace(
        found,
        node_representation=code,
        name=(LocalizedString(name, "en-us", "UTF-8"),),
        slots=(Slot("codingScheme", (scheme,)),),
    )
