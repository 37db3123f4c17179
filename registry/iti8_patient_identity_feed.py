"""ITI-8 Patient Identity Feed, Document Registry side (ITI TF-2: 3.8), HL7 v2 over MLLP.

Request  ADT^A01, A04, A05 (add), A08 (update; an unknown id is added, since sources differ), any HL7 2.x, PID-3 as CX;
         A40 and A37 (``registry.iti8_merge``), A43 (``registry.iti64_notify_xad_pid_link_change``)
Effect   every repetition of PID-3 whose assigning authority is one of the domain's becomes known; PID-5, 7, 8 are kept,
         but of PID-7 no day or time that cannot be: that is left out and recorded as a defect
Reply    ACK: AA when it is durable, with its audit records, in one transaction
         AE  understood, refused: no usable id in PID-3; several PIDs, or a MRG, where the event has none; a merge that
             contradicts what is known; or nothing could be stored now
         AR  not for us: no ADT, no MSH-10, unreadable; not permitted; other merges, moves and links (A18, A34 and
             their like), which the registry can't follow and therefore never accepts; other events where
             feed_other_events is "reject"
Others   ADT events that mean nothing to a registry (A02, A03 …) are answered AA and have no effect: an interface engine
         must not stop for days on a transfer
Repeats  the same bytes with the same MSH-10 from the same sender get the answer they got, and do nothing again; only AA
         is kept, so that a message refused for a setting is judged anew once the setting is right
Not checked: MSH-5 and MSH-6 (which name us), MSH-11, MSH-12.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from atna import events, participants
from atna.message import Action, AuditMessage, Outcome
from atna.recorder import Recorder
from consent import Decision, decide
from ihe.datatypes import CX, hl7_escape, is_oid, loose_dtm, normalise_oid, print_cx
from ihe.hl7v2 import (
    AckCode,
    Demographics,
    ErrorCode,
    FeedMessage,
    Header,
    Identifier,
    ParseError,
    Problem,
    parse_feed,
    read_header,
)
from ihe.hl7v2_print import print_acknowledgement
from ihe.matricule import MatriculePolicy
from ihe.xua import Caller
from registry.feed_ledger import FeedLedger, unavailable
from registry.settings import OtherEvents
from registry.store.patient_protocol import FeedMessageKey, FeedUnitOfWork, MergeRefused, PatientStore
from registry.store.protocol import Defect, PatientId, StoreUnavailable

__all__ = [
    "IMPOSSIBLE_BIRTH",
    "Change",
    "Effect",
    "FeedRules",
    "Handling",
    "Occasion",
    "PatientIdentityFeed",
    "Refused",
    "audit_events",
    "authority_of",
    "cx_text",
    "expected",
    "judge",
    "known_here",
    "possible_birth",
    "refusal",
    "wrong_matricules",
]

_log = structlog.get_logger(__name__)

TRANSACTION: Final = "ITI-8"
MAX_ID_CHARACTERS: Final = 256
"""Of an id with its authority as metadata has it, ID^^^&OID&ISO: no value of metadata is longer."""
V2_FORM: Final = f"ID^^^&OID&ISO, at most {MAX_ID_CHARACTERS} characters"
IMPOSSIBLE_BIRTH: Final = "the time of birth is not in the calendar; it was not kept"
NAMED_AUTHORITIES: Final = 3
"""How many of the domain's authorities a refusal names."""
ACTIONS: Final[Mapping[str, Action]] = {
    "A01": Action.CREATE,
    "A04": Action.CREATE,
    "A05": Action.CREATE,
    "A08": Action.UPDATE,
}
"""The events that make patients known and how they are audited (ITI TF-2: 3.8.4.1.2, 3.8.5.1)."""

IDENTITY_CHANGES: Final = frozenset(
    {"A18", "A24", "A29", "A30", "A34", "A35", "A36", "A37"}
    | {"A39", "A40", "A41", "A42", "A43", "A46", "A47", "A48", "A49", "A50", "A51"}
)
"""Merge, move, change, link, unlink and delete of identities (HL7 2.5 table 0003): to accept one without doing it would
leave documents with the wrong patient, unseen. Those that are done are given to the feed as ``Handling``."""


