"""One request with what is known of it so far, for its audit record whatever becomes of it.

Every request leaves its audit record before the first byte of its answer: what writes, in the same transaction as what
it wrote, everything else by itself. A refusal that cannot be recorded is answered as out of resources.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from lxml import etree

from atna import events, participants
from atna.message import AuditMessage, Outcome
from consent.policy import decide
from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.named import query_named, submission_named
from ihe.transactions import ITI_92
from registry.desk import Desk
from registry.store.protocol import Defect, LetPass, LostRace, StoreUnavailable
from schemas import violations
from wire.messages import Request

_log = structlog.get_logger(__name__)

MOST_RECORDED_BYTES: Final = 16 * 2**20
"""Of the text of one query, over all its audit records."""

_ATTEMPTS: Final = 6
_QUERY_ROOT: Final = f"{{{v.QUERY}}}AdhocQueryRequest"


def in_one_of_some_attempts(once: Callable[[], None]) -> None:
    """Do it again, on what is stored then, when others changed the same objects; Rejected as busy if they always do."""
    for _ in range(_ATTEMPTS):
        try:
            once()
        except LostRace:
            continue
        return
    raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, "others change the same objects; send it again"),))


class Asked:
    """What every request has in common; kinds of transaction say what their audit records are."""

    def __init__(self, desk: Desk, request: Request) -> None:
        self.desk, self.request = desk, request
        granted = desk.agreed.granted(request.caller.node, request.caller.fingerprint)
        self.decision = decide(request.caller, request.transaction.code, granted)
        self.parties = participants.serving(
            request.caller, request.address, desk.recorder.process_id, user_id=request.reply_to
        )

    def on_the_way(self) -> tuple[Defect, ...]:
        """What ``warn`` let pass of the message around the request."""
        return tuple(Defect(ErrorCode.REGISTRY_ERROR, text) for text in self.request.defects)

    def let_pass(self, found: Sequence[Defect] = ()) -> LetPass | None:
        """What ``warn`` let pass of a request that writes nothing else; None when it was right."""
        defects = (*self.on_the_way(), *found)
        if not defects:
            return None
        return LetPass(self.desk.partner_of(self.request), self.desk.today(), defects)

    def admit(self) -> None:
        """Refuse what may not be done, what cannot be recorded, and what is not in the right form."""
        if self.desk.store.busy():
            text = "audit records wait for the audit service; send it again later"
            raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, text),))
        if not self.decision.permit:
            restricted = self.request.transaction is ITI_92
            code = ErrorCode.LOCAL_POLICY_RESTRICTION if restricted else ErrorCode.REGISTRY_ERROR
            text = f"{self.request.transaction.code} is refused by rule {self.decision.rule}"
            raise Rejected((RegistryError(code, text),))
        wrong = violations(self.request.body)
        if wrong:
            is_query = self.request.transaction.request_root == _QUERY_ROOT
            code = ErrorCode.REGISTRY_ERROR if is_query else ErrorCode.REGISTRY_METADATA
            raise Rejected(RegistryError(code, text) for text in wrong)

    def audited(self, outcome: Outcome, reason: str | None) -> tuple[AuditMessage, ...]:
        """The audit records of this request."""
        raise NotImplementedError

    def records(self, outcome: Outcome = Outcome.SUCCESS, reason: str | None = None) -> list[bytes]:
        """The same, complete, to be kept."""
        return [self.desk.recorder.record(message) for message in self.audited(outcome, reason)]

    def refused(self, refused: Rejected | StoreUnavailable) -> tuple[RegistryError, ...]:
        """Record a refusal and give its errors; when it cannot be recorded, that is the answer."""
        errors = refused.errors if isinstance(refused, Rejected) else (outage(refused),)
        codes = ", ".join(sorted({str(error.code) for error in errors}))
        try:
            self.desk.store.record_alone(self.records(Outcome.SERIOUS_FAILURE, codes))
        except StoreUnavailable as failed:
            _log.error("a refusal could not be recorded", request=self.request.request_id, codes=codes)
            return (outage(failed),)
        return errors


def outage(failed: StoreUnavailable) -> RegistryError:
    """What a peer is told of a database that does not answer."""
    if failed.full:
        return RegistryError(ErrorCode.REGISTRY_OUT_OF_RESOURCES, "the registry has no room left; send it again later")
    return RegistryError(ErrorCode.REGISTRY_ERROR, "the registry's database does not answer; send it again later")


class SubmissionAsked(Asked):
    """ITI-42, 57, 61, 92: about one patient and one SubmissionSet."""

    patient_id: str | None = None
    submission_set_id: str | None = None

    def audited(self, outcome: Outcome, reason: str | None) -> tuple[AuditMessage, ...]:
        """One record (ITI TF-2: 3.42.5.1)."""
        if self.submission_set_id is None:  # refused before it was read
            named = submission_named(self.request.body)
            self.patient_id, self.submission_set_id = named.patient_id, named.unique_id
        message = events.registered(
            self.parties,
            patient_id=self.patient_id,
            submission_set_id=self.submission_set_id,
            outcome=outcome,
            reason=reason,
            decision=self.decision.rule,
            transaction=self.request.transaction,
            home_community_id=self.desk.agreed.home_community_id if self.request.transaction is ITI_92 else None,
        )
        return (message,)


class RemovalAsked(Asked):
    """ITI-62: about any number of objects, and patients."""

    patient_ids: Sequence[str] = ()
    object_ids: Sequence[str] = ()

    def audited(self, outcome: Outcome, reason: str | None) -> tuple[AuditMessage, ...]:
        """One record of all objects and whose they are."""
        message = events.removed(
            self.parties,
            patient_ids=self.patient_ids,
            object_ids=self.object_ids,
            outcome=outcome,
            reason=reason,
            decision=self.decision.rule,
        )
        return (message,)


class QueryAsked(Asked):
    """ITI-18 and 51: about one patient, several (a record for each), or objects named by their ids.

    Each record repeats the whole query, so that many patients and a long query are bounded together.
    """

    patient_ids: Sequence[str] = ()
    query_id = participants.UNKNOWN
    home: str | None = None

    def recordable(self, patient_ids: Sequence[str], most: int) -> bool:
        """Whether a record for each of these patients can be kept."""
        few = len(patient_ids) <= 1
        return few or (len(patient_ids) <= most and len(patient_ids) * len(self._text()) <= MOST_RECORDED_BYTES)

    def _text(self) -> bytes:
        return serialised(self.request.body)

    def audited(self, outcome: Outcome, reason: str | None) -> tuple[AuditMessage, ...]:
        """The query as it was asked, once for each patient (ITI TF-2: 3.18.5.1)."""
        text = self._text()
        if outcome != Outcome.SUCCESS and not self.patient_ids:  # refused before it was understood
            named = query_named(self.request.body)
            self.query_id, self.home = named.query_id or participants.UNKNOWN, named.home
            if self.recordable(named.patient_ids, self.desk.settings.max_query_patients):
                self.patient_ids = named.patient_ids
        return tuple(
            events.stored_query(
                self.parties,
                query_id=self.query_id,
                request=text,
                patient_id=patient_id,
                outcome=outcome,
                reason=reason,
                decision=self.decision.rule,
                home_community_id=self.home,
                transaction=self.request.transaction,
            )
            for patient_id in self.patient_ids or (None,)
        )


def serialised(body: Any) -> bytes:
    """An element as UTF-8."""
    text: bytes = etree.tostring(body, encoding="UTF-8")
    return text
