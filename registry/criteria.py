"""What a stored query asks for, once its parameters were understood (ITI TF-2: 3.18.4.1.2.3.7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ihe.datatypes import CX
from ihe.metadata import AvailabilityStatus, Code, EntryType

Value = str | Code | EntryType | AvailabilityStatus | CX
Groups = tuple[tuple[Value, ...], ...]
"""Alternatives inside a group are OR-ed, groups are AND-ed."""


class Query(StrEnum):
    """The stored queries this registry answers, by the framework's name."""

    FIND_DOCUMENTS = "FindDocuments"
    FIND_SUBMISSION_SETS = "FindSubmissionSets"
    FIND_FOLDERS = "FindFolders"
    GET_ALL = "GetAll"
    GET_DOCUMENTS = "GetDocuments"
    GET_FOLDERS = "GetFolders"
    GET_ASSOCIATIONS = "GetAssociations"
    GET_DOCUMENTS_AND_ASSOCIATIONS = "GetDocumentsAndAssociations"
    GET_SUBMISSION_SETS = "GetSubmissionSets"
    GET_SUBMISSION_SET_AND_CONTENTS = "GetSubmissionSetAndContents"
    GET_FOLDER_AND_CONTENTS = "GetFolderAndContents"
    GET_FOLDERS_FOR_DOCUMENT = "GetFoldersForDocument"
    GET_RELATED_DOCUMENTS = "GetRelatedDocuments"
    FIND_DOCUMENTS_BY_REFERENCE_ID = "FindDocumentsByReferenceId"
    FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS = "FindDocumentsForMultiplePatients"
    FIND_DOCUMENTS_BY_REFERENCE_ID_FOR_MULTIPLE_PATIENTS = "FindDocumentsByReferenceIdForMultiplePatients"
    FIND_FOLDERS_FOR_MULTIPLE_PATIENTS = "FindFoldersForMultiplePatients"


class Attribute(StrEnum):
    """What a parameter is about; ``*_FROM`` values are inclusive, ``*_TO`` exclusive, both 14 digits UTC."""

    PATIENT_ID = "patientId"
    STATUS = "availabilityStatus"
    CLASS_CODE = "classCode"
    TYPE_CODE = "typeCode"
    PRACTICE_SETTING_CODE = "practiceSettingCode"
    FACILITY_TYPE_CODE = "healthcareFacilityTypeCode"
    FORMAT_CODE = "formatCode"
    EVENT_CODE = "eventCodeList"
    CONFIDENTIALITY_CODE = "confidentialityCode"
    CREATION_FROM = "creationTime from"
    CREATION_TO = "creationTime to"
    SERVICE_START_FROM = "serviceStartTime from"
    SERVICE_START_TO = "serviceStartTime to"
    SERVICE_STOP_FROM = "serviceStopTime from"
    SERVICE_STOP_TO = "serviceStopTime to"
    AUTHOR_PERSON = "authorPerson"
    ENTRY_TYPE = "objectType"
    AVAILABILITY = "documentAvailability"
    ENTRY_UUID = "entryUUID"
    UNIQUE_ID = "uniqueId"
    LOGICAL_ID = "logicalID"
    METADATA_LEVEL = "metadata level"
    REFERENCE_ID = "referenceIdList"
    SUBMISSION_SET_STATUS = "availabilityStatus of the SubmissionSet"
    SOURCE_ID = "sourceId"
    SUBMISSION_FROM = "submissionTime from"
    SUBMISSION_TO = "submissionTime to"
    SUBMISSION_SET_AUTHOR = "authorPerson of the SubmissionSet"
    CONTENT_TYPE = "contentTypeCode"
    FOLDER_STATUS = "availabilityStatus of the Folder"
    LAST_UPDATE_FROM = "lastUpdateTime from"
    LAST_UPDATE_TO = "lastUpdateTime to"
    FOLDER_CODE = "codeList"
    ASSOCIATION_TYPE = "associationType"
    ASSOCIATION_STATUS = "availabilityStatus of the Association"


ALL_VERSIONS: Final = "2"
"""The metadata level that shows every version of an object; level 1 shows the latest."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """A query with its values; ``patients`` are (id, authority) of those asked for: one in ITI-18, 0..n in ITI-51."""

    query: Query
    values: Mapping[Attribute, Groups]
    patients: tuple[tuple[str, str], ...] = ()

    def any_of(self, attribute: Attribute) -> tuple[Value, ...]:
        """All alternatives of an attribute that takes one group."""
        groups = self.values.get(attribute, ())
        return groups[0] if groups else ()

    @property
    def all_versions(self) -> bool:
        """Whether old versions of objects are shown too."""
        return ALL_VERSIONS in self.any_of(Attribute.METADATA_LEVEL)
