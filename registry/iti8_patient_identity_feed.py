"""ITI-8 Patient Identity Feed, Document Registry side (ITI TF-2: 3.8), HL7 v2 over MLLP.

Request  ADT^A01, A04, A05 (add), A08 (update; an unknown id is added, since sources differ), any HL7 2.x, PID-3 as CX
Effect   every repetition of PID-3 whose assigning authority is one of the domain's becomes known; PID-5, 7, 8 are kept
Reply    ACK: AA when it is durable, with its audit records, in one transaction
         AE  understood, refused: no usable id in PID-3; or nothing could be stored now
         AR  not for us: no ADT, no MSH-10, unreadable; merges, moves and links (A40 and its like), which this version
             can't follow and therefore never accepts; other events where feed_other_events is "reject"
Others   ADT events that mean nothing to a registry (A02, A03 …) are answered AA and have no effect: an interface engine
         must not stop for days on a transfer
Repeats  the same bytes with the same MSH-10 from the same sender get the answer they got, and do nothing again; only AA
         is kept, so that a message refused for a setting is judged anew once the setting is right
Not checked: MSH-5 and MSH-6 (which name us), MSH-11, MSH-12.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from atna import events
from atna.message import Action, AuditMessage, Outcome
from atna.recorder import Recorder
from consent import decide
from ihe.datatypes import CX, hl7_escape, is_oid, normalise_oid, print_cx
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
from ihe.xua import Caller
from registry.settings import OtherEvents
from registry.store.patient_protocol import FeedMessageKey, PatientStore
from registry.store.protocol import LostRace, PatientId, StoreUnavailable

__all__ = ["Change", "FeedRules", "PatientIdentityFeed", "Refused", "audit_events", "judge"]

_log = structlog.get_logger(__name__)

TRANSACTION: Final = "ITI-8"
MAX_ID_CHARACTERS: Final = 256
NAMED_AUTHORITIES: Final = 3
"""How many of the domain's authorities a refusal names."""
PATIENCE_S: Final = 10.0
"""How long a message that keeps losing races is tried again; its sender waits meanwhile."""
FORGET_EVERY_S: Final = 3600.0

ACTIONS: Final[Mapping[str, Action]] = {
    "A01": Action.CREATE,
    "A04": Action.CREATE,
    "A05": Action.CREATE,
    "A08": Action.UPDATE,
}
"""The events with an effect here and how they are audited (ITI TF-2: 3.8.4.1.2, 3.8.5.1)."""

IDENTITY_CHANGES: Final = frozenset(
    {"A18", "A24", "A29", "A30", "A34", "A35", "A36", "A37"}
    | {"A39", "A40", "A41", "A42", "A43", "A46", "A47", "A48", "A49", "A50", "A51"}
)
"""Merge, move, change, link, unlink and delete of identities (HL7 2.5 table 0003): to accept one without doing it would
leave documents with the wrong patient, unseen."""


@dataclass(frozen=True, slots=True)
class FeedRules:
    """What the affinity domain agreed on; ``assigning_authorities`` are OIDs, empty: any; names are HD.1 to OID."""

    assigning_authorities: frozenset[str] = frozenset()
    authority_names: Mapping[str, str] | None = None
    other_events: OtherEvents = "accept"


@dataclass(frozen=True, slots=True)
class Change:
    """Exactly what to write: these ids are known from now on, and this is told of them."""

    patients: tuple[PatientId, ...]
    told: Mapping[str, str | None]
    action: Action


class Refused(Exception):  # noqa: N818 - an outcome
    """Understood and refused; the text of ``problem`` goes to the sender."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


def judge(message: FeedMessage, rules: FeedRules) -> Change | None:
    """What the message is to change; ``None``: nothing, and that's right. Raises Refused."""
    header = message.header
    if header.message_type != "ADT":
        raise _refused(AckCode.REJECT, ErrorCode.UNSUPPORTED_MESSAGE_TYPE, "only ADT messages are taken", "MSH^1^9")
    if header.control_id is None:
        raise _refused(AckCode.REJECT, ErrorCode.REQUIRED_FIELD_MISSING, "MSH-10 is required", "MSH^1^10")
    if header.event in IDENTITY_CHANGES:
        text = f"{header.event} is not supported by this version: nothing was merged, moved or linked"
        raise _refused(AckCode.REJECT, ErrorCode.UNSUPPORTED_EVENT_CODE, text, "MSH^1^9")
    if header.event is None or header.event not in ACTIONS:
        if header.event is not None and rules.other_events == "accept":
            return None
        text = "this event is not taken; A01, A04, A05 and A08 are"
        raise _refused(AckCode.REJECT, ErrorCode.UNSUPPORTED_EVENT_CODE, text, "MSH^1^9")
    patients = tuple(dict.fromkeys(known_here(message.identifiers, rules)))
    if not patients:
        raise _refused(AckCode.ERROR, ErrorCode.UNKNOWN_KEY_IDENTIFIER, _expected(rules), "PID^1^3")
    return Change(patients, _told(message.demographics), ACTIONS[header.event])


def _refused(ack: AckCode, code: ErrorCode, text: str, location: str) -> Refused:
    return Refused(Problem(ack, code, text, location))


def _expected(rules: FeedRules) -> str:
    text = "PID-3 has no id of an assigning authority of this domain; expected ID^^^&OID&ISO"
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
        if authority is not None and listed and len(identifier.id) <= MAX_ID_CHARACTERS:
            found.append((identifier.id, authority))
    return found


def authority_of(identifier: Identifier, rules: FeedRules) -> str | None:
    """The OID of CX.4: its universal id where that's an OID, else what the domain agreed its namespace stands for."""
    if identifier.universal_id is not None and (identifier.universal_id_type or "ISO").upper() == "ISO":
        oid = normalise_oid(identifier.universal_id)
        if is_oid(oid):
            return oid
    return (rules.authority_names or {}).get(identifier.namespace or "")


