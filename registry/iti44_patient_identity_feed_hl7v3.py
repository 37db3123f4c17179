"""ITI-44 Patient Identity Feed HL7 v3, Document Registry side (ITI TF-2: 3.44), over SOAP.

Request  PRPA_IN201301UV02 (add), 201302UV02 (revise; an unknown id is added, since sources differ), 201304UV02
         (duplicates resolved): a patient's ids with root = assigning authority
Effect   as of ITI-8: every id of one of the domain's authorities becomes known, name, birth and sex are kept (no birth
         that cannot be: it is left out and recorded as a defect); 201304 merges each id of replacementOf into the
         patient's one id of the same authority, and changes nothing else
Reply    MCCI_IN000002UV01: AA when it is durable, with its audit records, in one transaction
         AE  refused, with a detail for each reason: form, no usable id, a merge that cannot be; or nothing could be
             stored now
Repeats  the same message (its id, its canonical XML) of the same sender gets the answer it got, and does nothing again;
         only AA is kept, so that a message refused for a setting is judged anew once the setting is right
Who      201301 and 201302: any trusted node; 201304: partners that list ITI-44, and plaintext loopback
Not checked: receiver, processingCode, processingModeCode, acceptAckCode (it is always answered).
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog
from lxml import etree

from atna import events, participants
from atna.message import Action, AuditMessage, Outcome
from atna.recorder import Recorder
from consent import Decision, decide
from ihe.datatypes import CX, print_cx
from ihe.errors import FaultCode, SoapFault
from ihe.hl7v2 import AckCode, ErrorCode, Identifier, Problem
from ihe.hl7v3 import PATIENT_ID, PRIOR_ID, PatientFeed, print_acknowledgement, read_feed
from ihe.hl7v3_parts import schema_problems
from ihe.transactions import ITI_44_ADD, ITI_44_RESOLVE, ITI_44_REVISE, Transaction
from ihe.xua import Caller
from registry.feed_ledger import FeedLedger, unavailable
from registry.iti8_patient_identity_feed import (
    IMPOSSIBLE_BIRTH,
    MAX_ID_CHARACTERS,
    FeedRules,
    authority_of,
    expected,
    known_here,
    possible_birth,
    wrong_matricules,
)
from registry.store.patient_protocol import FeedMessageKey, FeedUnitOfWork, MergeRefused, PatientStore
from registry.store.protocol import Defect, PatientId, StoreUnavailable
from wire.messages import Handler, Reply, Request, StagedPart

__all__ = ["FeedRefused", "PatientIdentityFeedV3", "judge"]

_log = structlog.get_logger(__name__)

TRANSACTION: Final = "ITI-44"
MAX_IDENTIFIERS: Final = 100
MAX_MESSAGE_ID: Final = 250
V3_FORM: Final = f"root=OID extension=ID, at most {MAX_ID_CHARACTERS} characters when written ID^^^&OID&ISO"

ACTIONS: Final[Mapping[Transaction, Action]] = {
    ITI_44_ADD: Action.CREATE,
    ITI_44_REVISE: Action.UPDATE,
    ITI_44_RESOLVE: Action.UPDATE,
}


@dataclass(frozen=True, slots=True)
class Change:
    """Exactly what to write: ids to be known with what is told of them, or merges as (subsumed, surviving)."""

    patients: tuple[PatientId, ...] = ()
    told: Mapping[str, str | None] | None = None
    merges: tuple[tuple[PatientId, PatientId], ...] = ()
    defects: tuple[Defect, ...] = ()


class FeedRefused(Exception):  # noqa: N818 - an outcome
    """Understood and refused; every one of ``problems`` goes to the sender, there is at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems[0].text)
        self.problems = tuple(problems)


def judge(message: PatientFeed, rules: FeedRules) -> Change:
    """What the message is to change. Raises FeedRefused."""
    _well_formed(message)
    patients = tuple(dict.fromkeys(known_here(message.identifiers, rules)))
    if not patients:
        raise _refused(ErrorCode.UNKNOWN_KEY_IDENTIFIER, expected("patient/id", rules, V3_FORM), message, PATIENT_ID)
    if message.name == _name(ITI_44_RESOLVE):
        return Change(merges=_merges(message, patients, rules))
    if known_here(message.prior_identifiers, rules):
        # To accept a merge without doing it would leave documents with the wrong patient.
        text = f"a patient replaces another one by {_name(ITI_44_RESOLVE)}; nothing was changed"
        raise _refused(ErrorCode.UNSUPPORTED_EVENT_CODE, text, message, PRIOR_ID)
    wrong = [f"patient/id: {text}" for text in wrong_matricules(patients, rules)]
    if wrong and rules.matricules.strict:
        place = f"/{message.name}/{PATIENT_ID}"
        raise FeedRefused([Problem(AckCode.ERROR, ErrorCode.DATA_TYPE_ERROR, text, place) for text in wrong])
    told = {name: value for name, value in asdict(message.demographics).items() if value is not None}
    if not possible_birth(told.get("birth")):
        del told["birth"]
        wrong.append(f"birthTime: {IMPOSSIBLE_BIRTH}")
    return Change(patients, told, defects=tuple(Defect(TRANSACTION, text) for text in wrong))


