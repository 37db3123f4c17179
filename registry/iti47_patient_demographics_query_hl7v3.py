"""ITI-47 Patient Demographics Query HL7 v3, supplier (ITI TF-2: 3.47), over SOAP.

Request  PRPA_IN201305UV02: livingSubjectId; or livingSubjectName (family and given) with livingSubjectBirthTime (a day)
         and, if wanted, livingSubjectAdministrativeGender
By id    a known id answers its patient; of several livingSubjectId each must be one of the patient's. Where birth or
         sex stand beside it, a patient of whom another is known is not it: a mistyped number finds nobody
By name  family, given and day of birth, and the sex if asked for, all equal to what the feeds told; names are folded
         (``ihe.demographics``). Of several values of a parameter one must be equal
Reply    PRPA_IN201306UV02: AA and OK with a patient each, or NF. An id that was merged gives the one that survives of
         it. Ids of two authorities are two patients here: only ADT^A40 and PRPA_IN201304UV02 make one of two
         AE  refused, with a detail for each reason: form, too little asked, an authority that is not of this domain
         (204), more matches than ``max_found_patients``; or the database does not answer
Who      partners that list ITI-47, and plaintext loopback
Not compared: address, telecom, mother's maiden name and whatever else a feed does not leave here.
Not kept: the rest of an answer cut by initialQuantity; ask for less.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from atna import events, participants
from atna.message import AuditMessage, Outcome
from atna.recorder import Recorder
from consent import Decision, decide
from ihe.datatypes import CX, print_cx
from ihe.demographics import birth_day, births_agree, name_and_birth
from ihe.errors import FaultCode, SoapFault
from ihe.hl7v2 import AckCode, Demographics, ErrorCode, Identifier, Problem
from ihe.hl7v3_answer import FoundPatient, ResponseCode, print_patient_answer
from ihe.hl7v3_parts import details_of, schema_problems
from ihe.hl7v3_query import (
    BIRTH,
    MAX_QUERY_BYTES,
    NAME,
    PARAMETERS,
    SCOPE,
    SUBJECT_ID,
    PatientQuery,
    problem_of,
    read_patient_query,
)
from ihe.transactions import ITI_47, Transaction
from ihe.xua import Caller
from registry.feed_ledger import unavailable
from registry.iti8_patient_identity_feed import FeedRules, authority_of
from registry.store.patient_protocol import KnownPatient, PatientStore
from registry.store.protocol import PatientId, StoreUnavailable
from wire.messages import Handler, Reply, Request, StagedPart

__all__ = ["PatientDemographicsQuery", "Search", "judge"]

_log = structlog.get_logger(__name__)

MAX_VALUES: Final = 50
"""Ids, or combinations of a name with a birth, in one query."""
_UNKNOWN_SEX: Final = "U"
_MOST_DIGITS: Final = 6


class QueryRefused(Exception):  # noqa: N818 - an outcome
    """Understood and refused; every one of ``problems`` goes to the sender. ``total``: too many match, this many."""

    def __init__(self, problems: Sequence[Problem], total: int | None = None) -> None:
        super().__init__(problems[0].text)
        self.problems = tuple(problems)
        self.total = total


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for: by ``ids``, each a set of alternatives that must hold, or else by ``keys``.

    ``keys`` are names with births, ``sexes`` go with them; ``births`` must not contradict where ids are looked for.
    Sexes are those of HL7 table 0001, in capitals. ``scopes`` are the authorities whose ids are wanted, none: all.
    """

    ids: tuple[frozenset[PatientId], ...] = ()
    keys: frozenset[str] = frozenset()
    births: tuple[str, ...] = ()
    sexes: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()


def judge(query: PatientQuery, rules: FeedRules) -> Search:
    """What to look for. Raises QueryRefused."""
    lacking = problem_of(query)
    if lacking is not None:
        raise QueryRefused([lacking])
    asked = query.parameters
    scopes, sexes = _scopes(query, rules), frozenset(sex.upper() for sex in asked.sexes)
    if asked.identifiers:
        return Search(_ids(query, rules), births=asked.births, sexes=sexes, scopes=scopes)
    return Search(keys=_keys(query), sexes=sexes, scopes=scopes)


def _refused(code: ErrorCode, text: str, query: PatientQuery, place: str) -> QueryRefused:
    return QueryRefused([Problem(AckCode.ERROR, code, text, f"/{query.name}/{place}")])


