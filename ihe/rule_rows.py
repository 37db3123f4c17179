"""Presence and format of every attribute, as rows (ITI TF-3: Tables 4.2.3.2-1, 4.2.3.3-1, 4.2.3.4-1; ITI-42, ITI-61).

Hold a table beside the framework's: attribute, where ebRIM keeps it, how often, of which type. Without rows, since
nothing about them can be wrong in a submission: comments, availabilityStatus, version (set by the registry).
``how_often`` reads ``1``, ``0..1``, ``0..*``, ``1..*`` or ``0`` (forbidden); ``on_demand`` where ITI-61 differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from ihe import datatypes as d
from ihe import vocabulary as v
from ihe.registry_objects import Kind


class Place(StrEnum):
    """Where ebRIM keeps an attribute; in brackets what ``Row.key`` then is."""

    XML = "XML attribute"  # (field of RegistryObject)
    NAME = "Name"  # (unused)
    SLOT = "Slot"  # (slot name)
    CODE = "Classification"  # (classification scheme)
    AUTHOR = "author Classification"  # (classification scheme)
    IDENTIFIER = "ExternalIdentifier"  # (identification scheme)


@dataclass(frozen=True, slots=True)
class Datatype:
    """``parse`` raises ValueError for what is never accepted, ``strict`` for what the strictness setting decides.

    ``normalise`` gives the value the one writing it is kept in; it never fails.
    """

    name: str
    parse: Callable[[str], object]
    normalise: Callable[[str], str] = str.strip
    strict: Callable[[str], object] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of one kind of object; ``longest`` in characters."""

    attribute: str
    place: Place
    key: str
    how_often: str
    type: Datatype | None = None
    longest: int | None = None
    on_demand: str | None = None


def _must(holds: Callable[[str], bool], allowed: str) -> Callable[[str], object]:
    def parse(text: str) -> str:
        if not holds(text):
            raise ValueError(f"allowed is {allowed}")
        return text

    return parse


def _recipient(text: str) -> None:
    organisation, person, contact = ([*text.split("|"), "", ""])[:3]
    if text.count("|") > 2 or not (organisation or person or contact):
        raise ValueError("allowed is XON|XCN|XTN with at least one of the three filled")
    for part, parse in ((organisation, d.parse_xon), (person, d.parse_xcn), (contact, d.parse_xtn)):
        if part:
            parse(part)


def _complete_organisation(text: str) -> None:
    if not d.xon_is_complete(d.parse_xon(text)):
        raise ValueError("an id in component 10 that is no OID needs its authority in component 6: &OID&ISO")


def _recipient_normalised(text: str) -> str:
    return "|".join(d.normalise_components(part) for part in text.split("|")).rstrip("|") or text.strip()


TEXT: Final = Datatype("text", _must(bool, "a text that is not empty"))
OPAQUE: Final = Datatype("identifier", _must(bool, "an identifier that is not empty"))
OID: Final = Datatype(
    "OID", _must(d.is_oid, "an OID: digits and dots, first arc 0 to 2, at most 64 characters"), d.normalise_oid
)
OID_URN: Final = Datatype("OID URN", _must(d.is_oid_urn, "urn:oid: and an OID"), d.normalise_oid_urn)
ID: Final = Datatype(
    "id",
    _must(lambda text: d.is_symbolic(text) or d.is_uuid(text), "a symbolic id, or urn:uuid: and a UUID"),
    d.normalise_uuid,
)
LANGUAGE: Final = Datatype("language", _must(d.is_language_tag, "an RFC 5646 language tag such as fr or de-LU"))
MIME: Final = Datatype("mime type", _must(d.is_mime_type, "type/subtype"), d.normalise_mime_type)
SHA1: Final = Datatype("SHA-1", _must(d.is_sha1, "a SHA-1 of 40 hexadecimal digits"), d.normalise_sha1)
SIZE: Final = Datatype("size", _must(d.is_size, "a number of bytes, digits only, below 2^63"))
TIME: Final = Datatype("DTM", d.loose_dtm, strict=d.DTM)
PATIENT: Final = Datatype("CX", d.parse_cx, d.normalise_cx)
PERSON: Final = Datatype("XCN", d.parse_xcn, d.normalise_components)
ORGANISATION: Final = Datatype("XON", d.parse_xon, d.normalise_components, strict=_complete_organisation)
TELECOM: Final = Datatype("XTN", d.parse_xtn, d.normalise_components)
RECIPIENT: Final = Datatype("XON|XCN|XTN", _recipient, _recipient_normalised)
REFERENCE: Final = Datatype("CXi", d.parse_cxi, d.normalise_cxi, strict=d.strict_cxi)
PATIENT_INFO: Final = Datatype("PID field", _must(d.is_patient_field, "PID-n|value with the number of the field"))
AVAILABILITY: Final = Datatype(
    "URN",
    _must(
        lambda text: text in (v.AVAILABLE_ONLINE, v.AVAILABLE_OFFLINE), f"{v.AVAILABLE_ONLINE} or {v.AVAILABLE_OFFLINE}"
    ),
)
PACKAGE: Final = Datatype("URN", _must(lambda text: text == v.TYPE_REGISTRY_PACKAGE, v.TYPE_REGISTRY_PACKAGE))
ASSOCIATION: Final = Datatype("URN", _must(lambda text: text == v.TYPE_ASSOCIATION, v.TYPE_ASSOCIATION))
ENTRY_TYPE: Final = Datatype(
    "UUID",
    _must(lambda text: text in (v.STABLE, v.ON_DEMAND), f"{v.STABLE} (stable) or {v.ON_DEMAND} (on-demand)"),
    d.normalise_uuid,
)