def _told(demographics: Demographics) -> dict[str, str | None]:
    values = {
        "family": demographics.family,
        "given": demographics.given,
        "birth": demographics.birth,
        "sex": demographics.sex,
    }
    return {name: value or None for name, value in values.items() if value is not None}


def audit_events(
    header: Header,
    patient_ids: Sequence[str],
    caller: Caller,
    recorder: Recorder,
    *,
    outcome: Outcome,
    decision: str,
    problem: Problem | None = None,
) -> list[AuditMessage]:
    """One record per patient (ITI TF-2: 3.8.5.1), one without a patient when none could be read."""
    parties = events.serving(
        caller,
        header.receiver if header.receiver != "|" else "DOSSIER|REGISTRY",
        recorder.process_id,
        user_id=header.sender if header.sender != "|" else None,
        address=recorder.host,
    )
    return [
        events.patient_feed(
            parties,
            patient_id=patient_id,
            control_id=header.control_id or "",
            action=ACTIONS.get(header.event or "", Action.UPDATE),
            outcome=outcome,
            reason=f"{problem.ack} {problem.code} {problem.code.text}" if problem is not None else None,
            decision=decision,
        )
        for patient_id in patient_ids or (None,)
    ]


class PatientIdentityFeed:
    """The handler of the feed's listener: one message and its sender in, the acknowledgement out. Thread safe.

    ``now`` gives seconds since 1970, ``new_id`` the MSH-10 of our answers (at most 20 characters).
    ``answer_days``: how long answers are kept for repetitions.
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
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._rules = rules
        self._now = now
        self._new_id = new_id
        self._answer_days = answer_days
        self._forget_at = 0.0

    def __call__(self, data: bytes, caller: Caller) -> bytes:
        """Handle one message; whatever is wrong with it or with the store is an answer, not an exception."""
        try:
            self._admit()
            answer = self._judged(data, caller)
            self._forget_old_answers()
        except StoreUnavailable as error:
            _log.error("feed message not stored", reason=str(error), full=error.full, partner=caller.partner)
            return self._acknowledge(read_header(data), _unavailable(error))
        return answer

    def _admit(self) -> None:
        if self._store.busy():
            raise StoreUnavailable("too many audit records wait to be delivered")

    def _judged(self, data: bytes, caller: Caller) -> bytes:
        decision = decide(caller, TRANSACTION)
        message = FeedMessage(Header())
        try:
            message = parse_feed(data)
            if not decision.permit:
                raise _refused(AckCode.REJECT, ErrorCode.APPLICATION_INTERNAL_ERROR, "not permitted", "")
            change = judge(message, self._rules)
        except (ParseError, Refused) as error:
            header = error.header if isinstance(error, ParseError) else message.header
            patient_ids = [_cx_text(identifier, self._rules) for identifier in message.identifiers]
            refusal = audit_events(
                *(header, patient_ids, caller, self._recorder),
                outcome=Outcome.SERIOUS_FAILURE,
                decision=decision.rule,
                problem=error.problem,
            )
            self._store.record_alone([self._recorder.record(event) for event in refusal])
            _log.info("feed message refused", ack=error.problem.ack, code=error.problem.code, partner=caller.partner)
            return self._acknowledge(header, error.problem)
        if change is None:
            return self._acknowledge(message.header)
        return self._apply(message.header, change, data, caller, decision.rule)

    def _apply(self, header: Header, change: Change, data: bytes, caller: Caller, rule: str) -> bytes:
        key = FeedMessageKey(
            f"{caller.partner}|{header.sender}", header.control_id or "", hashlib.sha256(data).hexdigest()
        )
        patient_ids = [print_cx(CX(*patient)) for patient in change.patients]
        accepted = audit_events(header, patient_ids, caller, self._recorder, outcome=Outcome.SUCCESS, decision=rule)
        answer = self._acknowledge(header)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self._store.unit_of_work() as work:
                    earlier = work.answer_to(key)
                    if earlier is not None:
                        return earlier
                    now = self._time(self._now())
                    work.make_known(change.patients, change.told, now)
                    work.remember(key, answer, now)
                    work.record([self._recorder.record(event) for event in accepted])
            except LostRace as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("others write the same patients at the same time") from error
                continue
            return answer

    def _acknowledge(self, header: Header, problem: Problem | None = None) -> bytes:
        sent = self._time(self._now()) + "+0000"
        return print_acknowledgement(header, control_id=self._new_id(), time=sent, problem=problem)

    def _forget_old_answers(self) -> None:
        now = self._now()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY_S
        try:
            self._store.forget_answers(self._time(now - self._answer_days * 86_400))
        except (LostRace, StoreUnavailable) as error:  # the message itself is safe; the next hour tries again
            _log.warning("old feed answers not removed", reason=str(error))

    @staticmethod
    def _time(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")


def _unavailable(error: StoreUnavailable) -> Problem:
    reason = "no room is left in the database" if error.full else "the registry can't store now"
    text = f"{reason}; nothing was kept, send the message again"
    return Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)


def _cx_text(identifier: Identifier, rules: FeedRules) -> str:
    """An id for the audit record of a refusal, also one whose authority nobody here knows."""
    authority = authority_of(identifier, rules)
    if authority is not None:
        return print_cx(CX(identifier.id, authority))
    parts = (identifier.namespace, identifier.universal_id, identifier.universal_id_type)
    assigned = "&".join(hl7_escape(part or "") for part in parts).rstrip("&")
    return f"{hl7_escape(identifier.id)}^^^{assigned}".rstrip("^")
