"""What is audited, one function per transaction and event (ITI TF-2: 3.NN.5.1; DICOM PS3.15 A.5.3).

The table of the framework, as far as this house speaks it:

=======  ==================  ==================  ===========================================
ITI      who asks            who answers         objects
=======  ==================  ==================  ===========================================
ITI-41   Export, R           Import, C           Patient 0..1, SubmissionSet
ITI-42   Export, R           Import, C           Patient 0..1, SubmissionSet (ITI-61 alike)
ITI-57   Export, U           Import, U           Patient 0..1, SubmissionSet (ITI-92 alike)
ITI-62   Patient Record, D (both)                Patient 0..n, each object named
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

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from atna.message import (
    Action,
    AuditMessage,
    CodedValue,
    Detail,
    EventIdentification,
    NetworkAccessPoint,
    Outcome,
    Participant,
    ParticipantObject,
)
from atna.vocabulary import (
    APPLICATION,
    APPLICATION_ACTIVITY,
    APPLICATION_LAUNCHER,
    APPLICATION_START,
    APPLICATION_STOP,
    AUDIT_LOG_USED,
    DESTINATION,
    EXPORT,
    IMPORT,
    LOGICAL_DELETION,
    MALWARE,
    NODE_AUTHENTICATION,
    OBJECT_REFERENCE,
    ORIGINATION,
    PATIENT_NUMBER,
    PATIENT_RECORD,
    PERMANENT_ERASURE,
    PERSON,
    QUERY,
    REPORT_NUMBER,
    ROLE_JOB,
    ROLE_PATIENT,
    ROLE_QUERY,
    ROLE_REPORT,
    ROLE_SECURITY_RESOURCE,
    SECURITY_ALERT,
    SOURCE,
    SUBMISSION_SET,
    SYSTEM,
    URI,
    dcm,
)
from atna.vocabulary import transaction as transaction_code
from ihe.transactions import ITI_18, ITI_41, ITI_42, ITI_43, ITI_57, ITI_62, ITI_92, Transaction
from ihe.xua import Caller

__all__ = [
    "DocumentReference",
    "LinkChange",
    "Parties",
    "Writer",
    "application_activity",
    "audit_log_used",
    "calling",
    "link_changed",
    "malware_found",
    "node_authentication_failed",
    "patient_changed_by_operator",
    "patient_feed",
    "patient_feed_v3",
    "provided",
    "registered",
    "removed",
    "retrieved",
    "retrieved_partly",
    "serving",
    "stored_query",
]


_UPDATES: Final = frozenset({ITI_57, ITI_92})

UNKNOWN: Final = "unknown"
"""ParticipantObjectID where the request could not be read far enough: the object itself is required."""

DECISION_DETAIL: Final = "urn:dossier:access-rule"
"""Type of the detail that names the rule of the access policy."""

OPERATION_DETAIL: Final = "urn:dossier:operation"
"""Type of the detail that says what an operator did."""

SEARCH_DETAIL: Final = "urn:dossier:search"
"""Type of the detail that holds the parameters of a search in the audit log."""


class Writer(StrEnum):
    """Which of the two parties writes the record."""

    REQUESTER = "requester"
    RESPONDER = "responder"


@dataclass(frozen=True, slots=True)
class Parties:
    """The two nodes of a transaction, told apart by who sends the request.

    ``requester_user_id`` is the wsa:ReplyTo of the request or, when that is anonymous, a free text (the address);
    for HL7 v2 it is MSH-4, pipe, MSH-3. ``endpoint`` is the URI of the service (HL7 v2: MSH-6, pipe, MSH-5).
    ``requester_address`` and ``endpoint_address`` are host names or IP addresses. ``process_id`` is the writer's own
    (``Recorder.process_id``). ``node`` is the subject of the requester's certificate, ``None`` if not authenticated.
    """

    writer: Writer
    requester_user_id: str
    requester_address: str | None
    endpoint: str
    endpoint_address: str | None
    process_id: str
    node: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentReference:
    """A document that was asked for (ITI TF-2: 3.43.5.1)."""

    unique_id: str
    repository_unique_id: str | None = None
    home_community_id: str | None = None


def serving(
    caller: Caller, endpoint: str, process_id: str, *, user_id: str | None = None, address: str | None = None
) -> Parties:
    """The parties as the answering node sees them.

    ``endpoint`` is the URI we were called at, ``address`` our host (default: from the URI); ``user_id`` is wsa:ReplyTo
    (anonymous or absent: the caller's address stands in) or the sending application of an HL7 v2 message.
    """
    anonymous = not user_id or user_id.endswith("/addressing/anonymous")
    return Parties(
        Writer.RESPONDER,
        caller.address if anonymous or user_id is None else user_id,
        caller.address,
        endpoint,
        address or _host(endpoint),
        process_id,
        caller.node,
    )


def calling(endpoint: str, process_id: str, *, user_id: str, address: str) -> Parties:
    """The parties as the asking node sees them: ``user_id`` and ``address`` are our own URI (or name) and host."""
    return Parties(Writer.REQUESTER, user_id, address, endpoint, _host(endpoint), process_id)


def _host(uri: str) -> str | None:
    try:
        return urlsplit(uri).hostname
    except ValueError:
        return None


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
) -> AuditMessage:
    """ITI-42, 61 (ITI TF-2: 3.42.5.1) and, as updates, ITI-57 and 92: what a registry is sent as a submission."""
    return _submission(transaction, parties, (patient_id, submission_set_id), (outcome, reason, decision))


def _submission(
    transaction: Transaction,
    parties: Parties,
    about: tuple[str | None, str | None],
    result: tuple[Outcome, str | None, str | None],
) -> AuditMessage:
    (patient_id, submission_set_id), (outcome, reason, decision) = about, result
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
        submission_set_id or UNKNOWN, SUBMISSION_SET, SYSTEM, ROLE_JOB, details=_decided(decision)
    )
    return AuditMessage(event, _pushed(parties), (*_patients(patient_id), submission))


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
    patients = (patient for patient_id in patient_ids for patient in _patients(patient_id))
    objects = (
        ParticipantObject(
            one, OBJECT_REFERENCE, SYSTEM, ROLE_REPORT, life_cycle=PERMANENT_ERASURE, details=_decided(decision)
        )
        for one in object_ids or (UNKNOWN,)
    )
    return AuditMessage(event, _pushed(parties), (*patients, *objects))


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
        details.append(Detail("urn:ihe:iti:xca:2010:homeCommunityId", home_community_id.encode()))
    query = ParticipantObject(
        query_id, event_type, SYSTEM, ROLE_QUERY, query=request, details=(*details, *_decided(decision))
    )
    event = EventIdentification(QUERY, Action.EXECUTE, outcome, (event_type,), reason)
    return AuditMessage(event, _pushed(parties), (*_patients(patient_id), query))


def retrieved(
    parties: Parties,
    *,
    documents: Sequence[DocumentReference],
    outcome: Outcome,
    patient_id: str | None = None,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """ITI-43 Retrieve Document Set (ITI TF-2: 3.43.5.1). ``documents`` are those with this one outcome."""
    asked = parties.writer is Writer.REQUESTER
    event = EventIdentification(
        IMPORT if asked else EXPORT,
        Action.CREATE if asked else Action.READ,
        outcome,
        (transaction_code(ITI_43.code, ITI_43.name),),
        reason,
    )
    objects = (_document(document, decision) for document in documents)
    return AuditMessage(event, _pulled(parties), (*_patients(patient_id), *objects))


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
    details = (Detail("MSH-10", control_id.encode(errors="replace")), *_decided(decision))
    return AuditMessage(event, _pushed(parties), tuple(_patients(patient_id, details)))


def patient_changed_by_operator(
    parties: Parties, *, patient_id: str, operation: str, outcome: Outcome, reason: str | None = None
) -> AuditMessage:
    """What an operator did to a patient by command (DICOM Patient Record, U); ``operation`` is one word of ours."""
    event = EventIdentification(PATIENT_RECORD, Action.UPDATE, outcome, (), reason)
    details = (Detail(OPERATION_DETAIL, operation.encode()),)
    return AuditMessage(event, _pushed(parties), tuple(_patients(patient_id, details)))


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
    details = (Detail("II", message_id.encode(errors="replace")), *_decided(decision))
    return AuditMessage(event, _pushed(parties), tuple(_patients(patient_id, details)))


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
                *_decided(decision),
            ),
        )
        for patient_id, role, life_cycle in roles
        if patient_id
    ]
    if change.submission_set is not None:
        objects.append(ParticipantObject(change.submission_set, SUBMISSION_SET, SYSTEM, ROLE_JOB))
    return AuditMessage(event, _pushed(parties), tuple(objects))


def application_activity(
    *, started: bool, application: str, process_id: str, address: str, outcome: Outcome = Outcome.SUCCESS
) -> AuditMessage:
    """Application Start or Stop (DICOM PS3.15 A.5.3.1). ``application`` names the service, ``address`` its host.

    The launcher is the service manager of that host: no person is known to us.
    """
    event = EventIdentification(
        APPLICATION_ACTIVITY, Action.EXECUTE, outcome, (APPLICATION_START if started else APPLICATION_STOP,)
    )
    own = _participant(process_id, address, APPLICATION, is_requestor=False, name=application)
    launcher = _participant(f"supervisor@{address}", address, APPLICATION_LAUNCHER, is_requestor=True)
    return AuditMessage(event, (own, launcher))


def audit_log_used(
    parties: Parties,
    *,
    log_uri: str,
    outcome: Outcome,
    search: str | None = None,
    reason: str | None = None,
    decision: str | None = None,
) -> AuditMessage:
    """Audit Log Used (DICOM PS3.15 A.5.3.2), for each reading of the log; ``search`` is what was asked for."""
    event = EventIdentification(AUDIT_LOG_USED, Action.READ, outcome, (), reason)
    asked = (Detail(SEARCH_DETAIL, search.encode()),) if search else ()
    log = ParticipantObject(
        log_uri, URI, SYSTEM, ROLE_SECURITY_RESOURCE, name="Security Audit Log", details=(*asked, *_decided(decision))
    )
    return AuditMessage(event, _pushed(parties), (log,))


def node_authentication_failed(*, process_id: str, address: str, peer_address: str, reason: str) -> AuditMessage:
    """Security Alert, Node Authentication (DICOM PS3.15 A.5.3.11): a peer that could not prove who it is (ITI-19)."""
    event = EventIdentification(SECURITY_ALERT, Action.EXECUTE, Outcome.SERIOUS_FAILURE, (NODE_AUTHENTICATION,), reason)
    own = _participant(process_id, address, APPLICATION, is_requestor=False)
    peer = _participant(peer_address, peer_address, None, is_requestor=True)
    node = ParticipantObject(
        peer_address,
        dcm("110182", "Node ID"),
        SYSTEM,
        ROLE_SECURITY_RESOURCE,
        details=(Detail("Alert Description", reason.encode()),),
    )
    return AuditMessage(event, (own, peer), (node,))


def malware_found(parties: Parties, *, document: DocumentReference, malware: str) -> AuditMessage:
    """Security Alert (DICOM PS3.15 A.5.3.11): a document that was sent holds malware and was refused.

    ``malware`` is the name the scanner gives it. It stands beside the record of the transaction that failed.
    """
    event = EventIdentification(SECURITY_ALERT, Action.EXECUTE, Outcome.SERIOUS_FAILURE, (MALWARE,))
    subject = ParticipantObject(
        document.unique_id,
        REPORT_NUMBER,
        SYSTEM,
        ROLE_SECURITY_RESOURCE,
        details=(
            Detail("Alert Description", f"malware: {malware}".encode(errors="replace")),
            *_document(document, None).details,
        ),
    )
    return AuditMessage(event, _pushed(parties), (subject,))


def _pushed(parties: Parties) -> tuple[Participant, ...]:
    """The requester is the Source, the endpoint the Destination."""
    return _both(parties, requester_role=SOURCE, endpoint_role=DESTINATION)


def _pulled(parties: Parties) -> tuple[Participant, ...]:
    """The endpoint is the Source of what the requester receives."""
    return _both(parties, requester_role=DESTINATION, endpoint_role=SOURCE)


def _both(parties: Parties, *, requester_role: CodedValue, endpoint_role: CodedValue) -> tuple[Participant, ...]:
    asked = parties.writer is Writer.REQUESTER
    requester = _participant(
        parties.requester_user_id,
        parties.requester_address,
        requester_role,
        is_requestor=True,
        process_id=parties.process_id if asked else None,
    )
    endpoint = _participant(
        parties.endpoint,
        parties.endpoint_address,
        endpoint_role,
        is_requestor=False,
        process_id=None if asked else parties.process_id,
    )
    ordered = (requester, endpoint) if requester_role is SOURCE else (endpoint, requester)
    if parties.node is None:
        return ordered
    return (*ordered, _participant(parties.node, parties.requester_address, None, is_requestor=False))


def _participant(
    user_id: str,
    address: str | None,
    role: CodedValue | None,
    *,
    is_requestor: bool,
    process_id: str | None = None,
    name: str | None = None,
) -> Participant:
    return Participant(
        user_id,
        is_requestor,
        (role,) if role is not None else (),
        process_id,
        name,
        address,
        _network_type(address) if address is not None else None,
    )


@lru_cache(maxsize=1024)
def _network_type(address: str) -> NetworkAccessPoint:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return NetworkAccessPoint.NAME
    return NetworkAccessPoint.IP


def _patients(patient_id: str | None, details: tuple[Detail, ...] = ()) -> Iterable[ParticipantObject]:
    if patient_id:
        yield ParticipantObject(patient_id, PATIENT_NUMBER, PERSON, ROLE_PATIENT, details=details)


def _document(document: DocumentReference, decision: str | None) -> ParticipantObject:
    details = []
    if document.repository_unique_id is not None:
        details.append(Detail("Repository Unique Id", document.repository_unique_id.encode()))
    if document.home_community_id is not None:
        details.append(Detail("ihe:homeCommunityID", document.home_community_id.encode()))
    return ParticipantObject(
        document.unique_id, REPORT_NUMBER, SYSTEM, ROLE_REPORT, details=(*details, *_decided(decision))
    )


def _decided(rule: str | None) -> tuple[Detail, ...]:
    return (Detail(DECISION_DETAIL, rule.encode()),) if rule is not None else ()
