"""A Document Source: files and a few words become an ITI-41 submission (ITI TF-3: 4.2; TF-2: 3.41).

Codes are given by their code alone; the code file says which scheme and name belong to it. What is not given has a
default that a reader can foresee: see ``Wishes``.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from ihe import vocabulary as v
from ihe.affinity_domain import AffinityDomain, AgreedCode
from ihe.datatypes import CX, XCN, XON, parse_xcn, print_cx, print_xcn, print_xon
from ihe.ebrim import write_object
from ihe.ebrs import submit_objects_request
from ihe.mtom import xop_include
from ihe.registry_objects import Classification, ExternalIdentifier, Kind, LocalizedString, RegistryObject, Slot
from wire.client import OutPart

__all__ = ["Codebook", "Document", "Submission", "UnknownCode", "Wishes", "compose", "guess_mime_type", "measure"]

BLOCK: Final = 2**20
MIME_TYPES: Final = {
    ".xml": "text/xml",
    ".cda": "text/xml",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".gif": "image/gif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".dcm": "application/dicom",
    ".hl7": "application/x-hl7",
}
SUFFIXES: Final = {mime: suffix for suffix, mime in reversed(MIME_TYPES.items())}

LABORATORY, SUMMARY, DISCHARGE, IMAGING = "11502-2", "60591-5", "18842-5", "18748-4"
PROCEDURE, CARE_PLAN, ADMINISTRATION, RECORD = "371525003", "734163000", "405624007", "184216000"
# The class a type belongs to, where it is not a class itself.
CLASS_OF_TYPE: Final = {
    "26436-6": LABORATORY,
    "11526-1": LABORATORY,
    "34105-7": DISCHARGE,
    "445300006": DISCHARGE,
    "11528-7": IMAGING,
    "4201000179104": IMAGING,
    "28570-0": PROCEDURE,
    "11488-4": PROCEDURE,
    "11504-8": PROCEDURE,
    "11506-3": PROCEDURE,
    "773130005": CARE_PLAN,
    "445418005": CARE_PLAN,
    "772786005": ADMINISTRATION,
    "benefits-summary": ADMINISTRATION,
    "11369-6": RECORD,
    "56445-0": "57833-6",
    "42348-3": "371538006",
    "722446000": "722216001",
}
SUFFICIENT: Final = "urn:ihe:iti:xds:2017:mimeTypeSufficient"
# The usual format of an XML document of this class; anything else says all by its mime type.
FORMAT_OF_XML: Final = {
    LABORATORY: "urn:ihe:lab:xd-lab:2008",
    SUMMARY: "urn:epSOS:ps:ps:2010",
    "57833-6": "urn:epSOS:ep:pre:2010",
}
PRACTICE_OF_CLASS: Final = {LABORATORY: "708184003", IMAGING: "394914008"}
GENERAL_PRACTICE, HOSPITAL = "394802001", "22232009"


class UnknownCode(ValueError):  # noqa: N818 - an outcome the caller tells as a line
    """A code the affinity domain has not agreed on; the text names the attribute and what is near."""


@dataclass(frozen=True, slots=True)
class Codebook:
    """The code file, asked by code alone."""

    domain: AffinityDomain

    def find(self, attribute: str, wanted: str) -> AgreedCode:
        """``code`` or ``code^^scheme`` (also ``code^scheme``); UnknownCode when there is none or more than one."""
        code, *rest = wanted.strip().split("^")
        scheme = rest[-1] if rest else None
        if attribute not in self.domain.codes:
            if scheme is None:
                raise UnknownCode(f"{attribute}: the code file does not restrict it, so give code^^scheme")
            return AgreedCode(attribute, code, scheme, code)
        found = [
            one
            for (name, value, its_scheme), one in self.domain.agreed.items()
            if name == attribute and value == code and scheme in (None, its_scheme)
        ]
        if not found:
            raise UnknownCode(f"{attribute}: {wanted} is not in the code file{self._near(attribute, code)}")
        if len(found) > 1:
            schemes = ", ".join(sorted(one.scheme for one in found))
            raise UnknownCode(f"{attribute}: {code} stands in several schemes ({schemes}); give code^^scheme")
        return found[0]

    def has(self, attribute: str, code: str) -> bool:
        """Whether the attribute has this code in any scheme."""
        return any(pair[0] == code for pair in self.domain.codes.get(attribute, ()))

    def first(self, attribute: str, *wishes: str) -> AgreedCode:
        """The first of the wishes that the code file has, else its first code."""
        for wish in wishes:
            if self.has(attribute, wish):
                return self.find(attribute, wish)
        codes = [one for (name, _code, _scheme), one in self.domain.agreed.items() if name == attribute]
        if not codes:
            raise UnknownCode(f"{attribute}: the code file does not restrict it, so give code^^scheme")
        return codes[0]

    def _near(self, attribute: str, text: str) -> str:
        """Codes whose name holds what was asked for, at most five."""
        names = [
            f"{one.code} ({one.display_name})"
            for (name, _code, _scheme), one in self.domain.agreed.items()
            if name == attribute and text.lower() in one.display_name.lower()
        ]
        return f"; perhaps {', '.join(names[:5])}" if names else ""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person at the keyboard said; ``None`` takes the default.

    Defaults: class by type; format by class and mime type; mime type by suffix; title the file's name; facility a
    hospital; practice setting by class, else general; confidentiality N; created when the file last changed.
    """

    patient: CX
    type_code: str
    class_code: str | None = None
    format_code: str | None = None
    facility: str | None = None
    practice: str | None = None
    confidentiality: str = "N"
    content_type: str | None = None
    title: str | None = None
    author: str | None = None
    institution: str | None = None
    language: str = "en"
    mime_type: str | None = None
    created: str | None = None
    replace: str | None = None
    comments: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One file to be submitted: ``size`` in bytes, ``sha1`` lower-case hex, ``changed`` UTC."""

    path: Path
    size: int
    sha1: str
    changed: datetime


@dataclass(frozen=True, slots=True)
class Submission:
    """A finished ITI-41 request: ``body`` and ``parts`` for the wire, and what to tell of it."""

    body: bytes
    parts: tuple[OutPart, ...]
    submission_set_unique_id: str
    documents: tuple[dict[str, object], ...]


def guess_mime_type(path: Path) -> str | None:
    """By suffix; ``None`` when the suffix says nothing."""
    return MIME_TYPES.get(path.suffix.lower())


def measure(path: Path, advance: Callable[[int], None]) -> Document:
    """Read the file once for its size and SHA-1, so that the repository can tell a damaged transfer."""
    digest = hashlib.sha1(usedforsecurity=False)
    size = 0
    for block in _blocks(path, advance):
        digest.update(block)
        size += len(block)
    return Document(path, size, digest.hexdigest(), datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _blocks(path: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
            advance(len(block))


def compose(
    documents: Sequence[Document],
    wishes: Wishes,
    codes: Codebook,
    *,
    now: datetime,
    advance: Callable[[int], None],
    new_uuid: Callable[[], uuid.UUID] = uuid.uuid4,
) -> Submission:
    """Build the request; the files are read again, and ``advance`` told, when the parts are sent."""
    entries = [_entry(document, wishes, codes, new_uuid) for document in documents]
    submission_set = _submission_set(wishes, codes, now, new_uuid)
    links = [_link(v.HAS_MEMBER, submission_set.id, entry.id, new_uuid, original=True) for entry in entries]
    if wishes.replace:
        links.append(_link(v.RPLC, entries[0].id, wishes.replace, new_uuid))
    parts = tuple(_part(d, e, new_uuid, advance) for d, e in zip(documents, entries, strict=True))
    return Submission(
        body=_provide_and_register([*entries, submission_set, *links], entries, parts),
        parts=parts,
        submission_set_unique_id=submission_set.identifier(v.SUBMISSION_SET_UNIQUE_ID) or "",
        documents=tuple(
            {
                "file": str(d.path),
                "unique_id": e.identifier(v.ENTRY_UNIQUE_ID),
                "entry_uuid": e.id,
                "mime_type": e.mime_type,
                "size": d.size,
                "hash": d.sha1,
            }
            for d, e in zip(documents, entries, strict=True)
        ),
    )


def _new_oid(new_uuid: Callable[[], uuid.UUID]) -> str:
    """ISO/IEC 9834-8: an OID made of a UUID, at most 44 characters."""
    return f"2.25.{new_uuid().int}"


def _urn(new_uuid: Callable[[], uuid.UUID]) -> str:
    return f"urn:uuid:{new_uuid()}"


def _part(
    document: Document, entry: RegistryObject, new_uuid: Callable[[], uuid.UUID], advance: Callable[[int], None]
) -> OutPart:
    content_id = f"{new_uuid()}@dossier"
    mime_type = entry.mime_type or "application/octet-stream"
    return OutPart(content_id, mime_type, lambda: _blocks(document.path, advance), document.size)


def _provide_and_register(
    objects: Sequence[RegistryObject], entries: Sequence[RegistryObject], parts: Sequence[OutPart]
) -> bytes:
    root = "xdsb:ProvideAndRegisterDocumentSetRequest"
    rows = "".join(
        f"<xdsb:Document id={quoteattr(entry.id or '')}>{xop_include(part.content_id).decode()}</xdsb:Document>"
        for entry, part in zip(entries, parts, strict=True)
    )
    submit = submit_objects_request(write_object(one) for one in objects)
    return f'<{root} xmlns:xdsb="{v.XDSB}">'.encode() + submit + f"{rows}</{root}>".encode()


def _text(value: str) -> tuple[LocalizedString, ...]:
    return (LocalizedString(value),)


def _code(scheme: str, parent: str, code: AgreedCode, new_uuid: Callable[[], uuid.UUID]) -> Classification:
    return Classification(
        id=_urn(new_uuid),
        scheme=scheme,
        node=None,
        classified_object=parent,
        node_representation=code.code,
        name=_text(code.display_name or code.code),
        slots=(Slot("codingScheme", (code.scheme,)),),
    )


def _identifier(
    scheme: str, parent: str, name: str, value: str, new_uuid: Callable[[], uuid.UUID]
) -> ExternalIdentifier:
    return ExternalIdentifier(_urn(new_uuid), scheme, parent, value, _text(name))


def _authors(wishes: Wishes, scheme: str, parent: str, new_uuid: Callable[[], uuid.UUID]) -> tuple[Classification, ...]:
    """Nothing when nobody was named: an author with nothing in it would be refused."""
    slots = []
    if wishes.author:
        slots.append(Slot("authorPerson", (print_xcn(named_person(wishes.author)),)))
    if wishes.institution:
        slots.append(Slot("authorInstitution", (print_xon(XON(wishes.institution)),)))
    if not slots:
        return ()
    return (Classification(_urn(new_uuid), scheme, None, parent, "", slots=tuple(slots)),)


def named_person(text: str) -> XCN:
    """``id^family^given…`` as it is, ``Family, Given`` or ``Given Family`` taken apart; ``ValueError`` for nobody."""
    if "^" in text:
        return parse_xcn(text)
    if "," in text:
        family, _, given = text.partition(",")
    else:
        given, _, family = text.rpartition(" ")
    return XCN(None, family.strip(), given.strip() or None)


def _entry(document: Document, wishes: Wishes, codes: Codebook, new_uuid: Callable[[], uuid.UUID]) -> RegistryObject:
    me = _urn(new_uuid)
    mime_type = wishes.mime_type or guess_mime_type(document.path)
    if mime_type is None:
        raise UnknownCode(f"mimeType: the suffix of {document.path.name} says nothing; give --mime")
    patient = print_cx(wishes.patient)
    created = wishes.created or document.changed.strftime("%Y%m%d%H%M%S")
    slots = {
        "creationTime": created,
        "languageCode": wishes.language,
        "sourcePatientId": patient,
        "size": str(document.size),
        "hash": document.sha1,
    }
    coded = _entry_codes(wishes, mime_type, codes)
    return RegistryObject(
        kind=Kind.DOCUMENT_ENTRY,
        id=me,
        object_type=v.STABLE,
        mime_type=mime_type,
        name=_text(wishes.title or document.path.stem),
        description=_text(wishes.comments) if wishes.comments else (),
        slots=tuple(Slot(name, (value,)) for name, value in slots.items()),
        classifications=(
            *_authors(wishes, v.ENTRY_AUTHOR, me, new_uuid),
            *(_code(scheme, me, code, new_uuid) for scheme, code in coded),
        ),
        external_identifiers=(
            _identifier(v.ENTRY_PATIENT_ID, me, "XDSDocumentEntry.patientId", patient, new_uuid),
            _identifier(v.ENTRY_UNIQUE_ID, me, "XDSDocumentEntry.uniqueId", _new_oid(new_uuid), new_uuid),
        ),
    )


def _entry_codes(wishes: Wishes, mime_type: str, codes: Codebook) -> list[tuple[str, AgreedCode]]:
    """Classification scheme and code of each coded attribute, given or by default."""

    def choose(attribute: str, given: str | None, *defaults: str) -> AgreedCode:
        return codes.find(attribute, given) if given else codes.first(attribute, *defaults)

    type_code = codes.find("typeCode", wishes.type_code)
    default_class = CLASS_OF_TYPE.get(type_code.code, type_code.code)
    if wishes.class_code is None and "classCode" in codes.domain.codes and not codes.has("classCode", default_class):
        raise UnknownCode(f"classCode: none is known for type {type_code.code}; give --class")
    class_code = choose("classCode", wishes.class_code, default_class)
    default_format = FORMAT_OF_XML.get(class_code.code, SUFFICIENT) if mime_type == "text/xml" else SUFFICIENT
    return [
        (v.ENTRY_CLASS, class_code),
        (v.ENTRY_TYPE, type_code),
        (v.ENTRY_FORMAT, choose("formatCode", wishes.format_code, default_format, SUFFICIENT)),
        (v.ENTRY_CONFIDENTIALITY, codes.find("confidentialityCode", wishes.confidentiality)),
        (v.ENTRY_FACILITY_TYPE, choose("healthcareFacilityTypeCode", wishes.facility, HOSPITAL)),
        (
            v.ENTRY_PRACTICE_SETTING,
            choose(
                "practiceSettingCode", wishes.practice, PRACTICE_OF_CLASS.get(class_code.code, ""), GENERAL_PRACTICE
            ),
        ),
    ]


def _submission_set(
    wishes: Wishes, codes: Codebook, now: datetime, new_uuid: Callable[[], uuid.UUID]
) -> RegistryObject:
    me = _urn(new_uuid)
    wished = wishes.content_type
    content_type = codes.find("contentTypeCode", wished) if wished else codes.first("contentTypeCode", HOSPITAL)
    source = codes.domain.home_community_id.removeprefix("urn:oid:") + ".1"
    marker = Classification(_urn(new_uuid), None, v.NODE_SUBMISSION_SET, me, None)
    return RegistryObject(
        kind=Kind.SUBMISSION_SET,
        id=me,
        name=_text(wishes.title) if wishes.title else (),
        slots=(Slot("submissionTime", (now.strftime("%Y%m%d%H%M%S"),)),),
        classifications=(
            *_authors(wishes, v.SUBMISSION_SET_AUTHOR, me, new_uuid),
            _code(v.SUBMISSION_SET_CONTENT_TYPE, me, content_type, new_uuid),
            marker,
        ),
        external_identifiers=(
            _identifier(
                v.SUBMISSION_SET_PATIENT_ID, me, "XDSSubmissionSet.patientId", print_cx(wishes.patient), new_uuid
            ),
            _identifier(v.SUBMISSION_SET_SOURCE_ID, me, "XDSSubmissionSet.sourceId", source, new_uuid),
            _identifier(v.SUBMISSION_SET_UNIQUE_ID, me, "XDSSubmissionSet.uniqueId", _new_oid(new_uuid), new_uuid),
        ),
    )


def _link(
    kind: str, source: str | None, target: str | None, new_uuid: Callable[[], uuid.UUID], *, original: bool = False
) -> RegistryObject:
    return RegistryObject(
        kind=Kind.ASSOCIATION,
        id=_urn(new_uuid),
        type=kind,
        source=source,
        target=target,
        slots=(Slot("SubmissionSetStatus", ("Original",)),) if original else (),
    )