@dataclass(frozen=True, slots=True)
class FeedRules:
    """What the affinity domain agreed on; ``assigning_authorities`` are OIDs, empty: any; names are HD.1 to OID."""

    assigning_authorities: frozenset[str] = frozenset()
    authority_names: Mapping[str, str] | None = None
    other_events: OtherEvents = "accept"
    matricules: MatriculePolicy = field(default_factory=MatriculePolicy)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What every audit record of a message says; ``reason`` only of a refusal, ``decision`` is the access rule."""

    parties: participants.Parties
    control_id: str
    decision: str
    outcome: Outcome = Outcome.SUCCESS
    reason: str | None = None


Act = tuple[Action, str | None]
"""What was done to which patient (CX text; ``None``: none could be read), as audit records tell it."""


class Effect(Protocol):
    """Exactly what a message is to change, and its audit records."""

    def write(self, work: FeedUnitOfWork, now: str) -> "Effect":
        """Write it; gives what was done, for the records. Raises MergeRefused. ``now``: 14 digits, UTC."""
        ...

    def audited(self, occasion: Occasion) -> list[AuditMessage]:
        """One record per patient (ITI TF-2: 3.8.5.1), or what the transaction asks for."""
        ...


@dataclass(frozen=True, slots=True)
class Handling:
    """How one event that changes identities is done.

    ``judge`` raises Refused; ``refused`` gives the audit records of a message that could not be judged.
    ``transaction`` is the one that a partner's settings must list.
    """

    transaction: str
    judge: "Callable[[FeedMessage, FeedRules], Effect]"
    refused: "Callable[[FeedMessage, FeedRules, Occasion], list[AuditMessage]]"


@dataclass(frozen=True, slots=True)
class Change:
    """These ids are known from now on, and this is told of them; ``defects`` were let pass."""

    patients: tuple[PatientId, ...]
    told: Mapping[str, str | None]
    action: Action
    defects: tuple[Defect, ...] = ()

    def write(self, work: FeedUnitOfWork, now: str) -> Effect:
        """Make them known."""
        work.make_known(self.patients, self.told, now)
        return self

    def audited(self, occasion: Occasion) -> list[AuditMessage]:
        """One record per patient."""
        return audit_events(occasion, [(self.action, print_cx(CX(*patient))) for patient in self.patients])


class Refused(Exception):  # noqa: N818 - an outcome
    """Understood and refused; the text of ``problem`` goes to the sender."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


NO_HANDLINGS: Final[Mapping[str, Handling]] = MappingProxyType({})


def judge(message: FeedMessage, rules: FeedRules, handlings: Mapping[str, Handling] = NO_HANDLINGS) -> Effect | None:
    """What the message is to change; ``None``: nothing, and that's right. Raises Refused."""
    header = message.header
    if header.message_type != "ADT":
        raise refusal(AckCode.REJECT, ErrorCode.UNSUPPORTED_MESSAGE_TYPE, "only ADT messages are taken", "MSH^1^9")
    if header.control_id is None:
        raise refusal(AckCode.REJECT, ErrorCode.REQUIRED_FIELD_MISSING, "MSH-10 is required", "MSH^1^10")
    handling = handlings.get(header.event or "")
    if handling is not None:
        return handling.judge(message, rules)
    if header.event in IDENTITY_CHANGES:
        text = f"{header.event} is not supported: nothing was merged, moved or linked"
        raise refusal(AckCode.REJECT, ErrorCode.UNSUPPORTED_EVENT_CODE, text, "MSH^1^9")
    if header.event is None or header.event not in ACTIONS:
        if header.event is not None and rules.other_events == "accept":
            return None
        text = "this event is not taken; A01, A04, A05 and A08 are"
        raise refusal(AckCode.REJECT, ErrorCode.UNSUPPORTED_EVENT_CODE, text, "MSH^1^9")
    _about_one(message)
    patients = tuple(dict.fromkeys(known_here(message.identifiers, rules)))
    if not patients:
        raise refusal(AckCode.ERROR, ErrorCode.UNKNOWN_KEY_IDENTIFIER, expected("PID-3", rules), "PID^1^3")
    wrong = [f"PID-3: {text}" for text in wrong_matricules(patients, rules)]
    if wrong and rules.matricules.strict:
        raise refusal(AckCode.ERROR, ErrorCode.DATA_TYPE_ERROR, wrong[0], "PID^1^3")
    told = _told(message.demographics)
    if not possible_birth(told.get("birth")):
        del told["birth"]
        wrong.append(f"PID-7: {IMPOSSIBLE_BIRTH}")
    defects = tuple(Defect(TRANSACTION, text) for text in wrong)
    return Change(patients, told, ACTIONS[header.event], defects)


