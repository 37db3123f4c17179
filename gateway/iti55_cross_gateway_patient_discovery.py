"""ITI-55 Cross Gateway Patient Discovery, Responding Gateway side (ITI TF-2: 3.55), from this community's registry.

Request  PRPA_IN201305UV02, to be answered at once
         sex F, M, UN or O; one that says that it is not known (U, UNK) is not asked for. Birth: HL7 TS
Asked    ITI-47 of the registry: by the identifiers first, all alternatives, since an asker also tells those of its own
         community, which nobody here knows; where none is known, by name, birth and sex. One that is known here stands
         for its patient: where birth or sex contradict it, nobody is meant, and nobody is looked for by name
Reply    PRPA_IN201306UV02 (ITI TF-2: 3.55.4.2.2.4)
         AA OK   as many patients as ``max_discovered`` allows, each with our home as custodian and match 100
         AA OK   no patient, but LivingSubjectAdministrativeGenderRequested: several match, and a sex would part them
         AA NF   nobody, or several that nothing we know of would part
         AE AE   ResponderBusy (records cannot be kept now), AnswerNotAvailable (too little asked, not permitted, not in
                 form, a birth or sex that cannot be read, the registry silent or of another mind), InternalError
Deferred responsePriorityCode D, or its own action: AE with NS250; the latter in MCCI_IN000002UV01
Header   xcpd:CorrelationTimeToLive with a patient, by ``time_to_live_s``
"""

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from atna.message import Outcome
from consent.policy import Decision
from gateway.callers import may_ask
from gateway.iti47_patient_demographics_query import Asked, RegistryPatients, Silent, hl7_now, record_of, told_ids
from gateway.passed_on import security_header
from gateway.room import Room
from gateway.store.protocol import StoreUnavailable
from ihe import vocabulary as v
from ihe.durations import print_duration
from ihe.hl7v2 import AckCode, ErrorCode, Problem
from ihe.hl7v3 import accept_acknowledgement
from ihe.hl7v3_answer import FoundPatient, PatientAnswer, Reason, ResponseCode, print_patient_answer
from ihe.hl7v3_parts import Detail, details_of, schema_problems, time_of
from ihe.hl7v3_query import (
    BIRTH,
    DEFERRED,
    GENDER,
    PARAMETERS,
    PatientParameters,
    PatientQuery,
    problem_of,
    read_patient_query,
)
from ihe.transactions import ITI_55, ITI_55_DEFERRED
from wire.messages import Reply, Request

__all__ = ["DISCOVERIES", "answer", "failed"]

DISCOVERIES: Final = (ITI_55, ITI_55_DEFERRED)
STRICT_MATCH: Final = 100
GENDER_WANTED: Final = "LivingSubjectAdministrativeGenderRequested"
SEXES: Final = frozenset({"F", "M", "O"})
"""Of HL7 table 0001, as a query is read; others cannot be asked for."""
UNKNOWN_SEXES: Final = frozenset({"U", "UNK", "NI", "NAV", "ASKU", "NASK"})
"""Table 0001, and the null flavours that are written as a code now and then."""
NOT_DEFERRED: Final = Detail(
    "NS250",
    "queries are answered at once here: send responsePriorityCode I and the action of an immediate query",
    "2.16.840.1.113883.5.1100",
    "Unsupported processing mode",
)
OF_THE_ASKER: Final = frozenset({"101", "102", "204"})
"""Faults in what was asked; what else our registry objects to is between it and us."""

