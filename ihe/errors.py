"""Errors as values: RegistryError codes (ITI TF-3: Table 4.2.4.1-2) and SOAP faults (ITI TF-2: Appendix V).

Three kinds exist in this house. ``SoapFault``: the message cannot be read or its sender is not trusted.
``Rejected``: the message was understood and is refused, with every error found. Anything else is our own defect.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ihe import vocabulary as v


class Severity(StrEnum):
    """RegistryError/@severity."""

    ERROR = v.SEVERITY_ERROR
    WARNING = v.SEVERITY_WARNING


class ErrorCode(StrEnum):
    """RegistryError/@errorCode, spelled as the framework spells it."""

    UNRESOLVED_REFERENCE = "UnresolvedReferenceException"
    DOCUMENT_UNIQUE_ID = "XDSDocumentUniqueIdError"
    DUPLICATE_UNIQUE_ID_IN_REGISTRY = "XDSDuplicateUniqueIdInRegistry"
    EXTRA_METADATA_NOT_SAVED = "XDSExtraMetadataNotSaved"
    INVALID_DOCUMENT_CONTENT = "InvalidDocumentContent"
    MISSING_DOCUMENT = "XDSMissingDocument"
    MISSING_DOCUMENT_METADATA = "XDSMissingDocumentMetadata"
    MISSING_HOME_COMMUNITY_ID = "XDSMissingHomeCommunityId"
    NON_IDENTICAL_HASH = "XDSNonIdenticalHash"
    NON_IDENTICAL_SIZE = "XDSNonIdenticalSize"
    PATIENT_ID_DOES_NOT_MATCH = "XDSPatientIdDoesNotMatch"
    REGISTRY_BUSY = "XDSRegistryBusy"
    REPOSITORY_BUSY = "XDSRepositoryBusy"
    REGISTRY_DEPRECATED_DOCUMENT = "XDSRegistryDeprecatedDocumentError"
    REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE = "XDSRegistryDuplicateUniqueIdInMessage"
    REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE = "XDSRepositoryDuplicateUniqueIdInMessage"
    REGISTRY_ERROR = "XDSRegistryError"
    REPOSITORY_ERROR = "XDSRepositoryError"
    REGISTRY_METADATA = "XDSRegistryMetadataError"
    REPOSITORY_METADATA = "XDSRepositoryMetadataError"
    REGISTRY_NOT_AVAILABLE = "XDSRegistryNotAvailable"
    REGISTRY_OUT_OF_RESOURCES = "XDSRegistryOutOfResources"
    REPOSITORY_OUT_OF_RESOURCES = "XDSRepositoryOutOfResources"
    RESULT_NOT_SINGLE_PATIENT = "XDSResultNotSinglePatient"
    STORED_QUERY_MISSING_PARAM = "XDSStoredQueryMissingParam"
    STORED_QUERY_PARAM_NUMBER = "XDSStoredQueryParamNumber"
    TOO_MANY_RESULTS = "XDSTooManyResults"
    UNMODIFIABLE_METADATA = "UnmodifiableMetadataError"
    LOCAL_POLICY_RESTRICTION = "LocalPolicyRestrictionError"
    METADATA_ANNOTATION = "XDSMetadataAnnotationError"
    METADATA_IDENTIFIER = "XDSMetadataIdentifierError"
    METADATA_UPDATE = "XDSMetadataUpdateError"
    METADATA_UPDATE_OPERATION = "XDSMetadataUpdateOperationError"
    METADATA_VERSION = "XDSMetadataVersionError"
    INVALID_REQUEST = "XDSInvalidRequestException"
    OBJECT_TYPE = "XDSObjectTypeError"
    PATIENT_ID_RECONCILIATION = "XDSPatientIDReconciliationError"
    REFERENCES_EXIST = "ReferencesExistException"
    UNREFERENCED_OBJECT = "XDSUnreferencedObjectException"
    REMOVE_DOCUMENTS = "XDSRemoveDocumentsError"
    UNAVAILABLE_COMMUNITY = "XDSUnavailableCommunity"
    UNKNOWN_COMMUNITY = "XDSUnknownCommunity"
    UNKNOWN_PATIENT_ID = "XDSUnknownPatientId"
    UNKNOWN_REPOSITORY_ID = "XDSUnknownRepositoryId"
    UNKNOWN_STORED_QUERY = "XDSUnknownStoredQuery"


@dataclass(frozen=True, slots=True)
class RegistryError:
    """One rs:RegistryError (ITI TF-3: 4.2.4.1).

    ``context`` is codeContext: names the object and attribute, what was wrong and what is allowed; never empty.
    ``location`` is optional; a gateway puts its homeCommunityId there.
    """

    code: str
    context: str
    severity: Severity = Severity.ERROR
    location: str | None = None


class Rejected(Exception):  # noqa: N818 - an outcome, not a defect
    """Understood and refused; ``errors`` holds every error found, at least one."""

    def __init__(self, errors: Iterable[RegistryError]) -> None:
        self.errors = tuple(errors)
        super().__init__(", ".join(sorted({error.code for error in self.errors})))


class FaultCode(StrEnum):
    """soap12:Fault/Code/Value, local name (SOAP 1.2 part 1: 5.4.6)."""

    SENDER = "Sender"
    RECEIVER = "Receiver"
    MUST_UNDERSTAND = "MustUnderstand"
    VERSION_MISMATCH = "VersionMismatch"
    DATA_ENCODING_UNKNOWN = "DataEncodingUnknown"


class SoapFault(Exception):  # noqa: N818 - an outcome, not a defect
    """The message cannot be read or its sender is not trusted.

    ``subcode`` is a Clark name, e.g. ``{http://www.w3.org/2005/08/addressing}ActionNotSupported``.
    ``http_status`` defaults to 400 for Sender faults and 500 otherwise.
    ``not_understood`` lists Clark names of mandatory headers nobody here understands.
    ``message_id`` is the MessageID of the request, when it could be read, for RelatesTo.
    """

    def __init__(
        self,
        code: FaultCode,
        reason: str,
        *,
        subcode: str | None = None,
        http_status: int | None = None,
        not_understood: tuple[str, ...] = (),
        message_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.subcode = subcode
        self.http_status = http_status or (400 if code is FaultCode.SENDER else 500)
        self.not_understood = not_understood
        self.message_id = message_id


_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_MOST_CODES: Final = 10


def plain_codes(words: Iterable[str]) -> list[str]:
    """Codes that somebody else sent, sorted and each once, at most ten; what could be more than a code is called so."""
    return sorted({str(word) if _CODE.fullmatch(word) else "unknown code" for word in words})[:_MOST_CODES]
