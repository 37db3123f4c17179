"""The first compression dictionary: what nearly every object repeats, the most frequent last (RFC 1951 looks back).

Dictionaries are rows of the database, append-only; this text makes row 1 of a new database and never changes anything
of an older one. It is made from what the framework fixes and from what its writers usually put around it.
"""

from typing import Final

from ihe import vocabulary as v
from ihe.registry_objects import Classification, ExternalIdentifier, Kind, LocalizedString, RegistryObject, Slot
from registry.store.fragments import fragment_of

_CODES: Final = (
    (v.ENTRY_EVENT, "EVENT", "1.3.6.1.4.1.19376.1.2.6.1", "Event"),
    (v.ENTRY_FORMAT, "urn:ihe:iti:xds-sd:pdf:2008", "1.3.6.1.4.1.19376.1.2.3", "urn:ihe:pcc:xphr:2007"),
    (v.ENTRY_FORMAT, "urn:ihe:lab:xd-lab:2008", "1.3.6.1.4.1.19376.1.2.3", "Laboratory report"),
    (v.ENTRY_PRACTICE_SETTING, "394802001", "2.16.840.1.113883.6.96", "General medicine"),
    (v.ENTRY_FACILITY_TYPE, "22232009", "2.16.840.1.113883.6.96", "Hospital"),
    (v.ENTRY_CONFIDENTIALITY, "N", "2.16.840.1.113883.5.25", "normal"),
    (v.ENTRY_CLASS, "11502-2", "2.16.840.1.113883.6.1", "Laboratory report"),
    (v.ENTRY_TYPE, "11502-2", "2.16.840.1.113883.6.1", "Laboratory report"),
)
_UUID: Final = "urn:uuid:"


def _coded(scheme: str, code: str, coding: str, name: str) -> Classification:
    shown = (LocalizedString(name, "en-us", "UTF-8"),)
    return Classification(_UUID, scheme, None, _UUID, code, shown, (), (Slot("codingScheme", (coding,)),))


def _identified(scheme: str, name: str, value: str) -> ExternalIdentifier:
    return ExternalIdentifier(_UUID, scheme, _UUID, value, (LocalizedString(name),))


def _author(scheme: str) -> Classification:
    slots = (
        Slot("authorInstitution", ("^^^^^&2.16.840.1.113883&ISO^^^^",)),
        Slot("authorRole", ("",)),
        Slot("authorSpecialty", ("",)),
        Slot("authorPerson", ("^^^^^^^^&1.3.182&ISO",)),
    )
    return Classification(_UUID, scheme, None, _UUID, "", (), (), slots)


def first_dictionary() -> bytes:
    """At most 32 KiB, the window of deflate."""
    slots = tuple(
        Slot(name, (value,))
        for name, value in (
            ("URI", ""), ("sourcePatientInfo", "PID-3|"), ("legalAuthenticator", ""), ("serviceStopTime", "20"),
            ("serviceStartTime", "20"), ("languageCode", "fr-LU"), ("sourcePatientId", "^^^&1.3.182.4.4&ISO"),
            ("repositoryUniqueId", "1.3.6.1.4.1.21367.2011.2.3.9999"), ("size", "0"), ("hash", ""),
            ("creationTime", "2026"),
        )
    )  # fmt: skip
    entry = RegistryObject(
        Kind.DOCUMENT_ENTRY,
        _UUID,
        object_type=v.STABLE,
        mime_type="application/pdf",
        name=(LocalizedString("", "en-us", "UTF-8"),),
        slots=slots,
        classifications=(_author(v.ENTRY_AUTHOR), *(_coded(*code) for code in _CODES)),
        external_identifiers=(
            _identified(v.ENTRY_PATIENT_ID, "XDSDocumentEntry.patientId", ""),
            _identified(v.ENTRY_UNIQUE_ID, "XDSDocumentEntry.uniqueId", "2.25."),
        ),
    )
    return b"".join(fragment_of(obj) for obj in (_folder(), _submission_set(), _association(), entry))[-32768:]


def _marker(node: str) -> Classification:
    return Classification(_UUID, None, node, _UUID, None)


def _submission_set() -> RegistryObject:
    return RegistryObject(
        Kind.SUBMISSION_SET,
        _UUID,
        slots=(Slot("submissionTime", ("2026",)),),
        classifications=(
            _marker(v.NODE_SUBMISSION_SET),
            _author(v.SUBMISSION_SET_AUTHOR),
            _coded(v.SUBMISSION_SET_CONTENT_TYPE, "11502-2", "2.16.840.1.113883.6.1", "Laboratory report"),
        ),
        external_identifiers=(
            _identified(v.SUBMISSION_SET_SOURCE_ID, "XDSSubmissionSet.sourceId", "1.3."),
            _identified(v.SUBMISSION_SET_PATIENT_ID, "XDSSubmissionSet.patientId", ""),
            _identified(v.SUBMISSION_SET_UNIQUE_ID, "XDSSubmissionSet.uniqueId", "2.25."),
        ),
    )


def _folder() -> RegistryObject:
    return RegistryObject(
        Kind.FOLDER,
        _UUID,
        name=(LocalizedString(""),),
        classifications=(_marker(v.NODE_FOLDER), _coded(v.FOLDER_CODE, "", "", "")),
        external_identifiers=(
            _identified(v.FOLDER_PATIENT_ID, "XDSFolder.patientId", ""),
            _identified(v.FOLDER_UNIQUE_ID, "XDSFolder.uniqueId", ""),
        ),
    )


def _association() -> RegistryObject:
    status = (Slot("SubmissionSetStatus", ("Original",)),)
    return RegistryObject(Kind.ASSOCIATION, _UUID, type=v.HAS_MEMBER, source=_UUID, target=_UUID, slots=status)