_log = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 - an outcome the asker is told
    """There is no answer, and why."""

    def __init__(self, reason: Reason, details: Sequence[Detail]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = tuple(details)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the asker is told; ``details`` only where there is no answer."""

    code: ResponseCode
    patients: tuple[FoundPatient, ...] = ()
    wanted: tuple[str, ...] = ()
    reason: Reason | None = None
    details: tuple[Detail, ...] = ()


@dataclass(slots=True)
class _Discovery:
    """One request, and the records of what was asked of the registry because of it."""

    room: Room
    request: Request
    decision: Decision
    query: PatientQuery
    deadline: float
    records: list[bytes] = field(default_factory=list)


def answer(room: Room, request: Request) -> Reply:
    """Find the patient in our registry; recorded before the first byte leaves."""
    asked = _read(room, request)
    try:
        _admit(asked)
        found, sexless = _ask(asked)
        verdict = judge(found, room.settings.max_discovered, sexless=sexless)
    except Refused as refused:
        verdict = Verdict(ResponseCode.ERROR, reason=refused.reason, details=refused.details)
    return _told(asked, verdict)


def failed(room: Room, request: Request, error: Exception) -> Reply:
    """The answer to a defect of ours, or of our database."""
    asked = _read(room, request)
    if isinstance(error, StoreUnavailable):
        # Without its database nothing can be recorded, and nothing is answered that is not recorded.
        text, reason = "the gateway's database does not answer; try again later", Reason.BUSY
        return _printed(asked, Verdict(ResponseCode.ERROR, reason=reason, details=_internal(text)))
    text = f"internal error, request {request.request_id}"
    return _told(asked, Verdict(ResponseCode.ERROR, reason=Reason.INTERNAL, details=_internal(text)))


def _read(room: Room, request: Request) -> _Discovery:
    decision = may_ask(room.settings, request.caller, ITI_55.code, room.granted)
    deadline = time.monotonic() + room.settings.deadline_s
    return _Discovery(room, request, decision, read_patient_query(request.body), deadline)


def _internal(text: str) -> tuple[Detail, ...]:
    return details_of([Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)])


# ------------------------------------------------------------------------------------------------ what is asked


def _admit(asked: _Discovery) -> None:
    """Refuse what cannot be recorded, what may not be done, and what is not in the right form."""
    query = asked.query
    if asked.room.store.busy():
        raise Refused(Reason.BUSY, _internal("audit records wait for the audit service; send it again later"))
    if not asked.decision.permit:
        raise Refused(Reason.NOT_AVAILABLE, _internal(f"ITI-55 is refused by rule {asked.decision.rule}"))
    if asked.request.transaction is ITI_55_DEFERRED or query.priority == DEFERRED:
        raise Refused(Reason.NOT_AVAILABLE, (NOT_DEFERRED,))
    problems, lacking = schema_problems(asked.request.body), problem_of(query)
    problems += _unreadable(query) if lacking is None else [lacking]
    if problems:
        raise Refused(Reason.NOT_AVAILABLE, details_of(problems))


def _unreadable(query: PatientQuery) -> list[Problem]:
    """What would have to be left out of the question to our registry: then others would be found than are meant."""
    births, sexes = query.parameters.births, _sexes(query)
    wrong = []
    if not all(map(time_of, births)):
        wrong.append((BIRTH, "a birth is written as HL7 has it, YYYYMMDD"))
    if not all(one in SEXES for one in sexes):
        wrong.append((GENDER, "a sex is F, M or UN; UNK, or no value, where it is not known"))
    return [
        Problem(AckCode.ERROR, ErrorCode.DATA_TYPE_ERROR, text, f"/{query.name}/{PARAMETERS}/{place}")
        for place, text in wrong
    ]


def _sexes(query: PatientQuery) -> tuple[str, ...]:
    """Those asked for, in capitals; that none is known is nothing to ask for."""
    told = (one.upper() for one in query.parameters.sexes)
    return tuple(one for one in told if one not in UNKNOWN_SEXES)


def _ask(asked: _Discovery) -> tuple[PatientAnswer, bool]:
    """By identifiers, then by name; with whether a sex might be asked for, too. Raises Refused without an answer."""
    given, sexes = asked.query.parameters, _sexes(asked.query)
    by_name = PatientParameters(names=given.names, births=given.births, sexes=sexes)
    ids = tuple(one for alternatives in given.identifiers for one in alternatives)
    if ids:
        found = _ask_registry(asked, PatientParameters((ids,)))
        if found.patients and (given.births or sexes):
            # The registry compares: it has the birth as it was told, which an answer may not be able to write.
            found = _ask_registry(asked, PatientParameters((ids,), births=given.births, sexes=sexes))
            return found, False
        if found.patients or found.code == ResponseCode.ERROR or not (given.names and given.births):
            return found, False
    return _ask_registry(asked, by_name), not sexes


def _ask_registry(asked: _Discovery, parameters: PatientParameters) -> PatientAnswer:
    room = asked.room
    registry = RegistryPatients(room.settings, room.home, room.local, room.records)
    try:
        told: Asked = registry.find(parameters, deadline=asked.deadline, security=security_header(asked.request))
    except Silent as silent:
        asked.records.append(silent.record)
        raise Refused(Reason.NOT_AVAILABLE, _internal(f"{silent.reason}; try again later")) from silent
    asked.records += told.records
    return told.answer


# ------------------------------------------------------------------------------------------------ what is told


def judge(found: PatientAnswer, most: int, *, sexless: bool) -> Verdict:
    """What an answer of our registry comes to for another community; ``sexless``: a sex was not asked for, but might.

    Raises Refused.
    """
    refused = found.code == ResponseCode.ERROR or found.acknowledgement != AckCode.ACCEPT
    # A refusal with a number is one for the number's sake: more match than the registry tells, whatever we would tell.
    many = found.total is not None and found.total > (0 if refused else most)
    if refused and not many:
        codes = sorted({detail.code for detail in found.details})
        _log.warning("the registry refused a query for patients: %s", codes)
        asker_s = tuple(detail for detail in found.details if detail.code in OF_THE_ASKER)
        raise Refused(Reason.NOT_AVAILABLE, asker_s or _internal("the registry of this community refused"))
    if many or len(found.patients) > most:
        sexes = {one.demographics.sex for one in found.patients}
        # Of too many the registry tells none: then a sex may part them, too.
        parted = sexless and (len(sexes) > 1 or not found.patients)
        return Verdict(ResponseCode.OK, wanted=(GENDER_WANTED,)) if parted else Verdict(ResponseCode.NOT_FOUND)
    patients = tuple(one for one in found.patients if one.identifiers)
    return Verdict(ResponseCode.OK if patients else ResponseCode.NOT_FOUND, patients)


def _told(asked: _Discovery, verdict: Verdict) -> Reply:
    """The answer, once it is on record: a record for each patient told."""
    room, query = asked.room, asked.query
    outcome, reason = Outcome.SUCCESS, None
    if verdict.code is ResponseCode.ERROR:
        outcome, reason = Outcome.SERIOUS_FAILURE, str(verdict.reason)
        codes = sorted({detail.code for detail in verdict.details if detail.code.isalnum()})
        _log.info("patient discovery of request %s refused: %s %s", asked.request.request_id, reason, codes)
    parties = room.records.received(asked.request)
    records = [
        record_of(room.records, parties, ITI_55, query, one, outcome, reason, room.home, asked.decision.rule)
        for one in told_ids(verdict.patients) or (None,)
    ]
    room.store.record_alone([*records, *asked.records])
    return _printed(asked, verdict)


def _printed(asked: _Discovery, verdict: Verdict) -> Reply:
    room, query = asked.room, asked.query
    stamp: dict[str, Any] = {"message_id": str(uuid.uuid4()), "time": hl7_now()}
    if asked.request.transaction is ITI_55_DEFERRED:
        told = accept_acknowledgement("AE", to=query, target=query.message_id, details=verdict.details, **stamp)
        return Reply((told,))
    home = room.home.removeprefix("urn:oid:")
    patients = [replace(one, home=home, match=STRICT_MATCH) for one in verdict.patients]
    told = print_patient_answer(
        query,
        code=verdict.code,
        patients=patients,
        wanted=verdict.wanted,
        reason=verdict.reason,
        details=verdict.details,
        **stamp,
    )
    return Reply((told,), headers=_time_to_live(room.settings.time_to_live_s) if patients else b"")


def _time_to_live(seconds: float) -> bytes:
    if not seconds:
        return b""
    name = "x:CorrelationTimeToLive"
    return f'<{name} xmlns:x="{v.XCPD}">{print_duration(seconds)}</{name}>'.encode()
