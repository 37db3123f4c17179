"""HL7 v3 messages of the patient identity feed and their acknowledgement (ITI TF-2: 3.44; HL7 v3 PRPA_RM201301UV02 …).

Element in, values out: ``read_feed`` for PRPA_IN201301UV02 (add), 201302 (revise), 201304 (duplicates resolved);
``print_acknowledgement`` gives MCCI_IN000002UV01. What is read:

id, interactionId, sender and receiver device   who sends which message
controlActProcess/subject/registrationEvent     exactly one, which the judge sees to
  subject1/patient/id                           the ids of the patient; root is the assigning authority, an OID;
                                                assigningAuthorityName says nothing
  subject1/patient/patientPerson                name (the legal, else the first), administrativeGenderCode, birthTime
  replacementOf/priorRegistration/subject1/priorRegisteredRole/id   the subsumed ids of a merge
Not read: ids of the person (asOtherIDs), of the registration, of organisations; addresses and telecoms.

Reading never raises: what is missing is ``None`` or empty, for the transaction to judge. An element with nullFlavor
says nothing: v3 knows no way to erase that registries and senders agree on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from ihe.hl7v2 import CONTROL, MAX_HEADER_FIELD, Demographics, Identifier, Problem
from ihe.vocabulary import HL7

__all__ = ["PATIENT_ID", "PRIOR_ID", "InstanceIdentifier", "PatientFeed", "print_acknowledgement", "read_feed"]

PATIENT_ID: Final = "controlActProcess/subject/registrationEvent/subject1/patient/id"
PRIOR_ID: Final = (
    "controlActProcess/subject/registrationEvent/replacementOf/priorRegistration/subject1/priorRegisteredRole/id"
)
"""Where ids stand, from the message's root; also the ends of the ``location`` a sender is told."""

INTERACTIONS: Final = "2.16.840.1.113883.1.6"
TABLE_0357: Final = "2.16.840.1.113883.12.357"
"""HL7 v2's table of error conditions, which ITI-45 uses too; so both feeds name a fault alike."""

_NS: Final = {"h": HL7}
_EVENT: Final = "h:controlActProcess/h:subject/h:registrationEvent"
_SEX: Final = {"UN": "O"}
"""AdministrativeGender to table 0001, which the registry keeps: undifferentiated is other; F and M are the same."""


@dataclass(frozen=True, slots=True)
class InstanceIdentifier:
    """II: ``root`` (OID or UUID) and ``extension``; at least one is there."""

    root: str | None
    extension: str | None = None

    def __str__(self) -> str:
        return "^".join(part for part in (self.root, self.extension) if part)