def _scopes(query: PatientQuery, rules: FeedRules) -> frozenset[str]:
    """The authorities asked for, which the domain must have (ITI TF-2: 3.47.4.2.2.7)."""
    known = rules.assigning_authorities
    foreign = [scope for scope in query.parameters.scopes if known and scope not in known]
    if foreign:
        text = "an assigning authority that is asked for is not of this domain"
        raise _refused(ErrorCode.UNKNOWN_KEY_IDENTIFIER, text, query, f"{PARAMETERS}/{SCOPE}")
    return frozenset(query.parameters.scopes)


def _ids(query: PatientQuery, rules: FeedRules) -> tuple[frozenset[PatientId], ...]:
    """Each parameter as ids that the registry could have; an id whose root is no OID is none of them."""
    asked = query.parameters.identifiers
    if sum(map(len, asked)) > MAX_VALUES:
        text = f"more than {MAX_VALUES} ids are asked for"
        raise _refused(ErrorCode.DATA_TYPE_ERROR, text, query, f"{PARAMETERS}/{SUBJECT_ID}")
    return tuple(
        frozenset((one.id, authority) for one in ids if (authority := authority_of(one, rules)) is not None)
        for ids in asked
    )


def _keys(query: PatientQuery) -> frozenset[str]:
    asked = query.parameters
    names = [one for one in asked.names if one.family and one.given]
    births = [one for one in asked.births if birth_day(one) is not None]
    if len(names) * len(births) > MAX_VALUES:
        text = f"more than {MAX_VALUES} combinations of a name with a birth are asked for"
        raise _refused(ErrorCode.DATA_TYPE_ERROR, text, query, PARAMETERS)
    missing = []
    for found, name, needed in ((names, NAME, "family and given"), (births, BIRTH, "a value of at least a day")):
        if not found:
            text = f"{name} with {needed} is required where no {SUBJECT_ID} is asked for"
            place = f"/{query.name}/{PARAMETERS}/{name}"
            missing.append(Problem(AckCode.ERROR, ErrorCode.REQUIRED_FIELD_MISSING, text, place))
    if missing:
        raise QueryRefused(missing)
    keys = (name_and_birth(name.family, name.given, birth) for name in names for birth in births)
    return frozenset(key for key in keys if key is not None)


