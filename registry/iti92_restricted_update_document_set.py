"""ITI-92 Restricted Update Document Set, Update Responder side of a registry (Restricted Metadata Update: 3.92).

Request  lcm:SubmitObjectsRequest: 1 SubmissionSet, 1..n new versions of DocumentEntries with their HasMember
Reply    rs:RegistryResponse: Success, or Failure with every error found; all or nothing
Errors   XDSInvalidRequestException (no update of an entry), XDSMetadataAnnotationError (PreviousVersion,
         AssociationPropagation), XDSMetadataVersionError, XDSMetadataIdentifierError (uniqueId),
         XDSPatientIDReconciliationError (patientId), UnmodifiableMetadataError (objectType, sourcePatientId,
         repositoryUniqueId, documentAvailability, hash), LocalPolicyRestrictionError (not a listed partner)
Effects  as a new version in ITI-57, always with propagation; a Deprecated entry may be updated and stays Deprecated
Allowed  another size: tests 40000 and 40030 of the NIST testkit put it right
Not used XDSObjectTypeError: the NIST testkit asks for UnmodifiableMetadataError when the objectType changes
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from ihe import rules
from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError
from ihe.registry_objects import RegistryObject
from registry.identity import NewUuid
from registry.iti42_register_document_set_b import Submission, read_submission
from registry.iti57_update_document_set import VersionRules, asked_about
from registry.iti57_update_document_set import judge as judge_update
from registry.store.protocol import Facts, KnownVersion, Registration

__all__ = ["asked_about", "judge", "read_restricted_update"]

read_restricted_update: Final = partial(read_submission, on_demand=None, book=rules.RESTRICTED_UPDATE_RULES)


def _one(obj: RegistryObject, slot: str) -> str | None:
    return next(iter(obj.slot(slot) or ()), None)


def _fixed(new: RegistryObject, latest: KnownVersion, named: str) -> Iterator[RegistryError]:
    """What a restricted update may not change (3.92.4.1.2)."""
    availability = _one(new, "documentAvailability")
    pairs = (
        ("sourcePatientId", _one(new, "sourcePatientId"), latest.source_patient_id),
        ("repositoryUniqueId", _one(new, "repositoryUniqueId"), latest.repository_unique_id),
        ("documentAvailability", availability or v.AVAILABLE_ONLINE, latest.availability or v.AVAILABLE_ONLINE),
        ("hash", (_one(new, "hash") or "").lower() or None, latest.hash),
    )
    for attribute, sent, known in pairs:
        if sent != known:
            text = f"{named}: {attribute} is not what is registered; a restricted update does not change it"
            yield RegistryError(ErrorCode.UNMODIFIABLE_METADATA, text)


RESTRICTED: Final = VersionRules(
    unique_id=ErrorCode.METADATA_IDENTIFIER,
    object_type=ErrorCode.UNMODIFIABLE_METADATA,
    deprecated=True,
    fixed=_fixed,
    same_patient=True,
)


def judge(submission: Submission, facts: Facts, now: str, new_uuid: NewUuid) -> Registration:
    """Say exactly what to write, or raise Rejected with every error. ``now`` is 14 digits, UTC."""
    return judge_update(submission, facts, now, new_uuid, version_rules=RESTRICTED)