@dataclass(frozen=True, slots=True)
class PatientFeed:
    """A message as a registry reads it.

    ``name`` is the local name of the root, ``interaction`` what interactionId says; ``sender`` and ``receiver`` are the
    ids of their devices. ``registrations`` counts the registrationEvents: only one patient is fed by a message.
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


# ------------------------------------------------------------------------------------------ reading


def read_feed(body: Any) -> PatientFeed:
    """Read the child of soap:Body, whatever it holds."""
    interaction = _instance(body.find("h:interactionId", _NS))
    patients = body.findall(f"{_EVENT}/h:subject1/h:patient", _NS)
    return PatientFeed(
        name=body.tag.rpartition("}")[2],
        message_id=_instance(body.find("h:id", _NS)),
        interaction=interaction.extension if interaction is not None else None,
        sender=_devices(body.findall("h:sender", _NS)),
        receiver=_devices(body.findall("h:receiver", _NS)),
        registrations=len(body.findall(_EVENT, _NS)),
        identifiers=_identifiers(body.findall(_path(PATIENT_ID), _NS)),
        demographics=_demographics(patients[0].find("h:patientPerson", _NS) if patients else None),
        prior_identifiers=_identifiers(body.findall(_path(PRIOR_ID), _NS)),
    )


def _path(names: str) -> str:
    return "/".join(f"h:{name}" for name in names.split("/"))


def _word(element: Any, attribute: str) -> str | None:
    """An attribute without blanks around it; ``None`` when absent, empty or with control characters in it."""
    value = (element.get(attribute) or "").strip()
    return None if not value or CONTROL.search(value) else value


def _instance(element: Any) -> InstanceIdentifier | None:
    if element is None:
        return None
    root, extension = _word(element, "root"), _word(element, "extension")
    return InstanceIdentifier(root, extension) if root or extension else None


def _devices(parties: Iterable[Any]) -> tuple[InstanceIdentifier, ...]:
    found = (_instance(one) for party in parties for one in party.findall("h:device/h:id", _NS))
    return tuple(one for one in found if one is not None)


def _identifiers(elements: Iterable[Any]) -> tuple[Identifier, ...]:
    """Ids with an extension, as CX would hold them: a root alone names no patient of an authority."""
    found = (_instance(one) for one in elements)
    return tuple(
        Identifier(one.extension, universal_id=one.root, universal_id_type="ISO")
        for one in found
        if one is not None and one.extension is not None
    )


def _demographics(person: Any) -> Demographics:
    if person is None:
        return Demographics()
    names = person.findall("h:name", _NS)
    legal = [name for name in names if "L" in (name.get("use") or "").split()]
    name = (legal or names or [None])[0]
    sex, birth = person.find("h:administrativeGenderCode", _NS), person.find("h:birthTime", _NS)
    code = _word(sex, "code") if sex is not None else None
    return Demographics(
        family=_name_part(name, "family", " "),
        given=_name_part(name, "given", None),
        birth=_cut(_word(birth, "value")) if birth is not None else None,
        sex=_cut(_SEX.get(code, code)) if code is not None else None,
    )


def _name_part(name: Any, part: str, joined_with: str | None) -> str | None:
    """The parts of a name that carry no qualifier (birth name, initial …), all of them or the first."""
    parts = [] if name is None else name.findall(f"h:{part}", _NS)
    plain = [one for one in parts if not one.get("qualifier")] or parts
    texts = [" ".join("".join(one.itertext()).split()) for one in plain]
    texts = [text for text in texts if text]
    if not texts:
        return None
    return _cut(CONTROL.sub("", texts[0] if joined_with is None else joined_with.join(texts)))


def _cut(text: str | None) -> str | None:
    return text[:MAX_HEADER_FIELD] if text else None


# ------------------------------------------------------------------------------------------ writing


def print_acknowledgement(to: PatientFeed, *, message_id: str, time: str, problems: Sequence[Problem] = ()) -> bytes:
    """MCCI_IN000002UV01 to a message: AA without problems, else the first one's code with a detail for each.

    ``message_id`` is the root of our own id (a UUID), ``time`` our creationTime (HL7 TS). Sender and receiver are those
    of ``to``, exchanged.
    """
    code = problems[0].ack if problems else "AA"
    message = (
        f'<MCCI_IN000002UV01 xmlns="{HL7}" ITSVersion="XML_1.0"><id root={quoteattr(message_id)}/>'
        f'<creationTime value={quoteattr(time)}/><interactionId root="{INTERACTIONS}" extension="MCCI_IN000002UV01"/>'
        '<processingCode code="P"/><processingModeCode code="T"/><acceptAckCode code="NE"/>'
        f"{_party('receiver', 'RCV', to.sender)}{_party('sender', 'SND', to.receiver)}"
        f'<acknowledgement><typeCode code="{code}"/><targetMessage>{_id(to.message_id)}</targetMessage>'
        f"{''.join(_detail(problem) for problem in problems)}</acknowledgement></MCCI_IN000002UV01>"
    )
    return message.encode()


def _party(name: str, type_code: str, ids: Sequence[InstanceIdentifier]) -> str:
    listed = "".join(map(_id, ids)) or _id(None)
    device = f'<device classCode="DEV" determinerCode="INSTANCE">{listed}</device>'
    return f'<{name} typeCode="{type_code}">{device}</{name}>'


def _id(one: InstanceIdentifier | None) -> str:
    if one is None:
        return '<id nullFlavor="NI"/>'
    parts = {"root": one.root, "extension": one.extension}
    written = "".join(f" {name}={quoteattr(value)}" for name, value in parts.items() if value is not None)
    return f"<id{written}/>"


def _detail(problem: Problem) -> str:
    location = f"<location>{escape(problem.location)}</location>" if problem.location else ""
    return (
        f'<acknowledgementDetail typeCode="E"><code code="{problem.code}" codeSystem="{TABLE_0357}"'
        f" displayName={quoteattr(problem.code.text)}/><text>{escape(problem.text)}</text>{location}"
        "</acknowledgementDetail>"
    )