def _fits(known: KnownPatient, search: Search) -> bool:
    """Whether nothing that is known of the patient contradicts the births and sexes asked for."""
    birth = known.birth or ""
    same_birth = not birth or not search.births or any(births_agree(birth, one) for one in search.births)
    sex = (known.sex or _UNKNOWN_SEX).upper()
    return same_birth and (sex == _UNKNOWN_SEX or not search.sexes or sex in search.sexes)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, read as far as it can be."""

    request: Request
    query: PatientQuery
    decision: Decision
    parties: participants.Parties

    def audited(self, patient_id: str | None, outcome: Outcome, reason: str | None = None) -> AuditMessage:
        return events.patients_found(
            self.parties,
            transaction=ITI_47,
            query_id=str(self.query.query_id or participants.UNKNOWN),
            request=self.query.text[:MAX_QUERY_BYTES],
            patient_ids=() if patient_id is None else (patient_id,),
            outcome=outcome,
            reason=reason,
            decision=self.decision.rule,
        )


class PatientDemographicsQuery:
    """The actor of ITI-47. Thread safe.

    ``granted`` gives the transactions the settings list for a caller, ``now`` seconds since 1970, ``new_id`` the id of
    an answer (a UUID); ``most``: patients in one answer.
    """

    def __init__(
        self,
        store: PatientStore,
        recorder: Recorder,
        rules: FeedRules,
        *,
        most: int,
        granted: Callable[[Caller], Collection[str]],
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._rules = rules
        self._most = most
        self._granted = granted
        self._now = now
        self._new_id = new_id

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """ITI-47 alone."""
        return {ITI_47: self.handle}

    def stage(self, request_id: str, wanted: int | None) -> StagedPart:
        """Refuse: a query carries no documents."""
        del request_id, wanted
        raise SoapFault(FaultCode.SENDER, "a query for patients carries no attachments")

    def handle(self, request: Request) -> Reply:
        """One query in, its answer out; whatever is wrong with it or with the store is an answer."""
        asked = self._read(request)
        try:
            self._admit(asked)
            search = judge(asked.query, self._rules)
            found = self._found(search, asked.query)
            # A record for each patient whose name is given out (DICOM PS3.15 A.5.3, ITI TF-2: 3.47.5).
            ids = [print_cx(CX(*one.id)) for one in found]
            self._put_on_record([asked.audited(one, Outcome.SUCCESS) for one in ids or (None,)])
        except QueryRefused as refused:
            return self._refuse(asked, refused)
        except StoreUnavailable as error:
            return self._unavailable(asked, error)
        return self._answer(asked.query, found)

    def failure(self, request: Request, error: Exception) -> Reply:
        """Answer when the handler failed by our own defect: AE with the request's number in our log, audited."""
        asked = self._read(request)
        if isinstance(error, StoreUnavailable):
            return self._unavailable(asked, error)
        text = f"internal error, request {request.request_id}"
        return self._refuse(asked, QueryRefused([Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)]))

    def _read(self, request: Request) -> _Asked:
        decision = decide(request.caller, ITI_47.code, self._granted(request.caller))
        parties = participants.serving(
            request.caller, request.address, self._recorder.process_id, user_id=request.reply_to
        )
        return _Asked(request, read_patient_query(request.body), decision, parties)

    def _admit(self, asked: _Asked) -> None:
        if self._store.busy():
            raise StoreUnavailable("too many audit records wait to be delivered")
        if not asked.decision.permit:
            text = f"refused by rule {asked.decision.rule}"
            raise QueryRefused([Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)])
        wrong = schema_problems(asked.request.body)
        if wrong:
            raise QueryRefused(wrong)

    def _found(self, search: Search, query: PatientQuery) -> tuple[KnownPatient, ...]:
        """Who fits, each once. Raises QueryRefused where they are too many to be told."""
        found = self._with_ids(search) if search.ids else self._store.like(search.keys, search.sexes, self._most + 1)
        if len(found) > self._most:
            text = f"more than {self._most} patients match; ask for more of what is known of the patient"
            refused = _refused(ErrorCode.APPLICATION_INTERNAL_ERROR, text, query, PARAMETERS)
            raise QueryRefused(refused.problems, len(found))
        return tuple(one for one in found if not search.scopes or one.id[1] in search.scopes)

    def _with_ids(self, search: Search) -> tuple[KnownPatient, ...]:
        first, *rest = (self._store.with_ids(alternatives) for alternatives in search.ids)
        others = [{one.id for one in found} for found in rest]
        return tuple(one for one in first if all(one.id in known for known in others) and _fits(one, search))

    def _put_on_record(self, messages: Sequence[AuditMessage]) -> None:
        self._store.record_alone([self._recorder.record(message) for message in messages])

    def _answer(self, query: PatientQuery, found: Sequence[KnownPatient]) -> Reply:
        patients = list(_told(found))
        wanted = query.initial_quantity or ""
        plain = wanted.isascii() and wanted.isdigit() and len(wanted) <= _MOST_DIGITS
        sent = patients[: (int(wanted) if plain else 0) or None]
        code = ResponseCode.OK if patients else ResponseCode.NOT_FOUND
        return self._print(query, code=code, patients=sent, total=len(patients))

    def _refuse(self, asked: _Asked, refused: QueryRefused) -> Reply:
        """Record a refusal and give its answer; when it cannot be recorded, that is the answer."""
        reason = "; ".join(dict.fromkeys(f"{one.ack} {one.code} {one.code.text}" for one in refused.problems))
        try:
            self._put_on_record([asked.audited(None, Outcome.SERIOUS_FAILURE, reason)])
        except StoreUnavailable as error:
            return self._unavailable(asked, error)
        codes = sorted({str(problem.code) for problem in refused.problems})
        request = asked.request
        _log.info("patient query refused", codes=codes, partner=request.caller.partner, request=request.request_id)
        details = details_of(refused.problems)
        return self._print(asked.query, code=ResponseCode.ERROR, details=details, total=refused.total)

    def _unavailable(self, asked: _Asked, error: StoreUnavailable) -> Reply:
        _log.error("patient query not answered", reason=str(error), request=asked.request.request_id)
        return self._print(asked.query, code=ResponseCode.ERROR, details=details_of([unavailable(error)]))

    def _print(self, query: PatientQuery, **answer: Any) -> Reply:
        time = datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%d%H%M%S") + "+0000"
        return Reply([print_patient_answer(query, message_id=self._new_id(), time=time, **answer)])


def _told(found: Sequence[KnownPatient]) -> Iterator[FoundPatient]:
    for one in found:
        identifier, authority = one.id
        known = Demographics(one.family, one.given, one.birth, one.sex)
        yield FoundPatient((Identifier(identifier, universal_id=authority, universal_id_type="ISO"),), known, match=100)
