"""HL7 v3 answer to a query for patients, PRPA_IN201306UV02 (ITI TF-2: 3.47.4.2, 3.55.4.2; PRPA_MT201310UV02).

Values in, bytes out, and back: ``print_patient_answer`` and ``read_patient_answer``. The cases (3.55.4.2.2.4):

acknowledgement  queryResponseCode  registrationEvent  detectedIssueEvent
AA               OK                 one per patient    none
AA               OK                 none               triggerFor/actOrderRequired: attributes that are wanted too
AA               NF                 none               none
AE               AE                 none               mitigatedBy/detectedIssueManagement: why there is no answer

registrationEvent/subject1/patient                id, patientPerson, subjectOf1/queryMatchObservation (0-100)
registrationEvent/custodian/assignedEntity/id     the home community of this patient, an OID

Reading never raises: what is missing is ``None`` or empty.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from ihe.hl7v2 import CONTROL, AckCode, Demographics, Identifier
from ihe.hl7v3_parts import (
    INTERACTIONS,
    NS,
    Detail,
    InstanceIdentifier,
    demographics_of,
    devices_of,
    identifiers_of,
    instance_of,
    path,
    print_detail,
    print_id,
    print_opening,
    time_of,
    word,
)
from ihe.hl7v3_query import PatientQuery

__all__ = [
    "ANSWER",
    "WANTED",
    "FoundPatient",
    "PatientAnswer",
    "Reason",
    "ResponseCode",
    "print_patient_answer",
    "read_patient_answer",
]

ANSWER: Final = "PRPA_IN201306UV02"
WANTED: Final = "1.3.6.1.4.1.19376.1.2.27.1"
"""Code system of the attributes that are wanted too."""
_REASONS: Final = "1.3.6.1.4.1.19376.1.2.27.3"
_LOCATOR: Final = "1.3.6.1.4.1.19376.1.2.27.2"
_ACT_CODE: Final = "2.16.840.1.113883.5.4"
_ISSUE_KIND: Final = "_ActAdministrativeDetectedIssueManagementCode"
"""As the framework has it; others send others, and nobody should look."""
_GENDERS: Final = "2.16.840.1.113883.5.1"
_MOST_TEXT: Final = 256
_MOST_DIGITS: Final = 6
_EVENT: Final = "controlActProcess/subject/registrationEvent"
_ISSUE: Final = "controlActProcess/reasonOf/detectedIssueEvent"


class ResponseCode(StrEnum):
    """queryResponseCode."""

    OK = "OK"
    NOT_FOUND = "NF"
    ERROR = "AE"


class Reason(StrEnum):
    """Why there is no answer (code system 1.3.6.1.4.1.19376.1.2.27.3)."""

    BUSY = "ResponderBusy"
    NOT_AVAILABLE = "AnswerNotAvailable"
    INTERNAL = "InternalError"


@dataclass(frozen=True, slots=True)
class FoundPatient:
    """A patient that matches. ``home`` is the OID of the community the ids are good for, ``match`` 0 to 100."""

    identifiers: tuple[Identifier, ...]
    demographics: Demographics = field(default_factory=Demographics)
    home: str | None = None
    match: int | None = None


@dataclass(frozen=True, slots=True)
class PatientAnswer:
    """An answer as its receiver reads it: ``acknowledgement`` AA, AE or AR; words of ``details`` are bounded.

    ``target`` is the id of the message that is answered. ``wanted`` are codes of attributes the responder wants too,
    ``reasons`` codes why it did not answer; ``total`` is how many match, where that is told.
    """

    acknowledgement: str | None = None
    code: str | None = None
    query_id: InstanceIdentifier | None = None
    sender: tuple[InstanceIdentifier, ...] = ()
    patients: tuple[FoundPatient, ...] = ()
    wanted: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    total: int | None = None
    details: tuple[Detail, ...] = ()
    target: InstanceIdentifier | None = None

    def is_to(self, query: PatientQuery) -> bool:
        """Whether nothing in it says that it answers another message, or another query, than this one."""
        return _same(self.target, query.message_id) and _same(self.query_id, query.query_id)

    @property
    def refused(self) -> bool:
        """Whether it answers nothing: no AA, or AE where the answer stands."""
        return self.acknowledgement != AckCode.ACCEPT or self.code == ResponseCode.ERROR


def _same(told: InstanceIdentifier | None, asked: InstanceIdentifier | None) -> bool:
    """A UUID is the same in capitals; one that is not told contradicts nothing."""
    return told is None or asked is None or str(told).lower() == str(asked).lower()


# ------------------------------------------------------------------------------------------ reading


def read_patient_answer(body: Any, most: int | None = None) -> PatientAnswer:
    """Read the child of soap:Body, whatever it holds; of its patients the first ``most``."""
    issues = body.findall(path(_ISSUE), NS)
    ack, response = "acknowledgement/typeCode", "controlActProcess/queryAck/queryResponseCode"
    return PatientAnswer(
        acknowledgement=word(body.find(path(ack), NS), "code"),
        code=word(body.find(path(response), NS), "code"),
        query_id=instance_of(body.find(path("controlActProcess/queryAck/queryId"), NS)),
        sender=devices_of(body.findall("h:sender", NS)),
        patients=tuple(map(_found, islice(body.iterfind(path(_EVENT), NS), most))),
        wanted=_codes(issues, "triggerFor/actOrderRequired/code"),
        reasons=_codes(issues, "mitigatedBy/detectedIssueManagement/code"),
        total=_number(body.find(path("controlActProcess/queryAck/resultTotalQuantity"), NS)),
        details=tuple(map(_detail, body.findall(path("acknowledgement/acknowledgementDetail"), NS))),
        target=instance_of(body.find(path("acknowledgement/targetMessage/id"), NS)),
    )


def _found(event: Any) -> FoundPatient:
    patient = event.find(path("subject1/patient"), NS)
    home = instance_of(event.find(path("custodian/assignedEntity/id"), NS))
    if patient is None:
        return FoundPatient((), home=home.root if home else None)
    return FoundPatient(
        identifiers=identifiers_of(patient.findall("h:id", NS)),
        demographics=demographics_of(patient.find("h:patientPerson", NS)),
        home=home.root if home else None,
        match=_number(patient.find(path("subjectOf1/queryMatchObservation/value"), NS)),
    )


def _number(element: Any) -> int | None:
    value = word(element, "value") or ""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS else None


def _codes(issues: Iterable[Any], names: str) -> tuple[str, ...]:
    found = (word(one, "code") for issue in issues for one in issue.findall(path(names), NS))
    return tuple(dict.fromkeys(code[:_MOST_TEXT] for code in found if code))


def _detail(element: Any) -> Detail:
    code, location = element.find("h:code", NS), element.find("h:location", NS)
    text = " ".join(" ".join(part.itertext()) for part in element.findall("h:text", NS))
    words = (word(code, "code"), text, word(code, "codeSystem"), word(code, "displayName"))
    place = "" if location is None else "".join(location.itertext())
    return Detail(*(" ".join(CONTROL.sub(" ", one or "").split())[:_MOST_TEXT] for one in (*words, place)))


# ------------------------------------------------------------------------------------------ writing


def print_patient_answer(
    to: PatientQuery,
    *,
    message_id: str,
    time: str,
    code: ResponseCode,
    patients: Sequence[FoundPatient] = (),
    total: int | None = None,
    wanted: Sequence[str] = (),
    reason: Reason | None = None,
    details: Sequence[Detail] = (),
    acknowledgement: str | None = None,
) -> bytes:
    """PRPA_IN201306UV02. ``total``: how many match, where only some of them are in ``patients``.

    The acknowledgement is AE with ``code`` ERROR, else AA, unless told.
    """
    opening = print_opening(ANSWER, message_id=message_id, time=time, sender=to.receiver, receiver=to.sender)
    ack = acknowledgement or ("AE" if code is ResponseCode.ERROR else "AA")
    message = (
        f'{opening}<acknowledgement><typeCode code="{ack}"/><targetMessage>{print_id(to.message_id)}</targetMessage>'
        f"{''.join(map(print_detail, details))}</acknowledgement>"
        '<controlActProcess classCode="CACT" moodCode="EVN">'
        f'<code code="PRPA_TE201306UV02" codeSystem="{INTERACTIONS}"/>{"".join(map(_subject, patients))}'
        f"{_issue(wanted, reason)}<queryAck>{print_id(to.query_id, 'queryId')}"
        f'<statusCode code="deliveredResponse"/><queryResponseCode code="{code}"/>'
        f"{_quantities(len(patients), total)}</queryAck>"
    )
    return message.encode() + to.text + f"</controlActProcess></{ANSWER}>".encode()


def _quantities(sent: int, total: int | None) -> str:
    matching = sent if total is None else total
    return (
        f'<resultTotalQuantity value="{matching}"/><resultCurrentQuantity value="{sent}"/>'
        f'<resultRemainingQuantity value="{matching - sent}"/>'
    )


def _subject(found: FoundPatient) -> str:
    ids = "".join(print_id(InstanceIdentifier(one.universal_id, one.id)) for one in found.identifiers)
    organization = found.identifiers[0].universal_id if found.identifiers else None
    custodian = InstanceIdentifier(found.home) if found.home else None
    locator = f'<code code="NotHealthDataLocator" codeSystem="{_LOCATOR}"/>' if found.home else ""
    return (
        '<subject typeCode="SUBJ" contextConductionInd="false"><registrationEvent classCode="REG" moodCode="EVN">'
        '<id nullFlavor="NA"/><statusCode code="active"/><subject1 typeCode="SBJ"><patient classCode="PAT">'
        f'{ids}<statusCode code="active"/>{_person(found.demographics)}'
        '<providerOrganization classCode="ORG" determinerCode="INSTANCE">'
        f'{print_id(InstanceIdentifier(organization) if organization else None)}<contactParty classCode="CON"/>'
        f"</providerOrganization>{_observed(found.match)}</patient></subject1>"
        f'<custodian typeCode="CST"><assignedEntity classCode="ASSIGNED">{print_id(custodian)}{locator}'
        "</assignedEntity></custodian></registrationEvent></subject>"
    )


def _person(known: Demographics) -> str:
    given = f"<given>{escape(known.given)}</given>" if known.given else ""
    family = f"<family>{escape(known.family)}</family>" if known.family else ""
    name = f"<name>{given}{family}</name>" if given or family else '<name nullFlavor="UNK"/>'
    sex = {"O": "UN"}.get(known.sex or "", known.sex)
    gender = f'<administrativeGenderCode code="{sex}" codeSystem="{_GENDERS}"/>' if sex in {"F", "M", "UN"} else ""
    time = time_of(known.birth)
    birth = f'<birthTime value="{time}"/>' if time else ""
    return f'<patientPerson classCode="PSN" determinerCode="INSTANCE">{name}{gender}{birth}</patientPerson>'


def _observed(match: int | None) -> str:
    if match is None:
        return ""
    return (
        '<subjectOf1><queryMatchObservation classCode="OBS" moodCode="EVN"><code code="IHE_PDQ"/>'
        f'<value xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="INT" value="{match}"/>'
        "</queryMatchObservation></subjectOf1>"
    )


def _issue(wanted: Sequence[str], reason: Reason | None) -> str:
    if not wanted and reason is None:
        return ""
    managed = (
        ""
        if reason is None
        else '<mitigatedBy typeCode="MITGT"><detectedIssueManagement classCode="ACT" moodCode="EVN">'
        f'<code code="{reason}" codeSystem="{_REASONS}"/></detectedIssueManagement></mitigatedBy>'
    )
    orders = "".join(
        '<triggerFor typeCode="TRIG"><actOrderRequired classCode="ACT" moodCode="RQO">'
        f'<code code={quoteattr(code)} codeSystem="{WANTED}"/></actOrderRequired></triggerFor>'
        for code in wanted
    )
    return (
        '<reasonOf typeCode="RSON"><detectedIssueEvent classCode="ALRT" moodCode="EVN">'
        f'<code code="{_ISSUE_KIND}" codeSystem="{_ACT_CODE}"/>{managed}{orders}</detectedIssueEvent></reasonOf>'
    )
