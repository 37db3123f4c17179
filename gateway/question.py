"""A stored query as a gateway sees it: where it belongs, and the bytes to hand on (ITI TF-2: 3.18.4.1.2, 3.38.4.1.2).

A gateway judges no parameter: what it does not know it hands on like what it knows. AdhocQuery/@home alone is handed on
as it is written on the wire, for others compare it as it stands; a blank one is none.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from lxml import etree

from ihe import vocabulary as v
from ihe.datatypes import normalise_oid_urn, parse_cx, print_cx
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.named import NamedQuery, query_named

__all__ = ["ForPatient", "Question", "for_patient", "read_question"]

_QUERY, _SLOT = f"{{{v.RIM}}}AdhocQuery", f"{{{v.RIM}}}Slot"
_VALUE: Final = f"{{{v.RIM}}}Value"

PATIENT_PARAMETERS: Final = frozenset(
    {"$XDSDocumentEntryPatientId", "$XDSSubmissionSetPatientId", "$XDSFolderPatientId", "$patientId"}
)
PATIENT_QUERIES: Final = frozenset(
    {
        "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",  # FindDocuments
        "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9",  # FindSubmissionSets
        "urn:uuid:958f3006-baad-4929-a4de-ff1114824431",  # FindFolders
        "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3",  # GetAll
        "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492",  # FindDocumentsByReferenceId
    }
)
"""Queries by patient: the home may be left out. Others that name a patient are taken for one, too."""

_QUOTED: Final = re.compile(r"'((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True)
class ForPatient:
    """The query around the place where its patient stands; ``patient_id`` is the CX that stood there."""

    patient_id: str
    head: bytes
    tail: bytes

    def asked(self, patient_id: str) -> bytes:
        """The same query about the patient with this CX."""
        quoted = "'" + patient_id.replace("'", "''") + "'"
        return self.head + escape(quoted).encode() + self.tail


@dataclass(frozen=True, slots=True)
class Question:
    """A query; ``text`` is the whole AdhocQueryRequest as it came, ``home`` as sent (``None`` if absent or empty).

    ``handed_on`` is what others are asked with.
    """

    named: NamedQuery
    home: str | None
    about_patient: bool
    text: bytes
    handed_on: bytes

    @property
    def query_id(self) -> str | None:
        """The id of the stored query, as sent."""
        return self.named.query_id


def read_question(body: Any) -> Question:
    """Of an AdhocQueryRequest, right or not; raises nothing."""
    named = query_named(body)
    about_patient = (named.query_id or "").lower() in PATIENT_QUERIES or bool(_patient_slots(body))
    text = _text(body)
    with _home_for_the_wire(body) as changed:
        handed_on = _text(body) if changed else text
    return Question(named, (named.home or "").strip() or None, about_patient, text, handed_on)


def _text(element: Any) -> bytes:
    text: bytes = etree.tostring(element, encoding="UTF-8", with_tail=False)
    return text


@contextmanager
def _home_for_the_wire(body: Any) -> Iterator[bool]:
    """AdhocQuery/@home as ``urn:oid:``, gone where it is blank; whether that changes anything. Afterwards as it was."""
    query = body.find(_QUERY)
    sent = None if query is None else query.get("home")
    home = normalise_oid_urn(sent or "") or None
    if sent == home:
        yield False
        return
    before = dict(query.attrib)
    if home is None:
        del query.attrib["home"]
    else:
        query.set("home", home)
    try:
        yield True
    finally:
        query.attrib.clear()
        query.attrib.update(before)


def _patient_slots(body: Any) -> list[Any]:
    query = body.find(_QUERY)
    slots = () if query is None else query.iterchildren(_SLOT)
    return [slot for slot in slots if (slot.get("name") or "").strip() in PATIENT_PARAMETERS]


def for_patient(body: Any) -> ForPatient:
    """The place of the patient in a query by patient. Raises Rejected where there is not exactly one."""
    slots = _patient_slots(body)
    values = [value for slot in slots for value in slot.iter(_VALUE)]
    texts = [text for value in values for text in _texts(value.text or "")]
    if not texts:
        raise _rejected(ErrorCode.STORED_QUERY_MISSING_PARAM, "a query by patient names the patient")
    name = slots[0].get("name").strip()
    if len(texts) > 1 or len(slots) > 1:
        raise _rejected(ErrorCode.STORED_QUERY_PARAM_NUMBER, f"{name} names one patient")
    try:
        patient_id = print_cx(parse_cx(texts[0]))
    except ValueError as error:
        raise _rejected(ErrorCode.REGISTRY_ERROR, f"{name}: {error}") from error
    mark = secrets.token_hex(16)
    at = next(value for value in values if _texts(value.text or ""))
    stood, at.text = at.text, mark
    with _home_for_the_wire(body):
        head, _, tail = _text(body).partition(mark.encode())
    at.text = stood
    return ForPatient(patient_id, head, tail)


def _texts(value: str) -> list[str]:
    """The coded values of one Value element; a lenient sender leaves the quotes out."""
    quoted = [text.replace("''", "'") for text in _QUOTED.findall(value)]
    return quoted or ([value.strip()] if value.strip() else [])


def _rejected(code: ErrorCode, text: str) -> Rejected:
    return Rejected((RegistryError(code, text),))