# fmt: off
# The layout of these tables is their point: one attribute a line, columns as in the framework.
DOCUMENT_ENTRY: Final = (
    Row("author",                     Place.AUTHOR,     v.ENTRY_AUTHOR,           "0..*"),
    Row("classCode",                  Place.CODE,       v.ENTRY_CLASS,            "1"),
    Row("confidentialityCode",        Place.CODE,       v.ENTRY_CONFIDENTIALITY,  "1..*"),
    Row("creationTime",               Place.SLOT,       "creationTime",           "1", TIME, on_demand="0"),
    Row("documentAvailability",       Place.SLOT,       "documentAvailability",   "0..1", AVAILABILITY),
    Row("entryUUID",                  Place.XML,        "id",                     "1", ID),
    Row("eventCodeList",              Place.CODE,       v.ENTRY_EVENT,            "0..*"),
    Row("formatCode",                 Place.CODE,       v.ENTRY_FORMAT,           "1"),
    Row("hash",                       Place.SLOT,       "hash",                   "1", SHA1, on_demand="0"),
    Row("healthcareFacilityTypeCode", Place.CODE,       v.ENTRY_FACILITY_TYPE,    "1"),
    Row("homeCommunityId",            Place.XML,        "home",                   "0..1", OID_URN),
    Row("languageCode",               Place.SLOT,       "languageCode",           "1", LANGUAGE),
    Row("legalAuthenticator",         Place.SLOT,       "legalAuthenticator",     "0..1", PERSON),
    Row("mimeType",                   Place.XML,        "mime_type",              "1", MIME),
    Row("objectType",                 Place.XML,        "object_type",            "1", ENTRY_TYPE),
    Row("patientId",                  Place.IDENTIFIER, v.ENTRY_PATIENT_ID,       "1", PATIENT),
    Row("practiceSettingCode",        Place.CODE,       v.ENTRY_PRACTICE_SETTING, "1"),
    Row("referenceIdList",            Place.SLOT,       v.REFERENCE_ID_LIST,      "0..*", REFERENCE),
    Row("repositoryUniqueId",         Place.SLOT,       "repositoryUniqueId",     "1", OID),
    Row("serviceStartTime",           Place.SLOT,       "serviceStartTime",       "0..1", TIME),
    Row("serviceStopTime",            Place.SLOT,       "serviceStopTime",        "0..1", TIME),
    Row("size",                       Place.SLOT,       "size",                   "1", SIZE, on_demand="0"),
    Row("sourcePatientId",            Place.SLOT,       "sourcePatientId",        "1", PATIENT),
    Row("sourcePatientInfo",          Place.SLOT,       "sourcePatientInfo",      "0..*", PATIENT_INFO),
    Row("title",                      Place.NAME,       "",                       "0..1", longest=128),
    Row("typeCode",                   Place.CODE,       v.ENTRY_TYPE,             "1"),
    Row("uniqueId",                   Place.IDENTIFIER, v.ENTRY_UNIQUE_ID,        "1", OPAQUE),
    Row("URI",                        Place.SLOT,       "URI",                    "0..1", TEXT),
)

