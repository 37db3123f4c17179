"""Small numbers that stand for the framework's long words inside the database."""

from typing import Final

from ihe import vocabulary as v
from ihe.metadata import AvailabilityStatus, EntryType
from ihe.registry_objects import Kind

STATUS: Final = {AvailabilityStatus.APPROVED: 1, AvailabilityStatus.DEPRECATED: 2}
STATUS_OF: Final = {number: word for word, number in STATUS.items()}
APPROVED: Final = STATUS[AvailabilityStatus.APPROVED]
DEPRECATED: Final = STATUS[AvailabilityStatus.DEPRECATED]

KIND: Final = {Kind.SUBMISSION_SET: 1, Kind.DOCUMENT_ENTRY: 2, Kind.FOLDER: 3, Kind.ASSOCIATION: 4}
KIND_OF: Final = {number: word for word, number in KIND.items()}

ENTRY_TYPE: Final = {EntryType.STABLE: 1, EntryType.ON_DEMAND: 2}
ENTRY_TYPE_OF: Final = {number: word for word, number in ENTRY_TYPE.items()}

AVAILABILITY: Final = {v.AVAILABLE_ONLINE: 1, v.AVAILABLE_OFFLINE: 2}
AVAILABILITY_OF: Final = {number: word for word, number in AVAILABILITY.items()}

ASSOCIATION: Final = {
    v.HAS_MEMBER: 1,
    v.APND: 2,
    v.XFRM: 3,
    v.RPLC: 4,
    v.XFRM_RPLC: 5,
    v.SIGNS: 6,
    v.IS_SNAPSHOT_OF: 7,
    v.UPDATE_AVAILABILITY_STATUS: 8,
    v.SUBMIT_ASSOCIATION: 9,
}

EVENT: Final = 1
CONFIDENTIALITY: Final = 2

LEVELS: Final = ("V", "R", "N")
"""Confidentiality levels (2.16.840.1.113883.5.25), the strictest first."""
