"""HL7 v3 query for patients, PRPA_IN201305UV02 (ITI TF-2: 3.47.4.1, 3.55.4.1; HL7 v3 PRPA_MT201306UV02).

Element in, values out, and back: ``read_patient_query`` and ``print_patient_query``. What is read:

id, interactionId, sender and receiver device    who sends which message
sender/device/asAgent/representedOrganization/id the community of the sender, an OID (ITI-55)
controlActProcess/queryByParameter               exactly one, which the judge sees to
  queryId                                        told again in the answer
  responsePriorityCode                           I at once, D deferred (ITI-55)
  initialQuantity                                so many patients at once are enough
  parameterList                                  each parameter with 1..n values, one of which must hold
    livingSubjectId                              II; several of them: each must hold
    livingSubjectName, -BirthTime, -AdministrativeGender
    otherIDsScopingOrganization                  only ids of these authorities are wanted (ITI-47)
    all others                                   by name only: nothing here is kept that could be compared with them
The whole queryByParameter is kept as it came, for the answer repeats it and the audit record shows it.

Reading never raises: what is missing is ``None`` or empty, for the transaction to judge.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from ihe.hl7v2 import AckCode, Demographics, ErrorCode, Identifier, Problem
from ihe.hl7v3_parts import (
    INTERACTIONS,
    NS,
    InstanceIdentifier,
    devices_of,
    identifiers_of,
    instance_of,
    name_part,
    path,
    print_id,
    print_opening,
    sex_of,
    time_of,
    word,
)

__all__ = [
    "ASKED_FOR",
    "BIRTH",
    "DEFERRED",
    "GENDER",
    "MAX_QUERY_BYTES",
    "NAME",
    "PARAMETERS",
    "QUERY",
    "SCOPE",
    "SUBJECT_ID",
    "PatientName",
    "PatientParameters",
    "PatientQuery",
    "parameters_of",
    "print_patient_query",
    "problem_of",
    "read_patient_query",
]

ASKED_FOR: Final = "PRPA_IN201305UV02"
QUERY: Final = "controlActProcess/queryByParameter"
PARAMETERS: Final = f"{QUERY}/parameterList"
"""Where things stand, from the message's root; also the ends of the ``location`` a sender is told."""
SUBJECT_ID: Final = "livingSubjectId"
NAME: Final = "livingSubjectName"
BIRTH: Final = "livingSubjectBirthTime"
GENDER: Final = "livingSubjectAdministrativeGender"
SCOPE: Final = "otherIDsScopingOrganization"
DEFERRED: Final = "D"
MAX_QUERY_BYTES: Final = 2**18
"""Of a queryByParameter: it is answered, and kept in an audit record for each patient found. Real ones have some kB."""

_AGENT: Final = "h:sender/h:device/h:asAgent/h:representedOrganization/h:id"
_SEMANTICS: Final = {
    SUBJECT_ID: "LivingSubject.id",
    NAME: "LivingSubject.name",
    BIRTH: "LivingSubject.birthTime",
    GENDER: "LivingSubject.administrativeGender",
    SCOPE: "OtherIDs.scopingOrganization.id",
}


@dataclass(frozen=True, slots=True)
class PatientName:
    """A name as the registry keeps one: all family names that are no birth name, the first given name."""

    family: str | None
    given: str | None


@dataclass(frozen=True, slots=True)
class PatientParameters:
    """What the patients must be like; of each alternative (name, birth, sex) one must hold.

    ``identifiers`` has an entry for each livingSubjectId: its alternatives. ``births`` are HL7 TS. ``scopes`` are OIDs.
    ``others`` are the names of parameters that are not read.
    """

    identifiers: tuple[tuple[Identifier, ...], ...] = ()
    names: tuple[PatientName, ...] = ()
    births: tuple[str, ...] = ()
    sexes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientQuery:
    """A query as a supplier or responding gateway reads it.

    ``home`` is the OID of the sender's community; ``queries`` counts the elements queryByParameter, ``text`` is the
    first of them, serialised as UTF-8 with the namespaces it uses, empty without one.
    """

    name: str
    message_id: InstanceIdentifier | None = None
    interaction: str | None = None
    sender: tuple[InstanceIdentifier, ...] = ()
    receiver: tuple[InstanceIdentifier, ...] = ()
    home: str | None = None
    queries: int = 0
    query_id: InstanceIdentifier | None = None
    priority: str | None = None
    initial_quantity: str | None = None
    parameters: PatientParameters = field(default_factory=PatientParameters)
    text: bytes = b""