SUBMISSION_SET: Final = (
    Row("author",             Place.AUTHOR,     v.SUBMISSION_SET_AUTHOR,       "0..*"),
    Row("contentTypeCode",    Place.CODE,       v.SUBMISSION_SET_CONTENT_TYPE, "1"),
    Row("entryUUID",          Place.XML,        "id",                          "1", ID),
    Row("homeCommunityId",    Place.XML,        "home",                        "0..1", OID_URN),
    Row("intendedRecipient",  Place.SLOT,       "intendedRecipient",           "0..*", RECIPIENT),
    Row("objectType",         Place.XML,        "object_type",                 "0..1", PACKAGE),
    Row("patientId",          Place.IDENTIFIER, v.SUBMISSION_SET_PATIENT_ID,   "1", PATIENT),
    Row("sourceId",           Place.IDENTIFIER, v.SUBMISSION_SET_SOURCE_ID,    "1", OID),
    Row("submissionTime",     Place.SLOT,       "submissionTime",              "1", TIME),
    Row("title",              Place.NAME,       "",                            "0..1", longest=256),
    Row("uniqueId",           Place.IDENTIFIER, v.SUBMISSION_SET_UNIQUE_ID,    "1", OID),
)

FOLDER: Final = (
    Row("codeList",        Place.CODE,       v.FOLDER_CODE,       "1..*"),
    Row("entryUUID",       Place.XML,        "id",                "1", ID),
    Row("homeCommunityId", Place.XML,        "home",              "0..1", OID_URN),
    Row("lastUpdateTime",  Place.SLOT,       "lastUpdateTime",    "0..1", TIME),
    Row("objectType",      Place.XML,        "object_type",       "0..1", PACKAGE),
    Row("patientId",       Place.IDENTIFIER, v.FOLDER_PATIENT_ID, "1", PATIENT),
    Row("title",           Place.NAME,       "",                  "1", longest=256),
    Row("uniqueId",        Place.IDENTIFIER, v.FOLDER_UNIQUE_ID,  "1", OID),
)

ASSOCIATION_ROWS: Final = (
    Row("associationType",          Place.XML,  "type",                      "1", TEXT),
    Row("entryUUID",                Place.XML,  "id",                        "0..1", ID),
    Row("objectType",               Place.XML,  "object_type",               "0..1", ASSOCIATION),
    Row("sourceObject",             Place.XML,  "source",                    "1", ID),
    Row("targetObject",             Place.XML,  "target",                    "1", ID),
    Row("associationDocumentation", Place.CODE, v.ASSOCIATION_DOCUMENTATION, "0..1"),
)

AUTHOR: Final = (  # slots of an author's Classification
    Row("authorPerson",            Place.SLOT, "authorPerson",            "0..1", PERSON),
    Row("authorInstitution",       Place.SLOT, "authorInstitution",       "0..*", ORGANISATION),
    Row("authorTelecommunication", Place.SLOT, "authorTelecommunication", "0..*", TELECOM),
)
# fmt: on

AUTHOR_IS_ONE_OF: Final = ("authorPerson", "authorInstitution", "authorTelecommunication")
"""Slots of which an author has at least one (ITI TF-3: 4.2.3.1.4)."""

OBJECT_ROWS: Final[Mapping[Kind, tuple[Row, ...]]] = MappingProxyType(
    {
        Kind.DOCUMENT_ENTRY: DOCUMENT_ENTRY,
        Kind.SUBMISSION_SET: SUBMISSION_SET,
        Kind.FOLDER: FOLDER,
        Kind.ASSOCIATION: ASSOCIATION_ROWS,
        Kind.UNMARKED: (),
    }
)

ASSOCIATION_SLOTS: Final = frozenset(
    {"SubmissionSetStatus", "PreviousVersion", "AssociationPropagation", "OriginalStatus", "NewStatus"}
)

KNOWN_SLOTS: Final[Mapping[Kind, frozenset[str]]] = MappingProxyType(
    {
        kind: frozenset(row.key for row in rows if row.place is Place.SLOT)
        | (ASSOCIATION_SLOTS if kind is Kind.ASSOCIATION else frozenset())
        for kind, rows in OBJECT_ROWS.items()
    }
)
"""Slot names the framework defines; every other slot is extra metadata (ITI TF-3: 4.2.3.1.6)."""

UNIQUE_ID: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.DOCUMENT_ENTRY: v.ENTRY_UNIQUE_ID,
        Kind.SUBMISSION_SET: v.SUBMISSION_SET_UNIQUE_ID,
        Kind.FOLDER: v.FOLDER_UNIQUE_ID,
    }
)
PATIENT_ID: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.DOCUMENT_ENTRY: v.ENTRY_PATIENT_ID,
        Kind.SUBMISSION_SET: v.SUBMISSION_SET_PATIENT_ID,
        Kind.FOLDER: v.FOLDER_PATIENT_ID,
    }
)
