"""The Document Registry as the wire sees it: reads a request, runs its transaction, audits it, answers.

Every request leaves its audit record before the first byte of its answer: a registration in the same transaction as
what it wrote, everything else by itself. A refusal that cannot be recorded is answered as out of resources.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

import structlog
from lxml import etree

from atna import events
from atna.message import AuditMessage, Outcome
from atna.recorder import Recorder
from consent.policy import Decision, decide
from ihe import ebrs
from ihe import vocabulary as v
from ihe.affinity_domain import AffinityDomain
from ihe.errors import ErrorCode, FaultCode, RegistryError, Rejected, SoapFault
from ihe.transactions import ITI_18, ITI_42, Transaction
from ihe.xua import Caller
from registry import iti18_registry_stored_query as iti18
from registry import iti42_register_document_set_b as iti42
from registry.settings import RegistrySettings
from registry.store.protocol import Depositor, LostRace, RegistryStore, StoreUnavailable
from schemas import violations
from wire.messages import Handler, Reply, Request, StagedPart
from wire.settings import AffinityDomainSettings

_log = structlog.get_logger(__name__)

_ATTEMPTS: Final = 6
_DEPOSITOR: Final = f"{{{v.DOSSIER}}}Depositor"
_GIVE_UP: Final = f"{{{v.DOSSIER}}}GiveUp"


def new_uuid() -> str:
    """A new ``urn:uuid:`` id."""
    return f"urn:uuid:{uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class RegistryActor:
    """Everything a worker needs to answer ITI-42 and ITI-18; ``now`` gives seconds since 1970."""

    store: RegistryStore
    recorder: Recorder
    domain: AffinityDomain
    agreed: AffinityDomainSettings
    settings: RegistrySettings
    now: Callable[[], float] = time.time

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """The transactions answered at this address."""
        return {ITI_42: self.register, ITI_18: self.query}

    def stage(self, request_id: str) -> StagedPart:
        """Refuse: no transaction of a registry carries documents."""
        del request_id
        raise SoapFault(FaultCode.SENDER, "a registry takes metadata only; send documents to a repository (ITI-41)")

    def register(self, request: Request) -> Reply:
        """ITI-42: register, or refuse with every error (ITI TF-2: 3.42.4.1.3)."""
        asked = _Asked(self, request, decide(request.caller, ITI_42.code))
        try:
            asked.admit()
            self._register(asked)
        except (Rejected, StoreUnavailable) as refused:
            return Reply([ebrs.registry_response(v.FAILURE, asked.refused(refused))])
        return Reply([ebrs.registry_response(v.SUCCESS)])

    def _register(self, asked: "_Asked") -> None:
        deadline = time.monotonic() + self.settings.max_registration_s
        request = asked.request
        submission = iti42.read_submission(request.body, self.domain, lenient=asked.lenient, new_uuid=new_uuid)
        asked.patient_id, asked.submission_set_id = submission.patient_id, submission.unique_id
        wanted = iti42.asked_about(submission)
        sender = self.sender_of(request)
        depositor = Depositor(sender.node, sender.organisation, sender.person)
        for _ in range(_ATTEMPTS):
            try:
                with self.store.unit_of_work() as work:
                    registration = iti42.judge(submission, work.facts_about(wanted), self.today(), new_uuid)
                    work.apply(
                        replace(registration, depositor=depositor, partner=sender.node or request.caller.partner)
                    )
                    work.record([self.recorder.record(asked.audited(Outcome.SUCCESS, None))])
                    if time.monotonic() > deadline or self._given_up(request):
                        # A repository that heard nothing judges this submission lost from here on: it must not appear.
                        raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, "took too long; send it again"),))
            except LostRace:
                continue
            return
        raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, "others change the same objects; send it again"),))

    def query(self, request: Request) -> Reply:
        """ITI-18: answer a stored query (ITI TF-2: 3.18.4.1.3)."""
        asked = _Asked(self, request, decide(request.caller, ITI_18.code))
        try:
            asked.admit()
            query = asked.read_query()
            if query.understood.criteria.patient is not None:
                asked.patient_id = "{}^^^&{}&ISO".format(*query.understood.criteria.patient)
            found = iti18.answer(
                query,
                self.store,
                asked.decision.visibility,
                max_leaf_results=self.settings.max_leaf_results,
                unknown_patient_is_error=self.agreed.unknown_patient == "error",
            )
            pieces = iti18.response(query, found)
            # The first piece is made before the record, so that an object that cannot be read fails as an error.
            first = list(islice(pieces, 1))
            self.store.record_alone([self.recorder.record(asked.audited(Outcome.SUCCESS, None))])
            self._note(query, request)
        except (Rejected, StoreUnavailable) as refused:
            return Reply([iti18.refusal(asked.refused(refused))])
        return Reply(chain(first, pieces))

    def _note(self, query: iti18.StoredQuery, request: Request) -> None:
        """Leave a trace of leniency; a query changes nothing, so its defects go to the log alone."""
        for defect in iti18.defects_of(query):
            _log.info("defect let pass", partner=request.caller.partner, code=defect.code, defect=defect.context)

    def _given_up(self, request: Request) -> bool:
        """Whether our own header GiveUp, ``at`` in seconds since 1970, says that nobody waits any more.

        Our own clock starts when the request is read: one that lay unread in the socket of a process that hung would
        come as new, long after its sender has asked others and taken its documents back.
        """
        told = next((header.get("at", "") for header in request.headers if header.tag == _GIVE_UP), "")
        try:
            return self.now() > float(told)
        except ValueError:
            return False

    def sender_of(self, request: Request) -> Caller:
        """Whose metadata this is: the source, as a listed repository tells of its own caller, else the caller itself.

        Strictness and the list of defects are about who wrote a submission, not about who passed it on.
        """
        caller = request.caller
        listed = self.agreed.partner(caller.node, caller.fingerprint) is not None
        told = next((h for h in request.headers if h.tag == _DEPOSITOR), None)
        if told is None or not (listed or (caller.node is None and _is_loopback(caller.address))):
            return caller
        names = (told.get("node"), told.get("fingerprint"), told.get("organisation"), told.get("person"))
        return Caller(caller.address, *names)

    def today(self) -> str:
        """Now, as a DTM of 14 digits, UTC."""
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y%m%d%H%M%S")

    def failure(self, request: Request, error: Exception) -> Reply:
        """Answer when a handler failed by our own defect: XDSRegistryError with the request id, audited."""
        code, text = ErrorCode.REGISTRY_ERROR, f"internal error, request {request.request_id}; nothing was changed"
        asked = _Asked(self, request, decide(request.caller, request.transaction.code))
        named = error if isinstance(error, StoreUnavailable) else Rejected((RegistryError(code, text),))
        errors = asked.refused(named)
        if request.transaction is ITI_18:
            return Reply([iti18.refusal(errors)])
        return Reply([ebrs.registry_response(v.FAILURE, errors)])


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _outage(outage: StoreUnavailable) -> RegistryError:
    if outage.full:
        return RegistryError(ErrorCode.REGISTRY_OUT_OF_RESOURCES, "the registry has no room left; send it again later")
    return RegistryError(ErrorCode.REGISTRY_ERROR, "the registry's database does not answer; send it again later")


class _Asked:
    """One request with what is known of it so far, for its audit record whatever becomes of it."""

    def __init__(self, actor: RegistryActor, request: Request, decision: Decision) -> None:
        self.actor, self.request, self.decision = actor, request, decision
        self.patient_id: str | None = None
        self.submission_set_id: str | None = None
        self.query_id = events.UNKNOWN
        self.home: str | None = None

    @property
    def lenient(self) -> bool:
        """Whether what deviates without changing meaning is recorded rather than refused."""
        agreed = self.actor.agreed
        for one in (self.actor.sender_of(self.request), self.request.caller):
            partner = agreed.partner(one.node, one.fingerprint)
            if partner is not None and partner.strictness is not None:
                return partner.strictness == "warn"
        return agreed.strictness == "warn"

    def admit(self) -> None:
        """Refuse what may not be done, what cannot be recorded, and what is not in the right form."""
        if self.actor.store.busy():
            text = "audit records wait for the audit service; send it again later"
            raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, text),))
        if not self.decision.permit:
            raise Rejected((RegistryError(ErrorCode.REGISTRY_ERROR, f"refused by rule {self.decision.rule}"),))
        wrong = violations(self.request.body)
        if wrong:
            is_query = self.request.transaction is ITI_18
            code = ErrorCode.REGISTRY_ERROR if is_query else ErrorCode.REGISTRY_METADATA
            raise Rejected(RegistryError(code, text) for text in wrong)

    def read_query(self) -> iti18.StoredQuery:
        """Understand the query of this request; its id is known for the record even when the rest is wrong."""
        request, query = iti18.read_request(
            self.request.body, lenient=self.lenient, max_values=self.actor.settings.max_query_values
        )
        self.query_id, self.home = request.query_id or events.UNKNOWN, request.home or None
        if isinstance(query, tuple):
            raise Rejected(query)
        return query

    def audited(self, outcome: Outcome, reason: str | None) -> AuditMessage:
        """The audit record of this request (ITI TF-2: 3.42.5.1, 3.18.5.1)."""
        request = self.request
        parties = events.serving(
            request.caller, request.address, self.actor.recorder.process_id, user_id=request.reply_to
        )
        if request.transaction is ITI_42:
            return events.registered(
                parties,
                patient_id=self.patient_id,
                submission_set_id=self.submission_set_id,
                outcome=outcome,
                reason=reason,
                decision=self.decision.rule,
            )
        return events.stored_query(
            parties,
            query_id=self.query_id,
            request=_serialised(request.body),
            patient_id=self.patient_id,
            outcome=outcome,
            reason=reason,
            decision=self.decision.rule,
            home_community_id=self.home,
        )

    def refused(self, refused: Rejected | StoreUnavailable) -> tuple[RegistryError, ...]:
        """Record a refusal and give its errors; when it cannot be recorded, that is the answer."""
        errors = refused.errors if isinstance(refused, Rejected) else (_outage(refused),)
        codes = ", ".join(sorted({str(error.code) for error in errors}))
        record = self.actor.recorder.record(self.audited(Outcome.SERIOUS_FAILURE, codes))
        try:
            self.actor.store.record_alone([record])
        except StoreUnavailable as outage:
            _log.error("a refusal could not be recorded", request=self.request.request_id, codes=codes)
            return (_outage(outage),)
        return errors


def _serialised(body: Any) -> bytes:
    text: bytes = etree.tostring(body, encoding="UTF-8")
    return text
