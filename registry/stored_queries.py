"""The stored queries as rows (ITI TF-2: 3.18.4.1.2.3.7, 3.51), and the one reader that turns a request into Criteria.

A row can be held beside the framework's table: parameter, attribute, coding, R (required) or O (optional), AND when the
Slot may be repeated to narrow the result. ``one_of`` names attributes of which exactly one is given, ``some_of`` those
of which at least one is. $MetadataLevel and $XDSAssociationStatus are those of XDS Metadata Update.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ihe.datatypes import CX
from ihe.ebrs import QueryRequest
from ihe.errors import ErrorCode, RegistryError
from ihe.metadata import EntryType
from ihe.transactions import ITI_18, ITI_51, Transaction
from registry import query_parameters as coding
from registry.criteria import Attribute, Criteria, Groups, Query
from registry.store.protocol import Defect

_R, _O = True, False
A = Attribute

MAX_VALUES: Final = 10_000
MAX_REPEATS: Final = 50
"""How often a Slot may be repeated to narrow the result."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query."""

    name: str
    attribute: A
    read: coding.Reader
    required: bool = _O
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """One query; ``single_patient`` refuses full metadata of several patients in one answer (TF-2: 3.18.4.1.3)."""

    id: str
    query: Query
    parameters: tuple[Parameter, ...]
    one_of: tuple[A, ...] = ()
    single_patient: bool = False
    some_of: tuple[A, ...] = ()
    transaction: Transaction = ITI_18


_P = Parameter
_E = "$XDSDocumentEntry"

# fmt: off
_ENTRY_FILTERS = (
    _P(_E + "ClassCode", A.CLASS_CODE, coding.codes),
    _P(_E + "TypeCode", A.TYPE_CODE, coding.codes),
    _P(_E + "PracticeSettingCode", A.PRACTICE_SETTING_CODE, coding.codes),
    _P(_E + "HealthcareFacilityTypeCode", A.FACILITY_TYPE_CODE, coding.codes),
    _P(_E + "FormatCode", A.FORMAT_CODE, coding.codes),
    _P(_E + "EventCodeList", A.EVENT_CODE, coding.codes, _O, repeatable=True),
    _P(_E + "ConfidentialityCode", A.CONFIDENTIALITY_CODE, coding.codes, _O, repeatable=True),
    _P(_E + "CreationTimeFrom", A.CREATION_FROM, coding.time),
    _P(_E + "CreationTimeTo", A.CREATION_TO, coding.time),
    _P(_E + "ServiceStartTimeFrom", A.SERVICE_START_FROM, coding.time),
    _P(_E + "ServiceStartTimeTo", A.SERVICE_START_TO, coding.time),
    _P(_E + "ServiceStopTimeFrom", A.SERVICE_STOP_FROM, coding.time),
    _P(_E + "ServiceStopTimeTo", A.SERVICE_STOP_TO, coding.time),
    _P(_E + "AuthorPerson", A.AUTHOR_PERSON, coding.many_patterns),
    _P(_E + "Type", A.ENTRY_TYPE, coding.entry_types),
    _P(_E + "DocumentAvailability", A.AVAILABILITY, coding.availabilities),
    _P("$MetadataLevel", A.METADATA_LEVEL, coding.metadata_level),
)

_CONTENT_FILTERS = (
    _P(_E + "FormatCode", A.FORMAT_CODE, coding.codes),
    _P(_E + "ConfidentialityCode", A.CONFIDENTIALITY_CODE, coding.codes, _O, repeatable=True),
    _P(_E + "Type", A.ENTRY_TYPE, coding.entry_types),
)
_LEVEL = _P("$MetadataLevel", A.METADATA_LEVEL, coding.metadata_level)
_LINKS = (_P("$XDSAssociationStatus", A.ASSOCIATION_STATUS, coding.statuses), _LEVEL)
_FOLDER_FILTERS = (
    _P("$XDSFolderStatus", A.FOLDER_STATUS, coding.statuses, _R),
    _P("$XDSFolderLastUpdateTimeFrom", A.LAST_UPDATE_FROM, coding.time),
    _P("$XDSFolderLastUpdateTimeTo", A.LAST_UPDATE_TO, coding.time),
    _P("$XDSFolderCodeList", A.FOLDER_CODE, coding.codes, _O, repeatable=True),
    _LEVEL,
)
_NARROW_ENTRIES = (A.PATIENT_ID, A.CLASS_CODE, A.EVENT_CODE, A.FACILITY_TYPE_CODE)
_ONE_ENTRY = (
    _P(_E + "EntryUUID", A.ENTRY_UUID, coding.one_entry_uuid),
    _P(_E + "UniqueId", A.UNIQUE_ID, coding.one_identifier),
)