# ------------------------------------------------------------------------------------------ reading


def read_patient_query(body: Any) -> PatientQuery:
    """Read the child of soap:Body, whatever it holds."""
    interaction = instance_of(body.find("h:interactionId", NS))
    agent = instance_of(body.find(_AGENT, NS))
    queries = body.findall(path(QUERY), NS)
    query = queries[0] if queries else None
    return PatientQuery(
        name=body.tag.rpartition("}")[2],
        message_id=instance_of(body.find("h:id", NS)),
        interaction=interaction.extension if interaction is not None else None,
        sender=devices_of(body.findall("h:sender", NS)),
        receiver=devices_of(body.findall("h:receiver", NS)),
        home=agent.root if agent is not None else None,
        queries=len(queries),
        query_id=instance_of(_child(query, "queryId")),
        priority=word(_child(query, "responsePriorityCode"), "code"),
        initial_quantity=word(_child(query, "initialQuantity"), "value"),
        parameters=_parameters(_child(query, "parameterList")),
        text=b"" if query is None else etree.tostring(query, encoding="UTF-8", with_tail=False),
    )


def _child(element: Any, name: str) -> Any:
    return None if element is None else element.find(f"h:{name}", NS)


def _parameters(listed: Any) -> PatientParameters:
    if listed is None:
        return PatientParameters()
    ids = (identifiers_of(one.findall("h:value", NS)) for one in listed.findall(f"h:{SUBJECT_ID}", NS))
    names = (PatientName(name_part(one, "family", " "), name_part(one, "given", None)) for one in _values(listed, NAME))
    births = (word(one, "value") for one in _values(listed, BIRTH))
    sexes = map(sex_of, _values(listed, GENDER))
    scopes = (word(one, "root") for one in _values(listed, SCOPE))
    tags = (one.tag.rpartition("}")[2] for one in listed.iterchildren("*"))
    return PatientParameters(
        identifiers=tuple(one for one in ids if one),
        names=tuple(one for one in names if one.family or one.given),
        births=tuple(one for one in births if one),
        sexes=tuple(one for one in sexes if one),
        scopes=tuple(one for one in scopes if one),
        others=tuple(dict.fromkeys(tag for tag in tags if tag not in _SEMANTICS)),
    )


def _values(listed: Any, parameter: str) -> Iterator[Any]:
    for one in listed.findall(f"h:{parameter}", NS):
        yield from one.findall("h:value", NS)


def problem_of(query: PatientQuery) -> Problem | None:
    """Why a message is no query that could be answered, whatever it asks for; ``None`` where it is one."""
    if query.interaction is not None and query.interaction != query.name:
        text = f"interactionId names another interaction than the message, which is a {query.name}"
        code, place = ErrorCode.UNSUPPORTED_EVENT_CODE, "interactionId"
    elif query.queries != 1:
        text, place = f"exactly one queryByParameter is answered, found {query.queries}", QUERY
        code = ErrorCode.DATA_TYPE_ERROR if query.queries else ErrorCode.REQUIRED_FIELD_MISSING
    elif query.query_id is None:
        text, place = "the id of the query is required", f"{QUERY}/queryId"
        code = ErrorCode.REQUIRED_FIELD_MISSING
    elif len(query.text) > MAX_QUERY_BYTES:
        text, place = f"the query is longer than {MAX_QUERY_BYTES} bytes", QUERY
        code = ErrorCode.DATA_TYPE_ERROR
    else:
        return None
    return Problem(AckCode.ERROR, code, text, f"/{query.name}/{place}")