def _about_one(message: FeedMessage) -> None:
    """Refuse what these events have no place for: it would be lost, or leave documents with the wrong patient."""
    if any(group.prior_identifiers for group in message.groups):
        text = "MRG has no place in this event, a merge is A40; nothing was done"
        raise refusal(AckCode.ERROR, ErrorCode.SEGMENT_SEQUENCE_ERROR, text, "MRG^1")
    if len(message.groups) > 1:
        text = "a message of this event is about one patient: exactly one PID; nothing was done"
        raise refusal(AckCode.ERROR, ErrorCode.SEGMENT_SEQUENCE_ERROR, text, "PID^2")


def refusal(ack: AckCode, code: ErrorCode, text: str, location: str) -> Refused:
    """To be raised; see ``Problem``."""
    return Refused(Problem(ack, code, text, location))


def expected(field: str, rules: FeedRules, form: str = V2_FORM) -> str:
    """Why a field (``PID-3``) holds no usable id; ``form`` is how one is written there."""
    text = f"{field} has no id of an assigning authority of this domain; expected {form}"
    listed = sorted(rules.assigning_authorities)
    if not listed:
        return text
    more = f" or {len(listed) - NAMED_AUTHORITIES} more" if len(listed) > NAMED_AUTHORITIES else ""
    return f"{text} with OID {', '.join(listed[:NAMED_AUTHORITIES])}{more}"


def known_here(identifiers: Sequence[Identifier], rules: FeedRules) -> list[PatientId]:
    """The ids whose authority belongs to the domain, in the order they came."""
    found = []
    for identifier in identifiers:
        authority = authority_of(identifier, rules)
        listed = not rules.assigning_authorities or authority in rules.assigning_authorities
        # As it is written in metadata; a longer one could be in no submission, and in no answer after a merge.
        if authority is not None and listed and len(print_cx(CX(identifier.id, authority))) <= MAX_ID_CHARACTERS:
            found.append((identifier.id, authority))
    return found


def wrong_matricules(patients: Sequence[PatientId], rules: FeedRules) -> list[str]:
    """For each wrong matricule among the ids which rule it breaks; no number stands in the text."""
    faults = (rules.matricules.fault(*patient) for patient in patients)
    return [f"the matricule is wrong: {fault}" for fault in faults if fault is not None]


def authority_of(identifier: Identifier, rules: FeedRules) -> str | None:
    """The OID of CX.4: its universal id where that's an OID, else what the domain agreed its namespace stands for."""
    if identifier.universal_id is not None and (identifier.universal_id_type or "ISO").upper() == "ISO":
        oid = normalise_oid(identifier.universal_id)
        if is_oid(oid):
            return oid
    return (rules.authority_names or {}).get(identifier.namespace or "")


def possible_birth(birth: str | None) -> bool:
    """Whether a birth may be kept: none is told, it is erased, or it is a time in the calendar."""
    try:
        return not birth or bool(loose_dtm(birth).text)
    except ValueError:
        return False


def _told(demographics: Demographics) -> dict[str, str | None]:
    values = {
        "family": demographics.family,
        "given": demographics.given,
        "birth": demographics.birth,
        "sex": demographics.sex,
    }
    return {name: value or None for name, value in values.items() if value is not None}


def audit_events(occasion: Occasion, acts: Sequence[Act]) -> list[AuditMessage]:
    """One record per act; one without a patient when there is none."""
    return [
        events.patient_feed(
            occasion.parties,
            patient_id=patient_id,
            control_id=occasion.control_id,
            action=action,
            outcome=occasion.outcome,
            reason=occasion.reason,
            decision=occasion.decision,
        )
        for action, patient_id in acts or [(Action.UPDATE, None)]
    ]


