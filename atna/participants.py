"""Who takes part in an audited event, and what it is about: the pieces that ``atna.events`` puts together.

The roles of the two parties swap with the direction of what flows (DICOM PS3.15 A.5.2, ITI TF-2: 3.20).
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from atna.message import (
    AuditMessage,
    CodedValue,
    Detail,
    EventIdentification,
    NetworkAccessPoint,
    Participant,
    ParticipantObject,
)
from atna.vocabulary import (
    DESTINATION,
    PATIENT_NUMBER,
    PERSON,
    REPORT_NUMBER,
    ROLE_PATIENT,
    ROLE_REPORT,
    SOURCE,
    SYSTEM,
)
from ihe.xua import AssertedCode, Caller, User

__all__ = [
    "DECISION_DETAIL",
    "OPERATION_DETAIL",
    "SEARCH_DETAIL",
    "UNKNOWN",
    "DocumentReference",
    "Parties",
    "Writer",
    "about",
    "calling",
    "decided",
    "document_object",
    "participant",
    "patients",
    "serving",
]

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
    (``Recorder.process_id``). ``node`` is the subject of the requester's certificate, ``None`` if not authenticated;
    ``user`` the person in whose name it asks, ``None`` while nobody is known.
    """

    writer: Writer
    requester_user_id: str
    requester_address: str | None
    endpoint: str
    endpoint_address: str | None
    process_id: str
    node: str | None = None
    user: User | None = None


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
        caller.user,
    )


def calling(endpoint: str, process_id: str, *, user_id: str, address: str) -> Parties:
    """The parties as the asking node sees them: ``user_id`` and ``address`` are our own URI (or name) and host."""
    return Parties(Writer.REQUESTER, user_id, address, endpoint, _host(endpoint), process_id)


def _host(uri: str) -> str | None:
    try:
        return urlsplit(uri).hostname
    except ValueError:
        return None


def about(
    event: EventIdentification, parties: Parties, objects: Iterable[ParticipantObject], *, retrieving: bool = False
) -> AuditMessage:
    """The message of what one party asked of the other.

    Who asks is the Source, the endpoint the Destination; ``retrieving``: the other way round, for what flows is the
    answer. A user takes part beside both, is the one who asked, and says for what purpose (ITI TF-2: 3.40, 3.20).
    """
    if parties.user is not None:
        event = replace(event, purposes_of_use=tuple(map(_coded, parties.user.purposes_of_use)))
    return AuditMessage(event, _taking_part(parties, retrieving=retrieving), tuple(objects))


def _taking_part(parties: Parties, *, retrieving: bool) -> tuple[Participant, ...]:
    asked = parties.writer is Writer.REQUESTER
    requester = participant(
        parties.requester_user_id,
        parties.requester_address,
        DESTINATION if retrieving else SOURCE,
        is_requestor=parties.user is None,
        process_id=parties.process_id if asked else None,
    )
    endpoint = participant(
        parties.endpoint,
        parties.endpoint_address,
        SOURCE if retrieving else DESTINATION,
        is_requestor=False,
        process_id=None if asked else parties.process_id,
    )
    ordered = (endpoint, requester) if retrieving else (requester, endpoint)
    node = (
        ()
        if parties.node is None
        else (participant(parties.node, parties.requester_address, None, is_requestor=False),)
    )
    return (*ordered, *node, *_user(parties.user))


def _user(user: User | None) -> Iterable[Participant]:
    if user is not None:
        full_name = f"{user.alias}<{user.name}@{user.issuer}>"
        yield Participant(user.name, is_requestor=True, roles=tuple(map(_coded, user.roles)), user_name=full_name)


def _coded(asserted: AssertedCode) -> CodedValue:
    return CodedValue(asserted.code, asserted.system, asserted.display)


def participant(
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


def patients(patient_id: str | None, details: tuple[Detail, ...] = ()) -> Iterable[ParticipantObject]:
    if patient_id:
        yield ParticipantObject(patient_id, PATIENT_NUMBER, PERSON, ROLE_PATIENT, details=details)


def document_object(
    document: DocumentReference,
    decision: str | None,
    *,
    life_cycle: int | None = None,
    more: tuple[Detail, ...] = (),
) -> ParticipantObject:
    details = list(more)
    if document.repository_unique_id is not None:
        details.append(Detail("Repository Unique Id", document.repository_unique_id.encode()))
    if document.home_community_id is not None:
        details.append(Detail("ihe:homeCommunityID", document.home_community_id.encode()))
    return ParticipantObject(
        *(document.unique_id, REPORT_NUMBER, SYSTEM, ROLE_REPORT),
        life_cycle=life_cycle,
        details=(*details, *decided(decision)),
    )


def decided(rule: str | None) -> tuple[Detail, ...]:
    return (Detail(DECISION_DETAIL, rule.encode()),) if rule is not None else ()
