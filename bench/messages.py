"""Messages for the benchmarks: made once with the house's own writers, unique numbers put in by the load generator."""

from dataclasses import replace

from bench.load import MARK
from ihe import ebrs, soap
from ihe import vocabulary as v
from ihe.ebrim import write_object
from ihe.registry_objects import Classification, ExternalIdentifier, Kind, LocalizedString, RegistryObject, Slot
from ihe.transactions import ITI_18, ITI_41, ITI_42, Transaction

AUTHORITY = "1.3.6.1.4.1.21367.2011.2.5.9999"
REPOSITORY = "1.3.6.1.4.1.21367.2011.2.3.9999"
LOINC, SNOMED = "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
UNIQUE = MARK.decode()


def patient_id(number: int) -> str:
    return f"BENCH-{number}^^^&{AUTHORITY}&ISO"


def _text(value: str) -> tuple[LocalizedString, ...]:
    return (LocalizedString(value, "en-us", "UTF-8"),)


def code(scheme: str, value: str, coding: str, name: str) -> Classification:
    """A coded attribute."""
    return Classification(None, scheme, None, None, value, _text(name), (), (Slot("codingScheme", (coding,)),))


def entry(patient: str, unique_id: str, size: int, sha1: str, symbol: str = "Document01") -> RegistryObject:
    """A laboratory report of about 8 kB as XML, like those of the field."""
    author = Classification(
        None,
        v.ENTRY_AUTHOR,
        None,
        None,
        "",
        slots=(
            Slot("authorPerson", ("11375^Weber^Anna^M^^Dr^^^&1.3.182.9.1&ISO",)),
            Slot("authorInstitution", ("Example Laboratory^^^^^&1.3.182.9.2&ISO^^^^77",)),
            Slot("authorRole", ("Laboratory physician",)),
            Slot("authorSpecialty", ("Clinical chemistry",)),
        ),
    )
    slots = {
        "creationTime": "20260304101112",
        "hash": sha1,
        "languageCode": "fr-LU",
        "repositoryUniqueId": REPOSITORY,
        "serviceStartTime": "20260303080000",
        "serviceStopTime": "20260303081500",
        "size": str(size),
        "sourcePatientId": "89765^^^&1.3.182.4.4&ISO",
    }
    return RegistryObject(
        Kind.DOCUMENT_ENTRY,
        symbol,
        object_type=v.STABLE,
        mime_type="application/pdf",
        name=_text("Laboratory report"),
        slots=(
            *(Slot(name, (value,)) for name, value in slots.items()),
            Slot("sourcePatientInfo", ("PID-5|Muster^Marie^^^", "PID-7|19560527", "PID-8|F")),
        ),
        classifications=(
            author,
            code(v.ENTRY_CLASS, "11502-2", LOINC, "Laboratory report"),
            code(v.ENTRY_CONFIDENTIALITY, "N", "2.16.840.1.113883.5.25", "normal"),
            code(v.ENTRY_FORMAT, "urn:ihe:iti:xds-sd:pdf:2008", "1.3.6.1.4.1.19376.1.2.3", "PDF"),
            code(v.ENTRY_FACILITY_TYPE, "22232009", SNOMED, "Hospital"),
            code(v.ENTRY_PRACTICE_SETTING, "708184003", SNOMED, "Laboratory medicine"),
            code(v.ENTRY_TYPE, "11502-2", LOINC, "Laboratory report"),
        ),
        external_identifiers=(
            ExternalIdentifier(None, v.ENTRY_PATIENT_ID, None, patient, _text("XDSDocumentEntry.patientId")),
            ExternalIdentifier(None, v.ENTRY_UNIQUE_ID, None, unique_id, _text("XDSDocumentEntry.uniqueId")),
        ),
    )


