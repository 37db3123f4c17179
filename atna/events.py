"""What is audited, one function per transaction and event (ITI TF-2: 3.NN.5.1; DICOM PS3.15 A.5.3).

The table of the framework, as far as this house speaks it:

=======  ==================  ==================  ===========================================
ITI      who asks            who answers         objects
=======  ==================  ==================  ===========================================
ITI-41   Export, R           Import, C           Patient 0..1, SubmissionSet
ITI-42   Export, R           Import, C           Patient 0..1, SubmissionSet (ITI-61 alike)
ITI-57   Export, U           Import, U           Patient 0..1, SubmissionSet (ITI-92 alike)
ITI-62   Patient Record, D (both)                Patient 0..n, each object named
ITI-86   Patient Record, D (both)                Patient 0..1, Document 1..n
ITI-18   Query, E            Query, E            Patient 0..1, Query (ITI-51: one record a patient)
ITI-43   Import, C           Export, R           Patient 0..1, Document 1..n
ITI-8    Patient Record, C U D (both)            Patient, with MSH-10
ITI-44   Patient Record, C U D (both)            Patient, with the II of the message
ITI-64   Patient Record, U (both)                Patient 3..4 by role, with MSH-10; SubmissionSet
ITI-81   Audit Log Used, R (both)                the log
=======  ==================  ==================  ===========================================

Beside them: Application Activity, and Security Alerts for a failed node authentication and for malware in a document.

Which column applies follows from ``Parties.writer``. The recorder adds time and source. ``reason`` is our own short
text (error codes); never a value of the request. ``decision`` names the rule of the access policy that let the request
through, kept as a detail of the object it was decided on. Patient ids are CX text, as the request carried them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atna.message import (
    Action,
    AuditMessage,
    Detail,
    EventIdentification,
    Outcome,
    ParticipantObject,
)
from atna.participants import (
    OPERATION_DETAIL,
    UNKNOWN,
    DocumentReference,
    Parties,
    Writer,
    about,
    decided,
    document_object,
    patients,
)
from atna.vocabulary import (
    EXPORT,
    IMPORT,
    LOGICAL_DELETION,
    OBJECT_REFERENCE,
    ORIGINATION,
    PATIENT_NUMBER,
    PATIENT_RECORD,
    PERMANENT_ERASURE,
    PERSON,
    QUERY,
    ROLE_JOB,
    ROLE_PATIENT,
    ROLE_QUERY,
    ROLE_REPORT,
    SUBMISSION_SET,
    SYSTEM,
)
from atna.vocabulary import transaction as transaction_code
from ihe.transactions import (
    ITI_18,
    ITI_41,
    ITI_42,
    ITI_43,
    ITI_57,
    ITI_62,
    ITI_86,
    ITI_92,
    Transaction,
)

__all__ = [
    "LinkChange",
    "documents_removed",
    "link_changed",
    "patient_changed_by_operator",
    "patient_feed",
    "patient_feed_v3",
    "patients_found",
    "provided",
    "registered",
    "removed",
    "retrieved",
    "retrieved_partly",
    "stored_query",
]

HOME_DETAIL: Final = "urn:ihe:iti:xca:2010:homeCommunityId"
"""Type of the detail with the home of what was asked or changed (documents have another, see ``participants``)."""

_UPDATES: Final = frozenset({ITI_57, ITI_92})


def provided(
    parties: Parties,
    *,
    patient_id: str | None,
    submission_set_id: str | None,
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """ITI-41 Provide and Register Document Set-b (ITI TF-2: 3.41.5.1)."""
    return _submission(ITI_41, parties, (patient_id, submission_set_id), (outcome, reason, decision))


def registered(
    parties: Parties,
    *,
    patient_id: str | None,
    submission_set_id: str | None,
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
    transaction: Transaction = ITI_42,
    home_community_id: str | None = None,
) -> AuditMessage:
    """ITI-42, 61 (ITI TF-2: 3.42.5.1) and, as updates, ITI-57 and 92: what a registry is sent as a submission.

    ``home_community_id`` stands in the record of an ITI-92.
    """
    named = (patient_id, submission_set_id)
    home = () if home_community_id is None else (Detail(HOME_DETAIL, home_community_id.encode()),)
    return _submission(transaction, parties, named, (outcome, reason, decision), home)


def _submission(
    transaction: Transaction,
    parties: Parties,
    named: tuple[str | None, str | None],
    result: tuple[Outcome, str | None, str | None],
    details: tuple[Detail, ...] = (),
) -> AuditMessage:
    (patient_id, submission_set_id), (outcome, reason, decision) = named, result
    asked = parties.writer is Writer.REQUESTER
    action = Action.READ if asked else Action.CREATE
    event = EventIdentification(
        EXPORT if asked else IMPORT,
        Action.UPDATE if transaction in _UPDATES else action,
        outcome,
        (transaction_code(transaction.code, transaction.name),),
        reason,
    )
    submission = ParticipantObject(
        submission_set_id or UNKNOWN, SUBMISSION_SET, SYSTEM, ROLE_JOB, details=(*details, *decided(decision))
    )
    return about(event, parties, (*patients(patient_id), submission))


def removed(
    parties: Parties,
    *,
    patient_ids: Sequence[str],
    object_ids: Sequence[str],
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """ITI-62 Remove Metadata: a record of the patients it was about and of every object named, by its entryUUID."""
    code = transaction_code(ITI_62.code, ITI_62.name)
    event = EventIdentification(PATIENT_RECORD, Action.DELETE, outcome, (code,), reason)
    whose = (patient for patient_id in patient_ids for patient in patients(patient_id))
    objects = (
        ParticipantObject(
            one, OBJECT_REFERENCE, SYSTEM, ROLE_REPORT, life_cycle=PERMANENT_ERASURE, details=decided(decision)
        )
        for one in object_ids or (UNKNOWN,)
    )
    return about(event, parties, (*whose, *objects))


def documents_removed(
    parties: Parties,
    *,
    documents: Sequence[DocumentReference],
    outcome: Outcome,
    patient_id: str | None = None,
    reason: str | None = None,
    decision: str | None = None,
    retention: str | None = None,
) -> AuditMessage:
    """ITI-86 Remove Documents, of one patient; or, where ``retention`` names a rule, what that rule made an end of."""
    code = () if retention is not None else (transaction_code(ITI_86.code, ITI_86.name),)
    event = EventIdentification(PATIENT_RECORD, Action.DELETE, outcome, code, reason)
    rule = (Detail(OPERATION_DETAIL, f"retention: {retention}".encode()),) if retention is not None else ()
    objects = (document_object(document, decision, life_cycle=PERMANENT_ERASURE, more=rule) for document in documents)
    return about(event, parties, (*patients(patient_id), *objects))


def stored_query(
    parties: Parties,
    *,
    query_id: str,
    request: bytes,
    patient_id: str | None,
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
    home_community_id: str | None = None,
    transaction: Transaction = ITI_18,
) -> AuditMessage:
    """ITI-18 Registry Stored Query (ITI TF-2: 3.18.5.1) and ITI-51, which takes one record for each patient.

    ``request`` is the whole AdhocQueryRequest, serialised as UTF-8. A PartialSuccess takes two records, one for each
    outcome.
    """
    event_type = transaction_code(transaction.code, transaction.name)
    details = [Detail("QueryEncoding", b"UTF-8")]
    if home_community_id is not None:
        details.append(Detail(HOME_DETAIL, home_community_id.encode()))
    query = ParticipantObject(
        query_id, event_type, SYSTEM, ROLE_QUERY, query=request, details=(*details, *decided(decision))
    )
    event = EventIdentification(QUERY, Action.EXECUTE, outcome, (event_type,), reason)
    return about(event, parties, (*patients(patient_id), query))


def retrieved(
    parties: Parties,
    *,
    documents: Sequence[DocumentReference],
    outcome: Outcome,
    patient_id: str | None = None,
    reason: str | None = None,
    decision: str | None = None,
    transaction: Transaction = ITI_43,
) -> AuditMessage:
    """ITI-43 Retrieve Document Set (ITI TF-2: 3.43.5.1) and ITI-39; ``documents`` are those with this one outcome."""
    asked = parties.writer is Writer.REQUESTER
    event = EventIdentification(
        IMPORT if asked else EXPORT,
        Action.CREATE if asked else Action.READ,
        outcome,
        (transaction_code(transaction.code, transaction.name),),
        reason,
    )
    objects = (document_object(document, decision) for document in documents)
    return about(event, parties, (*patients(patient_id), *objects), retrieving=True)


def patients_found(
    parties: Parties,
    *,
    transaction: Transaction,
    query_id: str,
    request: bytes,
    patient_ids: Sequence[str],
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
    home_community_id: str | None = None,
) -> AuditMessage:
    """ITI-47 Patient Demographics Query HL7 v3 and ITI-55 Cross Gateway Patient Discovery (ITI TF-2: 3.47.5, 3.55.5).

    ``query_id`` is the queryId of the message, ``request`` its queryByParameter as UTF-8; ``patient_ids`` (CX) are the
    patients returned, which the side that asks ITI-55 leaves out.
    """
    event_type = transaction_code(transaction.code, transaction.name)
    details = [Detail("QueryEncoding", b"UTF-8")]
    if home_community_id is not None:
        details.append(Detail("ihe:homeCommunityID", home_community_id.encode()))
    query = ParticipantObject(
        query_id, event_type, SYSTEM, ROLE_QUERY, query=request, details=(*details, *decided(decision))
    )
    event = EventIdentification(QUERY, Action.EXECUTE, outcome, (event_type,), reason)
    found = (one for patient_id in patient_ids for one in patients(patient_id))
    return about(event, parties, (*found, query))


def retrieved_partly(
    parties: Parties,
    *,
    found: Sequence[DocumentReference],
    missed: Sequence[DocumentReference],
    patient_id: str | None = None,
    reason: str | None = None,
    decision: str | None = None,
) -> tuple[AuditMessage, ...]:
    """ITI-43 with what each document came to: one record for those found, one (outcome 8) for those missed."""
    messages = []
    if found:
        messages.append(
            retrieved(parties, documents=found, outcome=Outcome.SUCCESS, patient_id=patient_id, decision=decision)
        )
    if missed:
        messages.append(
            retrieved(
                parties,
                documents=missed,
                outcome=Outcome.SERIOUS_FAILURE,
                patient_id=patient_id,
                reason=reason,
                decision=decision,
            )
        )
    return tuple(messages)


def patient_feed(
    parties: Parties,
    *,
    patient_id: str | None,
    control_id: str,
    action: Action,
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """ITI-8 Patient Identity Feed (ITI TF-2: 3.8.5.1): CREATE for A01 A04 A05, UPDATE for A08.

    A merge (A40) takes two records: DELETE for the subsumed id, UPDATE for the surviving one. ``control_id`` is MSH-10.
    """
    event = EventIdentification(
        PATIENT_RECORD, action, outcome, (transaction_code("ITI-8", "Patient Identity Feed"),), reason
    )
    details = (Detail("MSH-10", control_id.encode(errors="replace")), *decided(decision))
    return about(event, parties, patients(patient_id, details))


def patient_changed_by_operator(
    parties: Parties, *, patient_id: str, operation: str, outcome: Outcome, reason: str | None = None
) -> AuditMessage:
    """What an operator did to a patient by command (DICOM Patient Record, U); ``operation`` is one word of ours."""
    event = EventIdentification(PATIENT_RECORD, Action.UPDATE, outcome, (), reason)
    details = (Detail(OPERATION_DETAIL, operation.encode()),)
    return about(event, parties, patients(patient_id, details))


def patient_feed_v3(
    parties: Parties,
    *,
    patient_id: str | None,
    message_id: str,
    action: Action,
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """ITI-44 Patient Identity Feed HL7 V3 (ITI TF-2: 3.44.5.1): CREATE for 201301, UPDATE for 201302.

    A merge (201304) takes two records: DELETE for the subsumed id, UPDATE for the surviving one. ``message_id`` is the
    II of the message: root, or root^extension.
    """
    code = transaction_code("ITI-44", "Patient Identity Feed HL7 V3")
    event = EventIdentification(PATIENT_RECORD, action, outcome, (code,), reason)
    details = (Detail("II", message_id.encode(errors="replace")), *decided(decision))
    return about(event, parties, patients(patient_id, details))


@dataclass(frozen=True, slots=True)
class LinkChange:
    """The ids of an ITI-64, CX text, and the entryUUID of the SubmissionSet made for it; absent is ``None``."""

    local_id: str | None
    subsumed_local_id: str | None
    new_id: str | None
    previous_id: str | None
    submission_set: str | None = None


def link_changed(
    parties: Parties,
    change: LinkChange,
    *,
    control_id: str,
    outcome: Outcome,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """ITI-64 Notify XAD-PID Link Change (ITI TF-2: 3.64.5.1): one record with all its ids, each by its role."""
    code = transaction_code("ITI-64", "Notify XAD-PID Link Change")
    event = EventIdentification(PATIENT_RECORD, Action.UPDATE, outcome, (code,), reason)
    merged, moved = change.subsumed_local_id is not None, change.new_id != change.previous_id
    roles = (
        (change.local_id, "localPatientId", ORIGINATION if merged else None),
        (change.subsumed_local_id, "subsumedPatientId", LOGICAL_DELETION),
        (change.new_id, "newPatientId", ORIGINATION if moved else None),
        (change.previous_id, "previousPatientId", LOGICAL_DELETION if moved else None),
    )
    objects = [
        ParticipantObject(
            *(patient_id, PATIENT_NUMBER, PERSON, ROLE_PATIENT),
            life_cycle=life_cycle,
            details=(
                Detail("MSH-10", control_id.encode(errors="replace")),
                Detail("urn:ihe:iti:xpid:2017:patientIdentifierType", role.encode()),
                *decided(decision),
            ),
        )
        for patient_id, role, life_cycle in roles
        if patient_id
    ]
    if change.submission_set is not None:
        objects.append(ParticipantObject(change.submission_set, SUBMISSION_SET, SYSTEM, ROLE_JOB))
    return about(event, parties, objects)