STORED_QUERIES: Final = (
    StoredQuery("urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", Query.FIND_DOCUMENTS, (
        _P(_E + "PatientId", A.PATIENT_ID, coding.patient, _R),
        _P(_E + "Status", A.STATUS, coding.statuses, _R),
        *_ENTRY_FILTERS,
    )),
    StoredQuery("urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9", Query.FIND_SUBMISSION_SETS, (
        _P("$XDSSubmissionSetPatientId", A.PATIENT_ID, coding.patient, _R),
        _P("$XDSSubmissionSetStatus", A.SUBMISSION_SET_STATUS, coding.statuses, _R),
        _P("$XDSSubmissionSetSourceId", A.SOURCE_ID, coding.many_oids),
        _P("$XDSSubmissionSetSubmissionTimeFrom", A.SUBMISSION_FROM, coding.time),
        _P("$XDSSubmissionSetSubmissionTimeTo", A.SUBMISSION_TO, coding.time),
        _P("$XDSSubmissionSetAuthorPerson", A.SUBMISSION_SET_AUTHOR, coding.one_pattern),
        _P("$XDSSubmissionSetContentType", A.CONTENT_TYPE, coding.codes),
    )),
    StoredQuery("urn:uuid:958f3006-baad-4929-a4de-ff1114824431", Query.FIND_FOLDERS, (
        _P("$XDSFolderPatientId", A.PATIENT_ID, coding.patient, _R),
        *_FOLDER_FILTERS,
    )),
    StoredQuery("urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3", Query.GET_ALL, (
        _P("$patientId", A.PATIENT_ID, coding.patient, _R),
        _P(_E + "Status", A.STATUS, coding.statuses, _R),
        _P("$XDSSubmissionSetStatus", A.SUBMISSION_SET_STATUS, coding.statuses, _R),
        _P("$XDSFolderStatus", A.FOLDER_STATUS, coding.statuses, _R),
        *_CONTENT_FILTERS,
        *_LINKS,
    )),
    StoredQuery("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", Query.GET_DOCUMENTS, (
        _P(_E + "EntryUUID", A.ENTRY_UUID, coding.entry_uuids),
        _P(_E + "UniqueId", A.UNIQUE_ID, coding.many_identifiers),
        _P(_E + "LogicalID", A.LOGICAL_ID, coding.entry_uuids),
        _LEVEL,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID, A.LOGICAL_ID), single_patient=True),
    StoredQuery("urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4", Query.GET_FOLDERS, (
        _P("$XDSFolderEntryUUID", A.ENTRY_UUID, coding.entry_uuids),
        _P("$XDSFolderUniqueId", A.UNIQUE_ID, coding.many_oids),
        _P("$XDSFolderLogicalID", A.LOGICAL_ID, coding.entry_uuids),
        _LEVEL,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID, A.LOGICAL_ID), single_patient=True),
    StoredQuery("urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155", Query.GET_ASSOCIATIONS, (
        _P("$uuid", A.ENTRY_UUID, coding.entry_uuids, _R),
        *_LINKS,
    )),
    StoredQuery("urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a", Query.GET_DOCUMENTS_AND_ASSOCIATIONS, (
        _P(_E + "EntryUUID", A.ENTRY_UUID, coding.entry_uuids),
        _P(_E + "UniqueId", A.UNIQUE_ID, coding.many_identifiers),
        *_LINKS,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID), single_patient=True),
    StoredQuery("urn:uuid:51224314-5390-4169-9b91-b1980040715a", Query.GET_SUBMISSION_SETS, (
        _P("$uuid", A.ENTRY_UUID, coding.entry_uuids, _R),
        *_LINKS,
    ), single_patient=True),
    StoredQuery("urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83", Query.GET_SUBMISSION_SET_AND_CONTENTS, (
        _P("$XDSSubmissionSetEntryUUID", A.ENTRY_UUID, coding.one_entry_uuid),
        _P("$XDSSubmissionSetUniqueId", A.UNIQUE_ID, coding.one_oid),
        *_CONTENT_FILTERS,
        *_LINKS,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID), single_patient=True),
    StoredQuery("urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7", Query.GET_FOLDER_AND_CONTENTS, (
        _P("$XDSFolderEntryUUID", A.ENTRY_UUID, coding.one_entry_uuid),
        _P("$XDSFolderUniqueId", A.UNIQUE_ID, coding.one_oid),
        *_CONTENT_FILTERS,
        *_LINKS,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID), single_patient=True),
    StoredQuery("urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578", Query.GET_FOLDERS_FOR_DOCUMENT, (
        *_ONE_ENTRY,
        *_LINKS,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID)),
    StoredQuery("urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6", Query.GET_RELATED_DOCUMENTS, (
        *_ONE_ENTRY,
        _P("$AssociationTypes", A.ASSOCIATION_TYPE, coding.association_types, _R),
        _P(_E + "Type", A.ENTRY_TYPE, coding.entry_types),
        *_LINKS,
    ), one_of=(A.ENTRY_UUID, A.UNIQUE_ID)),
    StoredQuery("urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492", Query.FIND_DOCUMENTS_BY_REFERENCE_ID, (
        _P(_E + "PatientId", A.PATIENT_ID, coding.patient, _R),
        _P(_E + "Status", A.STATUS, coding.statuses, _R),
        _P(_E + "ReferenceIdList", A.REFERENCE_ID, coding.many_patterns, _R, repeatable=True),
        *_ENTRY_FILTERS,
    )),
    StoredQuery("urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f", Query.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, (
        _P(_E + "PatientId", A.PATIENT_ID, coding.many_patients),
        _P(_E + "Status", A.STATUS, coding.statuses, _R),
        *_ENTRY_FILTERS,
    ), some_of=_NARROW_ENTRIES, transaction=ITI_51),
    StoredQuery("urn:uuid:50d3f5ac-39a2-11de-a1ca-b366239e58df", Query.FIND_FOLDERS_FOR_MULTIPLE_PATIENTS, (
        _P("$XDSFolderPatientId", A.PATIENT_ID, coding.many_patients),
        *_FOLDER_FILTERS,
    ), some_of=(A.PATIENT_ID, A.FOLDER_CODE), transaction=ITI_51),
    # Not in the framework's text of ITI-51, but asked by peers built on Open eHealth IPF.
    StoredQuery(
        "urn:uuid:1191642d-86c4-42d8-b784-f95445f9f0d5", Query.FIND_DOCUMENTS_BY_REFERENCE_ID_FOR_MULTIPLE_PATIENTS, (
        _P(_E + "PatientId", A.PATIENT_ID, coding.many_patients),
        _P(_E + "Status", A.STATUS, coding.statuses, _R),
        _P(_E + "ReferenceIdList", A.REFERENCE_ID, coding.many_patterns, _R, repeatable=True),
        *_ENTRY_FILTERS,
    ), some_of=_NARROW_ENTRIES, transaction=ITI_51),
)
# fmt: on