def submission_set(patient: str, unique_id: str) -> RegistryObject:
    identifiers = (
        (v.SUBMISSION_SET_UNIQUE_ID, unique_id, "XDSSubmissionSet.uniqueId"),
        (v.SUBMISSION_SET_SOURCE_ID, "1.3.182.9.3", "XDSSubmissionSet.sourceId"),
        (v.SUBMISSION_SET_PATIENT_ID, patient, "XDSSubmissionSet.patientId"),
    )
    return RegistryObject(
        Kind.SUBMISSION_SET,
        "SubmissionSet01",
        slots=(Slot("submissionTime", ("20260304101200",)),),
        classifications=(
            Classification(None, None, v.NODE_SUBMISSION_SET, None, None),
            code(v.SUBMISSION_SET_CONTENT_TYPE, "22232009", SNOMED, "Hospital"),
        ),
        external_identifiers=tuple(ExternalIdentifier(None, s, None, x, _text(n)) for s, x, n in identifiers),
    )


def membership() -> RegistryObject:
    return RegistryObject(
        Kind.ASSOCIATION,
        "Association01",
        type=v.HAS_MEMBER,
        source="SubmissionSet01",
        target="Document01",
        slots=(Slot("SubmissionSetStatus", ("Original",)),),
    )


def submission(patient: str, size: int = 1000, sha1: str = "da39a3ee5e6b4b0d3255bfef95601890afd80709") -> bytes:
    """lcm:SubmitObjectsRequest for one document; unique ids hold the load generator's mark."""
    objects = (
        submission_set(patient, f"2.25.1{UNIQUE}"),
        entry(patient, f"2.25.2{UNIQUE}", size, sha1),
        membership(),
    )
    whole = (
        replace(
            o,
            classifications=tuple(replace(c, classified_object=o.id) for c in o.classifications),
            external_identifiers=tuple(replace(i, registry_object=o.id) for i in o.external_identifiers),
        )
        for o in objects
    )
    return ebrs.submit_objects_request(write_object(o) for o in whole)


def _envelope(transaction: Transaction, body: bytes) -> bytes:
    return soap.envelope(transaction.request_action, body, message_id="urn:uuid:0f2c1d1e-52b5-4f6a-a7b0-6a1d1c0b7f11")


def register(patient: str) -> bytes:
    """A whole ITI-42 message."""
    return _envelope(ITI_42, submission(patient))


def find_documents(patient: str) -> bytes:
    """A whole ITI-18 message: all approved documents of a patient, in full."""
    parameters = {"$XDSDocumentEntryPatientId": f"'{patient}'", "$XDSDocumentEntryStatus": f"('{v.APPROVED}')"}
    return _envelope(ITI_18, ebrs.adhoc_query_request(FIND_DOCUMENTS, parameters))


def get_documents(entry_uuid: str) -> bytes:
    """A whole ITI-18 message: one document by its entryUUID, in full."""
    parameters = {"$XDSDocumentEntryEntryUUID": f"('{entry_uuid}')"}
    return _envelope(ITI_18, ebrs.adhoc_query_request(GET_DOCUMENTS, parameters))


BOUNDARY = "bench-boundary-7d1"
MTOM_TYPE = (
    f'multipart/related; boundary="{BOUNDARY}"; type="application/xop+xml"; start="<root@bench>"; '
    'start-info="application/soap+xml"'
)


def provide_head(patient: str, size: int, sha1: str) -> bytes:
    """Everything of an ITI-41 MTOM message before the bytes of its document."""
    include = f'<xop:Include xmlns:xop="{v.XOP}" href="cid:document@bench"/>'
    body = b"".join(
        [
            f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="{v.XDSB}">'.encode(),
            submission(patient, size, sha1),
            f'<xdsb:Document id="Document01">{include}</xdsb:Document>'.encode(),
            b"</xdsb:ProvideAndRegisterDocumentSetRequest>",
        ]
    )
    root = _envelope(ITI_41, body)
    return b"".join(
        [
            f'--{BOUNDARY}\r\nContent-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\n'
            "Content-Transfer-Encoding: binary\r\nContent-ID: <root@bench>\r\n\r\n".encode(),
            root,
            f"\r\n--{BOUNDARY}\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: binary\r\n"
            "Content-ID: <document@bench>\r\n\r\n".encode(),
        ]
    )


PROVIDE_TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


def provide(patient: str, document: bytes, sha1: str) -> bytes:
    """A whole ITI-41 MTOM message."""
    return provide_head(patient, len(document), sha1) + document + PROVIDE_TAIL
