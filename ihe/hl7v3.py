"""HL7 v3 messages of the patient identity feed and their acknowledgement (ITI TF-2: 3.44; HL7 v3 PRPA_RM201301UV02 …).

Element in, values out: ``read_feed`` for PRPA_IN201301UV02 (add), 201302 (revise), 201304 (duplicates resolved);
``print_acknowledgement`` gives MCCI_IN000002UV01. What is read:

id, interactionId, sender and receiver device   who sends which message
controlActProcess/subject/registrationEvent     exactly one, which the judge sees to
  subject1/patient/id                           the ids of the one patient; root is the assigning authority, an OID;
                                                assigningAuthorityName says nothing
  subject1/patient/patientPerson                name (the legal, else the first), administrativeGenderCode, birthTime
  replacementOf/priorRegistration/subject1/priorRegisteredRole/id   the subsumed ids of a merge
Not read: ids of the person (asOtherIDs), of the registration, of organisations; addresses and telecoms.

Reading never raises: what is missing is ``None`` or empty, for the transaction to judge. An element with nullFlavor
says nothing: v3 knows no way to erase that registries and senders agree on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ihe.hl7v2 import Demographics, Identifier, Problem
from ihe.hl7v3_parts import (
    INTERACTIONS,
    NS,
    Addressed,
    Detail,
    InstanceIdentifier,
    demographics_of,
    details_of,
    devices_of,
    identifiers_of,
    instance_of,
    path,
    print_detail,
    print_id,
    print_opening,
)

__all__ = [
    "INTERACTIONS",
    "PATIENT_ID",
    "PRIOR_ID",
    "InstanceIdentifier",
    "PatientFeed",
    "accept_acknowledgement",
    "print_acknowledgement",
    "read_feed",
]

PATIENT_ID: Final = "controlActProcess/subject/registrationEvent/subject1/patient/id"
PRIOR_ID: Final = (
    "controlActProcess/subject/registrationEvent/replacementOf/priorRegistration/subject1/priorRegisteredRole/id"
)
"""Where ids stand, from the message's root; also the ends of the ``location`` a sender is told."""

_EVENT: Final = "h:controlActProcess/h:subject/h:registrationEvent"


@dataclass(frozen=True, slots=True)
class PatientFeed:
    """A message as a registry reads it.

    ``name`` is the local name of the root, ``interaction`` what interactionId says; ``sender`` and ``receiver`` are the
    ids of their devices. ``registrations`` counts the registrationEvents, ``patients`` the patients in them: a message
    feeds only one.
    """

    name: str
    message_id: InstanceIdentifier | None = None
    interaction: str | None = None
    sender: tuple[InstanceIdentifier, ...] = ()
    receiver: tuple[InstanceIdentifier, ...] = ()
    registrations: int = 0
    identifiers: tuple[Identifier, ...] = ()
    demographics: Demographics = field(default_factory=Demographics)
    prior_identifiers: tuple[Identifier, ...] = ()
    patients: int = 0


# ------------------------------------------------------------------------------------------ reading


def read_feed(body: Any) -> PatientFeed:
    """Read the child of soap:Body, whatever it holds."""
    interaction = instance_of(body.find("h:interactionId", NS))
    patients = body.findall(f"{_EVENT}/h:subject1/h:patient", NS)
    return PatientFeed(
        name=body.tag.rpartition("}")[2],
        message_id=instance_of(body.find("h:id", NS)),
        interaction=interaction.extension if interaction is not None else None,
        sender=devices_of(body.findall("h:sender", NS)),
        receiver=devices_of(body.findall("h:receiver", NS)),
        registrations=len(body.findall(_EVENT, NS)),
        identifiers=identifiers_of(body.findall(path(PATIENT_ID), NS)),
        demographics=demographics_of(patients[0].find("h:patientPerson", NS) if patients else None),
        prior_identifiers=identifiers_of(body.findall(path(PRIOR_ID), NS)),
        patients=len(patients),
    )


# ------------------------------------------------------------------------------------------ writing


def print_acknowledgement(to: PatientFeed, *, message_id: str, time: str, problems: Sequence[Problem] = ()) -> bytes:
    """MCCI_IN000002UV01 to a message: AA without problems, else the first one's code with a detail for each.

    ``message_id`` is the root of our own id (a UUID), ``time`` our creationTime (HL7 TS). Sender and receiver are those
    of ``to``, exchanged.
    """
    code = str(problems[0].ack) if problems else "AA"
    return accept_acknowledgement(
        code, message_id=message_id, time=time, to=to, target=to.message_id, details=details_of(problems)
    )


def accept_acknowledgement(
    code: str,
    *,
    message_id: str,
    time: str,
    to: Addressed,
    target: InstanceIdentifier | None,
    details: Sequence[Detail] = (),
) -> bytes:
    """MCCI_IN000002UV01 with ``code`` (AA, AE, AR) to the message with the id ``target``."""
    opening = print_opening(
        "MCCI_IN000002UV01", message_id=message_id, time=time, sender=to.receiver, receiver=to.sender
    )
    message = (
        f'{opening}<acknowledgement><typeCode code="{code}"/><targetMessage>{print_id(target)}</targetMessage>'
        f"{''.join(map(print_detail, details))}</acknowledgement></MCCI_IN000002UV01>"
    )
    return message.encode()