BY_ID: Final = {row.id: row for row in STORED_QUERIES}

# Queries that look at stable entries alone unless $XDSDocumentEntryType says otherwise.
_STABLE_BY_DEFAULT: Final = frozenset(
    {
        Query.FIND_DOCUMENTS,
        Query.FIND_DOCUMENTS_BY_REFERENCE_ID,
        Query.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS,
        Query.FIND_DOCUMENTS_BY_REFERENCE_ID_FOR_MULTIPLE_PATIENTS,
        Query.GET_ALL,
        Query.GET_SUBMISSION_SET_AND_CONTENTS,
        Query.GET_FOLDER_AND_CONTENTS,
        Query.GET_RELATED_DOCUMENTS,
    }
)

# Values that are right but select nothing here: an empty answer, where a status nobody knows is a missing one.
_MATCHES_NOTHING: Final = frozenset({Attribute.ASSOCIATION_TYPE})

MOST_DEFECTS: Final = 20
"""Deviations of one request that are noted."""
_DEVIATION: Final[Mapping[coding.Reader, str]] = {coding.time: "the time has a zone or a fraction of a second"}


@dataclass(frozen=True, slots=True)
class Understood:
    """A request as Criteria, with what ``warn`` let pass."""

    row: StoredQuery
    criteria: Criteria
    defects: tuple[Defect, ...]


def read_query(
    request: QueryRequest, transaction: Transaction = ITI_18, *, lenient: bool, max_values: int = MAX_VALUES
) -> Understood | tuple[RegistryError, ...]:
    """Understand a request, or say everything that is wrong with it; ``max_values`` over all its parameters."""
    row = BY_ID.get(request.query_id.lower())
    if row is None or row.transaction is not transaction:
        known = ", ".join(f"{q.query} {q.id}" for q in STORED_QUERIES if q.transaction is transaction)
        text = f"AdhocQuery/@id is none of those of {transaction.code}: {known}"
        return (RegistryError(ErrorCode.UNKNOWN_STORED_QUERY, text),)
    reader = _Reader(row, lenient)
    for name, texts in request.parameters:
        reader.take(name, texts)
    reader.finish()
    values = sum(len(group) for groups in reader.values.values() for group in groups)
    if values > max_values:
        text = f"{row.query} is given {values} values; allowed are at most {max_values}: ask in several requests"
        reader.errors.append(RegistryError(ErrorCode.REGISTRY_ERROR, text))
    if reader.errors:
        return tuple(reader.errors)
    return Understood(row, reader.criteria(), tuple(reader.defects[:MOST_DEFECTS]))