# ------------------------------------------------------------------------------------------ writing


def print_patient_query(
    *,
    message_id: str,
    query_id: InstanceIdentifier,
    time: str,
    device: str,
    to: str,
    parameters: PatientParameters,
    home: str | None = None,
    own_authority: str | None = None,
) -> bytes:
    """PRPA_IN201305UV02, to be answered at once.

    ``device`` and ``to`` are OIDs of ours and of the receiver's device; ``home`` is the OID of our community (ITI-55).
    Authorities of ``parameters`` are OIDs. ``own_authority`` is the OID of the authority under which we know the
    patient ourselves: told with it, the receiver may ask us back (ITI TF-2: 3.55.4.1.2.4).
    """
    opening = print_opening(
        ASKED_FOR,
        message_id=message_id,
        time=time,
        sender=(InstanceIdentifier(device),),
        receiver=(InstanceIdentifier(to),),
        agent=_agent(home) if home is not None else "",
        accept_ack="AL",
    )
    listed = "".join(_printed_parameters(parameters))
    message = (
        f'{opening}<controlActProcess classCode="CACT" moodCode="EVN">'
        f'<code code="PRPA_TE201305UV02" codeSystem="{INTERACTIONS}"/>{_performer(own_authority)}'
        f'<queryByParameter>{print_id(query_id, "queryId")}<statusCode code="new"/><responseModalityCode code="R"/>'
        f'<responsePriorityCode code="I"/><parameterList>{listed}</parameterList></queryByParameter>'
        f"</controlActProcess></{ASKED_FOR}>"
    )
    return message.encode()


def _agent(home: str) -> str:
    return (
        '<asAgent classCode="AGNT"><representedOrganization classCode="ORG" determinerCode="INSTANCE">'
        f"<id root={quoteattr(home)}/></representedOrganization></asAgent>"
    )


def _performer(authority: str | None) -> str:
    if authority is None:
        return ""
    return (
        '<authorOrPerformer typeCode="AUT"><assignedDevice classCode="ASSIGNED">'
        f"<id root={quoteattr(authority)}/></assignedDevice></authorOrPerformer>"
    )


def _printed_parameters(asked: PatientParameters) -> Iterator[str]:
    """In the order of the schema; what is no time and no sex of HL7's is left out."""
    sexes = ({"O": "UN"}.get(one.upper(), one.upper()) for one in asked.sexes)
    births = filter(None, map(time_of, asked.births))
    yield _parameter(GENDER, (f'<value code="{one}"/>' for one in sexes if one in {"F", "M", "UN"}))
    yield _parameter(BIRTH, (f'<value value="{one}"/>' for one in births))
    for alternatives in asked.identifiers:
        ids = (InstanceIdentifier(one.universal_id, one.id) for one in alternatives)
        yield _parameter(SUBJECT_ID, (print_id(one, "value") for one in ids))
    yield _parameter(NAME, map(_name, asked.names))


def _name(name: PatientName) -> str:
    given = f"<given>{escape(name.given)}</given>" if name.given else ""
    family = f"<family>{escape(name.family)}</family>" if name.family else ""
    return f"<value>{given}{family}</value>"


def _parameter(name: str, values: Iterable[str]) -> str:
    listed = "".join(values)
    return f"<{name}>{listed}<semanticsText>{_SEMANTICS[name]}</semanticsText></{name}>" if listed else ""


def parameters_of(known: Demographics, identifiers: Sequence[Identifier] = ()) -> PatientParameters:
    """What finds this person, each as far as it is known; ``identifiers`` are alternatives."""
    return PatientParameters(
        identifiers=(tuple(identifiers),) if identifiers else (),
        names=(PatientName(known.family, known.given),) if known.family or known.given else (),
        births=(known.birth,) if known.birth else (),
        sexes=(known.sex,) if known.sex else (),
    )