def _name(transaction: Transaction) -> str:
    return transaction.request_root.rpartition("}")[2]


def _refused(code: ErrorCode, text: str, message: PatientFeed, place: str) -> FeedRefused:
    return FeedRefused([Problem(AckCode.ERROR, code, text, f"/{message.name}/{place}")])


def _well_formed(message: PatientFeed) -> None:
    if message.interaction is not None and message.interaction != message.name:
        text = f"interactionId names another interaction than the message, which is a {message.name}"
        raise _refused(ErrorCode.UNSUPPORTED_EVENT_CODE, text, message, "interactionId")
    if message.message_id is None:
        raise _refused(ErrorCode.REQUIRED_FIELD_MISSING, "the id of the message is required", message, "id")
    if len(str(message.message_id)) > MAX_MESSAGE_ID:
        text = f"the id of the message is longer than {MAX_MESSAGE_ID} characters"
        raise _refused(ErrorCode.DATA_TYPE_ERROR, text, message, "id")
    if message.registrations != 1:
        text = f"a message is about one patient: exactly one registrationEvent, found {message.registrations}"
        code = ErrorCode.DATA_TYPE_ERROR if message.registrations else ErrorCode.REQUIRED_FIELD_MISSING
        raise _refused(code, text, message, "controlActProcess/subject/registrationEvent")
    if message.patients > 1:  # which of them the name, birth and sex are of could only be guessed
        text = f"a message is about one patient: found {message.patients}"
        raise _refused(ErrorCode.DATA_TYPE_ERROR, text, message, PATIENT_ID.removesuffix("/id"))
    for identifiers, place in ((message.identifiers, PATIENT_ID), (message.prior_identifiers, PRIOR_ID)):
        if len(identifiers) > MAX_IDENTIFIERS:
            raise _refused(ErrorCode.DATA_TYPE_ERROR, f"more than {MAX_IDENTIFIERS} identifiers", message, place)