class _Reader:
    def __init__(self, row: StoredQuery, lenient: bool) -> None:
        self.row, self.lenient = row, lenient
        self.parameters: Mapping[str, Parameter] = {p.name: p for p in row.parameters}
        self.values: dict[A, Groups] = {}
        self.errors: list[RegistryError] = []
        self.defects: list[Defect] = []
        self.given: set[str] = set()

    def take(self, name: str, texts: tuple[str, ...]) -> None:
        """Read one Slot; a parameter nobody knows is ignored (ebRS 3.0: 6.3.2.1)."""
        parameter = self.parameters.get(name)
        if parameter is None:
            return
        if len(self.values.get(parameter.attribute, ())) >= MAX_REPEATS:
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, name, f"is given more than {MAX_REPEATS} times")
            return
        if name in self.given and not parameter.repeatable:
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, name, "is given twice; put its values into one Slot")
            return
        self.given.add(name)
        try:
            reading = parameter.read(texts, self.lenient)
        except coding.TooManyError as reason:
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, name, str(reason))
            return
        except coding.BadValueError as reason:
            self.refuse(ErrorCode.REGISTRY_ERROR, name, str(reason))
            return
        if reading.sloppy:
            deviation = _DEVIATION.get(parameter.read, "quotes or parentheses are missing")
            self.defects.append(Defect(ErrorCode.REGISTRY_ERROR, f"{name}: {deviation}"))
        if reading.values or parameter.attribute in _MATCHES_NOTHING:
            self.values[parameter.attribute] = (*self.values.get(parameter.attribute, ()), reading.values)

    def finish(self) -> None:
        """Check what is missing and what excludes each other."""
        for parameter in self.row.parameters:
            if not parameter.required or parameter.attribute in self.values:
                continue
            if parameter.name in self.given and not self._only_unknown(parameter):
                continue
            more = ": none of its values is known" if parameter.name in self.given else ""
            self.refuse(ErrorCode.STORED_QUERY_MISSING_PARAM, parameter.name, f"is required by {self.row.query}{more}")
        if self.row.one_of:
            self._exactly_one()
        if self.row.some_of:
            self._at_least_one()

    def _only_unknown(self, parameter: Parameter) -> bool:
        return not any(parameter.name in error.context for error in self.errors)

    def _exactly_one(self) -> None:
        names = [p.name for p in self.row.parameters if p.attribute in self.row.one_of]
        given = [name for name in names if name in self.given]
        if not given:
            text = f"give one of {', '.join(names)}"
            self.errors.append(RegistryError(ErrorCode.STORED_QUERY_MISSING_PARAM, f"{self.row.query}: {text}"))
        elif len(given) > 1:
            text = f"give only one of {', '.join(names)}"
            self.errors.append(RegistryError(ErrorCode.STORED_QUERY_PARAM_NUMBER, f"{self.row.query}: {text}"))

    def _at_least_one(self) -> None:
        names = [p.name for p in self.row.parameters if p.attribute in self.row.some_of]
        if self.given.isdisjoint(names):
            text = f"give at least one of {', '.join(names)}"
            self.errors.append(RegistryError(ErrorCode.STORED_QUERY_MISSING_PARAM, f"{self.row.query}: {text}"))

    def refuse(self, code: ErrorCode, name: str, text: str) -> None:
        """Note an error of one parameter."""
        self.errors.append(RegistryError(code, f"{name} {text}"))

    def criteria(self) -> Criteria:
        """The values as Criteria, with the defaults the framework gives."""
        values = dict(self.values)
        patients = tuple(
            (who.id, who.authority) for who in self.values.get(A.PATIENT_ID, ((),))[0] if isinstance(who, CX)
        )
        values.pop(A.PATIENT_ID, None)
        if self.row.query in _STABLE_BY_DEFAULT and A.ENTRY_TYPE not in values:
            values[A.ENTRY_TYPE] = ((EntryType.STABLE,),)
        return Criteria(self.row.query, values, patients)
