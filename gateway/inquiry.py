"""One query that a gateway was asked, with what is known of it, for its records whatever becomes of it.

Every request leaves its records before the first byte of its answer: one as the actor that was asked, one for each
question that was sent because of it.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from atna.message import Outcome
from atna.participants import UNKNOWN
from consent.policy import Decision
from gateway.passed_on import security_header
from gateway.question import Question, read_question
from gateway.room import Room
from ihe import ebrs
from ihe import vocabulary as v
from ihe.errors import ErrorCode, FaultCode, RegistryError, Rejected, plain_codes
from ihe.transactions import ITI_18, Transaction
from schemas import violations
from wire.client import NotSent, OutcomeUnknown, PeerFault, TooLarge, for_log
from wire.messages import Reply, Request

__all__ = ["OUTCOMES", "Inquiry", "Sent", "codes_of", "not_permitted", "registry_silent"]

OUTCOMES: Final = {
    v.SUCCESS: (Outcome.SUCCESS,),
    v.PARTIAL_SUCCESS: (Outcome.SUCCESS, Outcome.SERIOUS_FAILURE),
    v.FAILURE: (Outcome.SERIOUS_FAILURE,),
}
"""By the status of an answer; a mixed one takes two records (ITI TF-2: 3.18.5.1, 3.38.5.1)."""

MOST_PATIENTS_RECORDED: Final = 10
MOST_RECORDED_BYTES: Final = 16 * 2**20
"""Of the text of one query, over all records of the request itself."""
_BUSY: Final = 503

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """A question as it was sent, for its record; ``outcomes`` are those of its answer."""

    transaction: Transaction
    url: str
    text: bytes
    patient_id: str | None
    home: str
    outcomes: tuple[Outcome, ...]
    reason: str | None = None


@dataclass(slots=True)
class Inquiry:
    """A request of ITI-18 or ITI-38; ``home`` is what its record names.

    ``begun`` and ``deadline`` (``time.monotonic``) are those of everything that is asked because of it.
    """

    room: Room
    request: Request
    decision: Decision
    home: str | None = None
    begun: float = field(init=False)
    deadline: float = field(init=False)
    question: Question = field(init=False)
    security: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        self.deadline = self.begun + self.room.settings.deadline_s
        self.question = read_question(self.request.body)
        self.security = security_header(self.request)

    def admit(self) -> None:
        """Refuse what cannot be recorded, what may not be done, and what is not in the right form: raises Rejected."""
        if self.room.store.busy():
            text = "audit records wait for the audit service; send it again later"
            raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, text),))
        not_permitted(self.request, self.decision)
        wrong = violations(self.request.body)
        if wrong:
            raise Rejected(RegistryError(ErrorCode.REGISTRY_ERROR, text) for text in wrong)

    def refused(self, errors: Sequence[RegistryError]) -> Reply:
        """Failure, recorded; our home is where it happened."""
        located = [RegistryError(e.code, e.context, e.severity, e.location or self.room.home) for e in errors]
        self.record((Outcome.SERIOUS_FAILURE,), codes_of(located), ())
        return Reply((ebrs.adhoc_query_response(v.FAILURE, located, ()),))

    def record(self, outcomes: Iterable[Outcome], reason: str | None, sent: Iterable[Sent]) -> None:
        """Write the records of the request and of what was sent because of it. Raises StoreUnavailable."""
        records = [
            self.room.records.queried(
                self.room.records.received(self.request),
                patient_id=patient_id,
                transaction=self.request.transaction,
                query_id=self.question.query_id or UNKNOWN,
                request=self.question.text,
                outcome=outcome,
                reason=None if outcome is Outcome.SUCCESS else reason,
                decision=self.decision.rule,
                home_community_id=self.home,
            )
            for patient_id in self._patients() or (None,)
            for outcome in outcomes
        ]
        self.room.store.record_alone(
            [*records, *(self._sent(one, outcome) for one in sent for outcome in one.outcomes)]
        )

    def _patients(self) -> Sequence[str]:
        """Whom a record is written for. Each repeats the whole query: many of a long one are bounded together."""
        named = self.question.named.patient_ids[:MOST_PATIENTS_RECORDED]
        return named if len(named) * len(self.question.text) <= MOST_RECORDED_BYTES else named[:1]

    def _sent(self, sent: Sent, outcome: Outcome) -> bytes:
        return self.room.records.queried(
            self.room.records.sent(sent.url),
            patient_id=sent.patient_id,
            transaction=sent.transaction,
            query_id=self.question.query_id or UNKNOWN,
            request=sent.text,
            outcome=outcome,
            reason=None if outcome is Outcome.SUCCESS else sent.reason,
            home_community_id=sent.home,
        )

    def sent_to_registry(self, outcomes: tuple[Outcome, ...], reason: str | None = None) -> Sent:
        """The record of this question, put to our own registry as ITI-18."""
        patients = self.question.named.patient_ids
        patient_id = patients[0] if patients else None
        url = self.room.settings.registry_url
        return Sent(ITI_18, url, self.question.handed_on, patient_id, self.room.home, outcomes, reason)

    def ask_registry(self) -> tuple[Any, bytes | None]:
        """The body of our own registry's answer, and its objects if they stand for themselves (see ``Answer.objects``).

        Raises what SoapClient.call raises.
        """
        with self.room.local.call(
            self.room.settings.registry_url,
            ITI_18,
            self.question.handed_on,
            extra_headers=self.security,
            deadline=self.deadline,
            max_bytes=self.room.settings.max_answer_bytes,
            objects_as_bytes=True,
        ) as answer:
            return answer.body, answer.objects


def not_permitted(request: Request, decision: Decision) -> None:
    """Raise Rejected where the rules refuse this caller."""
    if not decision.permit:
        text = f"{request.transaction.code} is refused by rule {decision.rule}"
        raise Rejected((RegistryError(ErrorCode.REGISTRY_ERROR, text),))


def registry_silent(error: NotSent | OutcomeUnknown | PeerFault, home: str) -> RegistryError:
    """What an asker is told of our own registry; what is behind it stands in the log."""
    _log.warning("the registry of this community gave no answer: %s", for_log(error))
    if isinstance(error, TooLarge):
        text = "the answer is larger than this gateway passes on (setting max_answer_bytes); narrow the query"
        return RegistryError(ErrorCode.TOO_MANY_RESULTS, text, location=home)
    if isinstance(error, PeerFault) and error.fault.http_status == _BUSY:
        return RegistryError(ErrorCode.REGISTRY_BUSY, "the registry is busy; send it again later", location=home)
    if isinstance(error, PeerFault) and error.fault.code is not FaultCode.RECEIVER:
        text = f"the registry cannot read the request (SOAP fault {error.fault.code})"
        return RegistryError(ErrorCode.REGISTRY_ERROR, text, location=home)
    text = "the registry cannot be reached" if isinstance(error, NotSent) else "the registry gave no answer in time"
    return RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, f"{text}; send it again later", location=home)


def codes_of(errors: Iterable[RegistryError]) -> str | None:
    """The codes alone, for a record; words of a partner that are no code are left out. ``None`` without any."""
    return ", ".join(plain_codes(error.code for error in errors)) or None