def _merges(
    message: PatientFeed, patients: Sequence[PatientId], rules: FeedRules
) -> tuple[tuple[PatientId, PatientId], ...]:
    """Each subsumed id with the patient's id of the same authority, which must be one."""
    subsumed = dict.fromkeys(known_here(message.prior_identifiers, rules))
    if not subsumed:
        raise _refused(ErrorCode.UNKNOWN_KEY_IDENTIFIER, expected("replacementOf", rules, V3_FORM), message, PRIOR_ID)
    pairs = []
    for prior in subsumed:
        surviving = [patient for patient in patients if patient[1] == prior[1]]
        if len(surviving) != 1:
            text = (
                f"patient/id has {len(surviving)} ids of the assigning authority of a replaced one; "
                "exactly one survives a merge"
            )
            raise _refused(ErrorCode.DATA_TYPE_ERROR, text, message, PATIENT_ID)
        pairs.append((prior, surviving[0]))
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, read as far as it can be."""

    request: Request
    message: PatientFeed
    decision: Decision
    parties: participants.Parties

    def audited(self, patient_id: str | None, action: Action, outcome: Outcome, reason: str | None) -> AuditMessage:
        return events.patient_feed_v3(
            self.parties,
            patient_id=patient_id,
            message_id=str(self.message.message_id or ""),
            action=action,
            outcome=outcome,
            reason=reason,
            decision=self.decision.rule,
        )

    def accepted(self, change: Change) -> list[AuditMessage]:
        """A record for each patient; of a merge DELETE for the subsumed and UPDATE for the surviving id."""
        acts = [(patient, ACTIONS[self.request.transaction]) for patient in change.patients]
        for subsumed, surviving in change.merges:
            acts += [(subsumed, Action.DELETE), (surviving, Action.UPDATE)]
        return [
            self.audited(print_cx(CX(*patient)), action, Outcome.SUCCESS, None)
            for patient, action in dict.fromkeys(acts)
        ]

    def refusal(self, problems: Sequence[Problem], rules: FeedRules) -> list[AuditMessage]:
        """A record for each id as it came, one without a patient when there is none."""
        reason = "; ".join(dict.fromkeys(f"{one.ack} {one.code} {one.code.text}" for one in problems))
        action = ACTIONS[self.request.transaction]
        gone = Action.DELETE if self.request.transaction is ITI_44_RESOLVE else action
        named = [(one, action) for one in self.message.identifiers]
        named += [(one, gone) for one in self.message.prior_identifiers]
        acts = dict.fromkeys((_cx_text(one, rules), done) for one, done in named[:MAX_IDENTIFIERS])
        return [
            self.audited(patient_id, done, Outcome.SERIOUS_FAILURE, reason)
            for patient_id, done in acts or [(None, action)]
        ]


def _cx_text(identifier: Identifier, rules: FeedRules) -> str:
    """An id for the audit record, also one whose root is no OID."""
    return print_cx(CX(identifier.id, authority_of(identifier, rules) or identifier.universal_id or ""))


class PatientIdentityFeedV3:
    """The actor of the three interactions. Thread safe.

    ``granted`` gives the transactions the settings list for a caller, ``now`` seconds since 1970, ``new_id`` the id of
    an answer (a UUID). ``answer_days``: how long answers are kept for repetitions.
    """

    def __init__(
        self,
        store: PatientStore,
        recorder: Recorder,
        rules: FeedRules,
        *,
        granted: Callable[[Caller], Collection[str]],
        now: Callable[[], float],
        new_id: Callable[[], str],
        answer_days: int = 30,
    ) -> None:
        self._ledger = FeedLedger(store, recorder, now, answer_days)
        self._recorder = recorder
        self._rules = rules
        self._granted = granted
        self._new_id = new_id

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """The interactions answered."""
        return dict.fromkeys(ACTIONS, self.handle)

    def stage(self, request_id: str, wanted: int | None) -> StagedPart:
        """Refuse: a feed carries no documents."""
        del request_id, wanted
        raise SoapFault(FaultCode.SENDER, "a patient identity feed carries no attachments")

    def handle(self, request: Request) -> Reply:
        """One interaction in, its acknowledgement out; whatever is wrong with it or with the store is an answer."""
        asked = self._read(request)
        try:
            self._admit(asked)
            # Before anything is changed in the tree: it is what tells a repetition.
            digest = hashlib.sha256(etree.tostring(request.body, method="c14n", exclusive=True)).hexdigest()
            self._check_form(request.body)
            answer = self._apply(asked, judge(asked.message, self._rules), digest)
            self._ledger.forget_old_answers()
        except FeedRefused as refused:
            return self._refuse(asked, refused.problems)
        except StoreUnavailable as error:
            return self._unavailable(asked, error)
        return Reply([answer])

    def failure(self, request: Request, error: Exception) -> Reply:
        """Answer when the handler failed by our own defect: AE with the request's number in our log, audited."""
        asked = self._read(request)
        if isinstance(error, StoreUnavailable):
            return self._unavailable(asked, error)
        text = f"internal error, request {request.request_id}; nothing was changed"
        return self._refuse(asked, [Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)])

    def _read(self, request: Request) -> _Asked:
        granted, merging = self._granted(request.caller), request.transaction is ITI_44_RESOLVE
        decision = decide(request.caller, TRANSACTION, granted, restricted=merging)
        parties = participants.serving(
            request.caller, request.address, self._recorder.process_id, user_id=request.reply_to
        )
        return _Asked(request, read_feed(request.body), decision, parties)

    def _admit(self, asked: _Asked) -> None:
        self._ledger.admit()
        if not asked.decision.permit:
            text = f"refused by rule {asked.decision.rule}"
            raise FeedRefused([Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)])

    @staticmethod
    def _check_form(body: Any) -> None:
        wrong = schema_problems(body)
        if wrong:
            raise FeedRefused(wrong)

    def _apply(self, asked: _Asked, change: Change, digest: str) -> bytes:
        message, caller = asked.message, asked.request.caller
        sender = "|".join(map(str, message.sender))[:MAX_MESSAGE_ID]
        key = FeedMessageKey(f"{caller.partner}|v3|{sender}", str(message.message_id), digest)

        def write(work: FeedUnitOfWork, now: str) -> Sequence[AuditMessage]:
            _write(work, change, caller.partner, now)
            return asked.accepted(change)

        try:
            return self._ledger.take(key, self._acknowledge(message), write)
        except MergeRefused as refused:
            raise _refused(ErrorCode.UNKNOWN_KEY_IDENTIFIER, refused.reason, message, PRIOR_ID) from refused

    def _refuse(self, asked: _Asked, problems: Sequence[Problem]) -> Reply:
        """Record a refusal and give its answer; when it cannot be recorded, that is the answer."""
        request = asked.request
        codes = sorted({str(problem.code) for problem in problems})
        try:
            self._ledger.put_on_record(asked.refusal(problems, self._rules))
        except StoreUnavailable as error:
            return self._unavailable(asked, error)
        _log.info("feed refused", codes=codes, partner=request.caller.partner, request=request.request_id)
        return Reply([self._acknowledge(asked.message, problems)])

    def _unavailable(self, asked: _Asked, error: StoreUnavailable) -> Reply:
        _log.error("feed not stored", reason=str(error), full=error.full, request=asked.request.request_id)
        return Reply([self._acknowledge(asked.message, [unavailable(error)])])

    def _acknowledge(self, message: PatientFeed, problems: Sequence[Problem] = ()) -> bytes:
        return print_acknowledgement(message, message_id=self._new_id(), time=self._ledger.sent(), problems=problems)


def _write(work: FeedUnitOfWork, change: Change, partner: str, now: str) -> None:
    if change.patients:
        work.make_known(change.patients, change.told or {}, now)
    for subsumed, surviving in change.merges:
        work.merge(subsumed, surviving, now)
    work.note(partner, change.defects, now)