class PatientIdentityFeed:
    """The handler of the feed's listener: one message and its sender in, the acknowledgement out. Thread safe.

    ``now`` gives seconds since 1970, ``new_id`` the MSH-10 of our answers (at most 20 characters).
    ``answer_days``: how long answers are kept for repetitions. ``handlings``: the events of ``IDENTITY_CHANGES`` that
    are done. ``granted``: the transactions that the settings list for a caller.
    """

    def __init__(
        self,
        store: PatientStore,
        recorder: Recorder,
        rules: FeedRules,
        *,
        now: Callable[[], float],
        new_id: Callable[[], str],
        answer_days: int = 30,
        handlings: Mapping[str, Handling] = NO_HANDLINGS,
        granted: Callable[[Caller], Collection[str]] = lambda _: (),
    ) -> None:
        self._ledger = FeedLedger(store, recorder, now, answer_days)
        self._recorder = recorder
        self._rules = rules
        self._new_id = new_id
        self._handlings = handlings
        self._granted = granted

    def __call__(self, data: bytes, caller: Caller) -> bytes:
        """Handle one message; whatever is wrong with it or with the store is an answer, not an exception."""
        try:
            self._ledger.admit()
            answer = self._judged(data, caller)
            self._ledger.forget_old_answers()
        except StoreUnavailable as error:
            _log.error("feed message not stored", reason=str(error), full=error.full, partner=caller.partner)
            return self._acknowledge(read_header(data), unavailable(error))
        return answer

    def _judged(self, data: bytes, caller: Caller) -> bytes:
        message, decision = FeedMessage(Header()), decide(caller, TRANSACTION)
        try:
            message = parse_feed(data)
            decision = self._decided(message.header, caller)
            if not decision.permit:
                text = f"not permitted: {decision.rule}"
                raise refusal(AckCode.REJECT, ErrorCode.APPLICATION_INTERNAL_ERROR, text, "")
            effect = judge(message, self._rules, self._handlings)
        except ParseError as error:
            return self._refuse(FeedMessage(error.header), error.problem, caller, decision.rule)
        except Refused as error:
            return self._refuse(message, error.problem, caller, decision.rule)
        if effect is None:
            return self._acknowledge(message.header)
        try:
            return self._apply(message.header, effect, data, caller, decision.rule)
        except MergeRefused as error:
            problem = Problem(AckCode.ERROR, ErrorCode.UNKNOWN_KEY_IDENTIFIER, error.reason)
            return self._refuse(message, problem, caller, decision.rule, effect)

    def _decided(self, header: Header, caller: Caller) -> Decision:
        """What changes identities is for partners alone whose settings list its transaction."""
        handling = self._handlings.get(header.event or "")
        if handling is None:
            return decide(caller, TRANSACTION)
        return decide(caller, handling.transaction, self._granted(caller), restricted=True)

    def _refuse(
        self, message: FeedMessage, problem: Problem, caller: Caller, rule: str, effect: Effect | None = None
    ) -> bytes:
        """Put a refusal on record and answer it."""
        occasion = replace(
            self._occasion(message.header, caller, rule),
            outcome=Outcome.SERIOUS_FAILURE,
            reason=f"{problem.ack} {problem.code} {problem.code.text}",
        )
        handling = self._handlings.get(message.header.event or "")
        if effect is not None:
            records = effect.audited(occasion)
        elif handling is not None:
            records = handling.refused(message, self._rules, occasion)
        else:
            action = ACTIONS.get(message.header.event or "", Action.UPDATE)
            named = [(action, cx_text(identifier, self._rules)) for identifier in message.identifiers]
            records = audit_events(occasion, named or [(action, None)])
        self._ledger.put_on_record(records)
        _log.info("feed message refused", ack=problem.ack, code=problem.code, partner=caller.partner)
        return self._acknowledge(message.header, problem)

    def _occasion(self, header: Header, caller: Caller, rule: str) -> Occasion:
        parties = participants.serving(
            caller,
            header.receiver if header.receiver != "|" else "DOSSIER|REGISTRY",
            self._recorder.process_id,
            user_id=header.sender if header.sender != "|" else None,
            address=self._recorder.host,
        )
        return Occasion(parties, header.control_id or "", rule)

    def _apply(self, header: Header, effect: Effect, data: bytes, caller: Caller, rule: str) -> bytes:
        key = FeedMessageKey(
            f"{caller.partner}|{header.sender}", header.control_id or "", hashlib.sha256(data).hexdigest()
        )
        occasion = self._occasion(header, caller, rule)

        def write(work: FeedUnitOfWork, now: str) -> Sequence[AuditMessage]:
            done = effect.write(work, now)
            if isinstance(done, Change):
                work.note(caller.partner, done.defects, now)
            return done.audited(occasion)

        return self._ledger.take(key, self._acknowledge(header), write)

    def _acknowledge(self, header: Header, problem: Problem | None = None) -> bytes:
        return print_acknowledgement(header, control_id=self._new_id(), time=self._ledger.sent(), problem=problem)


def cx_text(identifier: Identifier, rules: FeedRules) -> str:
    """An id for the audit record of a refusal, also one whose authority nobody here knows."""
    authority = authority_of(identifier, rules)
    if authority is not None:
        return print_cx(CX(identifier.id, authority))
    parts = (identifier.namespace, identifier.universal_id, identifier.universal_id_type)
    assigned = "&".join(hl7_escape(part or "") for part in parts).rstrip("&")
    return f"{hl7_escape(identifier.id)}^^^{assigned}".rstrip("^")
