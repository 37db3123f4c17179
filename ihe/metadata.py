"""The domain words of Document Sharing (ITI TF-3: 4.2), free of ebRIM and of tables.

Values of this module are complete and valid: they are made from objects that passed ``ihe.rules``. Times are DTM texts
as sent; ids are ``urn:uuid:`` texts; ``patient_id`` is a CX text ``id^^^&OID&ISO``; size is in bytes.
"""

from dataclasses import dataclass
from enum import StrEnum

from ihe import vocabulary as v


class AvailabilityStatus(StrEnum):
    """availabilityStatus of a registry object."""

    APPROVED = v.APPROVED
    DEPRECATED = v.DEPRECATED


class EntryType(StrEnum):
    """objectType of a DocumentEntry."""

    STABLE = v.STABLE
    ON_DEMAND = v.ON_DEMAND


@dataclass(frozen=True, slots=True)
class Code:
    """A coded attribute; ``scheme`` is the coding scheme as sent (OID or name)."""

    code: str
    scheme: str


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """Metadata of one document (ITI TF-3: 4.2.3.2); ``author_persons`` are the XCN texts of all authors."""

    entry_uuid: str
    logical_id: str
    version: int
    object_type: EntryType
    unique_id: str
    patient_id: str
    source_patient_id: str | None
    mime_type: str
    class_code: Code
    type_code: Code
    format_code: Code
    healthcare_facility_type_code: Code
    practice_setting_code: Code
    confidentiality_codes: tuple[Code, ...]
    event_codes: tuple[Code, ...]
    author_persons: tuple[str, ...]
    reference_ids: tuple[str, ...]
    creation_time: str | None
    service_start_time: str | None
    service_stop_time: str | None
    hash: str | None
    size: int | None
    repository_unique_id: str
    home_community_id: str | None
    document_availability: str


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """One submission (ITI TF-3: 4.2.3.3)."""

    entry_uuid: str
    unique_id: str
    patient_id: str
    source_id: str
    submission_time: str
    content_type_code: Code
    author_persons: tuple[str, ...]
    home_community_id: str | None


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder (ITI TF-3: 4.2.3.4); the registry alone sets its lastUpdateTime."""

    entry_uuid: str
    logical_id: str
    version: int
    unique_id: str
    patient_id: str
    codes: tuple[Code, ...]
    home_community_id: str | None


@dataclass(frozen=True, slots=True)
class Association:
    """A relationship between two objects (ITI TF-3: 4.2.2); ``type`` is a URN of ``ihe.vocabulary``."""

    entry_uuid: str
    type: str
    source: str
    target: str
