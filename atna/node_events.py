"""What a node does and suffers by itself, beside the transactions of ``atna.events`` (DICOM PS3.15 A.5.3)."""

from dataclasses import replace
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
    SEARCH_DETAIL,
    DocumentReference,
    Parties,
    about,
    decided,
    document_object,
    participant,
)
from atna.vocabulary import (
    APPLICATION,
    APPLICATION_ACTIVITY,
    APPLICATION_LAUNCHER,
    APPLICATION_START,
    APPLICATION_STOP,
    AUDIT_LOG_USED,
    MALWARE,
    NODE_AUTHENTICATION,
    PERMANENT_ERASURE,
    REPORT_NUMBER,
    ROLE_SECURITY_RESOURCE,
    SECURITY_ALERT,
    SYSTEM,
    URI,
    dcm,
)

__all__ = [
    "application_activity",
    "audit_log_exported",
    "audit_log_removed",
    "audit_log_used",
    "malware_found",
    "node_authentication_failed",
]

PORT_DETAIL: Final = "urn:dossier:peer-port"
REPEATS_DETAIL: Final = "urn:dossier:repeats"
"""Type of the detail that tells how many handshakes one record stands for."""


def application_activity(
    *, started: bool, application: str, process_id: str, address: str, outcome: Outcome = Outcome.SUCCESS
) -> AuditMessage:
    """Application Start or Stop (DICOM PS3.15 A.5.3.1). ``application`` names the service, ``address`` its host.

    The launcher is the service manager of that host: no person is known to us.
    """
    event = EventIdentification(
        APPLICATION_ACTIVITY, Action.EXECUTE, outcome, (APPLICATION_START if started else APPLICATION_STOP,)
    )
    own = participant(process_id, address, APPLICATION, is_requestor=False, name=application)
    launcher = participant(f"supervisor@{address}", address, APPLICATION_LAUNCHER, is_requestor=True)
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
    """Audit Log Used (DICOM PS3.15 A.5.3.2), for each reading of the log; ``search`` is what was asked for.

    One or two take part, and no more: the node that reads, by its certificate where it has one, and the person in whose
    name it does, else the log's own address.
    """
    event = EventIdentification(AUDIT_LOG_USED, Action.READ, outcome, (), reason)
    asked = (Detail(SEARCH_DETAIL, search.encode()),) if search else ()
    log = ParticipantObject(
        log_uri, URI, SYSTEM, ROLE_SECURITY_RESOURCE, name="Security Audit Log", details=(*asked, *decided(decision))
    )
    if parties.node is not None:
        parties = replace(parties, requester_user_id=parties.node, node=None)
    message = about(event, parties, (log,))
    reader, endpoint, *person = message.participants
    return replace(message, participants=(reader, *(person or [endpoint])))


def audit_log_removed(
    parties: Parties, *, partition: str, records: tuple[int, int], last_link: bytes, rule: str, outcome: Outcome
) -> AuditMessage:
    """Audit Log Used with action D: a partition of the log, its first and last record, goes by a retention rule.

    DICOM PS3.15 A.5.3.2 knows reading alone and has no event for this; Audit Log Used is where a reader looks.
    """
    event = EventIdentification(AUDIT_LOG_USED, Action.DELETE, outcome, ())
    link = Detail("urn:dossier:audit-log:last-link", last_link.hex().encode())
    log = replace(_part_of_log(partition, records, f"retention: {rule}", link), life_cycle=PERMANENT_ERASURE)
    return about(event, parties, (log,))


def audit_log_exported(parties: Parties, *, partition: str, records: tuple[int, int], outcome: Outcome) -> AuditMessage:
    """Audit Log Used (DICOM PS3.15 A.5.3.2): a partition, its first and last record, was handed over as a file."""
    event = EventIdentification(AUDIT_LOG_USED, Action.READ, outcome, ())
    return about(event, parties, (_part_of_log(partition, records, "export"),))


def _part_of_log(partition: str, records: tuple[int, int], operation: str, *more: Detail) -> ParticipantObject:
    first, last = records
    return ParticipantObject(
        *(f"urn:dossier:audit-log:{partition}", URI, SYSTEM, ROLE_SECURITY_RESOURCE),
        name="Security Audit Log",
        details=(
            Detail(OPERATION_DETAIL, operation.encode()),
            Detail("urn:dossier:audit-log:records", f"{first}-{last}".encode()),
            *more,
        ),
    )


def node_authentication_failed(
    *, process_id: str, address: str, peer_address: str, peer_port: int | None, reason: str, repeats: int = 1
) -> AuditMessage:
    """Security Alert, Node Authentication (DICOM PS3.15 A.5.3.11): a peer that could not prove who it is (ITI-19).

    The node is named by its address; a network access point has no place for a port, so that is a detail of the object.
    ``repeats`` handshakes that failed alike take one record, without a port.
    """
    event = EventIdentification(SECURITY_ALERT, Action.EXECUTE, Outcome.SERIOUS_FAILURE, (NODE_AUTHENTICATION,), reason)
    own = participant(process_id, address, APPLICATION, is_requestor=False)
    peer = participant(peer_address, peer_address, None, is_requestor=True)
    details = [Detail("Alert Description", reason.encode(errors="replace"))]
    if peer_port is not None:
        details.append(Detail(PORT_DETAIL, str(peer_port).encode()))
    if repeats > 1:
        details.append(Detail(REPEATS_DETAIL, str(repeats).encode()))
    node = ParticipantObject(
        peer_address,
        dcm("110182", "Node ID"),
        SYSTEM,
        ROLE_SECURITY_RESOURCE,
        details=tuple(details),
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
            *document_object(document, None).details,
        ),
    )
    return about(event, parties, (subject,))
