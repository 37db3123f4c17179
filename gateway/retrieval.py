"""Documents of several places in one answer, for ITI-39 at /responding and ITI-43 at /initiating alike.

Asked     each target once, all in parallel, each with its own deadline and within that of the whole
Answered  in the order of the request; documents that are streamed from one target take the places of one another in the
          order that target sends them. Success, PartialSuccess or Failure
Broken    a document that is streamed and does not come to its end breaks the answer: never a short document that looks
          whole. How long a streamed answer may take in all is bounded (``stream_s``), whoever is slow
Audit     toward the caller a record of the documents that arrive and one of the others, the same toward each target
          that was asked; durable before the first byte. A transfer that breaks after its records gets a second one
          with outcome 8
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final
from xml.sax.saxutils import escape

from atna.message import Outcome
from atna.participants import UNKNOWN, DocumentReference, Parties
from consent.policy import Decision
from gateway.delivery import Delivery, Found, Keeping, Target, Wanted, cut, deliver, late
from gateway.fan_out import Call
from gateway.inquiry import codes_of
from gateway.room import Room
from gateway.store.protocol import StoreUnavailable
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid
from ihe.ebrs import DocumentRequest, read_document_requests, registry_response, retrieve_request
from ihe.errors import ErrorCode, RegistryError, Rejected, Severity
from ihe.transactions import ITI_43, Transaction
from schemas import violations
from wire.client import Answer
from wire.limit_reached import named
from wire.messages import OutgoingPart, Reply, Request

__all__ = ["Plan", "ask_repositories", "missing_home", "retrieve", "unknown_home"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Plan:
    """Who is asked for what; ``missed`` is what nobody can be asked for, ``errors`` say why.

    ``sent`` is the transaction that each target is asked by.
    """

    targets: list[tuple[Target, Transaction]] = field(default_factory=list)
    missed: list[Wanted] = field(default_factory=list)
    errors: list[RegistryError] = field(default_factory=list)

    def refuse(self, wanted: Wanted, error: RegistryError) -> None:
        """Nobody is asked for this one; the same error is told once."""
        self.missed.append(wanted)
        told = replace(error, context=cut(error.context))
        if told not in self.errors:
            self.errors.append(told)


def missing_home(room: Room, wanted: Wanted) -> RegistryError:
    """Across communities a document is named with its home."""
    text = f"document {wanted.key[1]}: HomeCommunityId is missing, the home of its entry as a query gave it"
    return RegistryError(ErrorCode.MISSING_HOME_COMMUNITY_ID, text, location=room.home)


def unknown_home(room: Room, wanted: Wanted) -> RegistryError:
    """Nobody is known with the home of a document."""
    text = f"document {wanted.key[1]}: community {wanted.request.home} is not known here"
    return RegistryError(ErrorCode.UNKNOWN_COMMUNITY, text, location=room.home)


def ask_repositories(
    room: Room, plan: Plan, wanted: Sequence[Wanted], header: bytes, deadline_s: float | None = None
) -> None:
    """ITI-43 to each repository of this community; XDSUnknownRepositoryId for what is of none.

    ``header`` is the caller's security header, ``deadline_s`` what a repository may take.
    """
    urls = {repository.unique_id: repository.url for repository in room.settings.repositories}
    by_repository: dict[str, list[Wanted]] = {}
    for one in wanted:
        repository, document = one.key
        if repository in urls:
            by_repository.setdefault(repository, []).append(one)
        else:
            text = f"document {document}: repository {repository} is none of this community"
            plan.refuse(one, RegistryError(ErrorCode.UNKNOWN_REPOSITORY_ID, text, location=room.home))
    for repository, of_it in by_repository.items():
        target = Target(
            name=f"repository {repository}",
            home=room.home,
            url=urls[repository],
            wanted=tuple(of_it),
            call=partial(_ask_repository, room, (urls[repository], header), retrieve_request(one.key for one in of_it)),
            deadline_s=deadline_s or room.settings.deadline_s,
            silent=ErrorCode.REPOSITORY_ERROR,
            busy=ErrorCode.REPOSITORY_BUSY,
        )
        plan.targets.append((target, ITI_43))


def _ask_repository(room: Room, where: tuple[str, bytes], body: bytes, deadline: float) -> Answer:
    url, header = where
    return room.local.call(
        url,
        ITI_43,
        body,
        extra_headers=header,
        deadline=deadline,
        max_bytes=room.settings.max_answer_bytes,
        spool=room.spool,
    )


# ---------------------------------------------------------------------------------------------------------- handling


def retrieve(request: Request, room: Room, decision: Decision, plan_of: Callable[[Sequence[Wanted]], Plan]) -> Reply:
    """Answer a request for documents; ``plan_of`` says who is asked. The records are durable before the first byte."""
    asked: tuple[Wanted, ...] = ()
    try:
        asked = _readable(request, room, decision)
    except Rejected as rejected:
        plan = Plan(missed=list(asked), errors=list(rejected.errors))
        return _reply(request, room, decision, plan, [])
    plan = plan_of(asked)
    deliveries = _asked_all(room, [target for target, _ in plan.targets])
    try:
        return _reply(request, room, decision, plan, deliveries)
    except BaseException:
        _close_all(deliveries)
        raise


def _readable(request: Request, room: Room, decision: Decision) -> tuple[Wanted, ...]:
    def refused(text: str, code: ErrorCode = ErrorCode.REPOSITORY_ERROR) -> Rejected:
        return Rejected([RegistryError(code, text, location=room.home)])

    if not decision.permit:
        raise refused(f"{request.transaction.code} is not permitted (rule {decision.rule})")
    faults = violations(request.body)
    if faults:
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, fault, location=room.home) for fault in faults])
    if room.store.busy():
        raise refused("audit records cannot be delivered; try again later", ErrorCode.REPOSITORY_BUSY)
    requests = read_document_requests(request.body)
    most = room.settings.max_retrieve_documents
    if len(requests) > most:
        text = f"{len(requests)} documents are asked for, more than {most}: ask for the rest in another request"
        raise refused(named(text, "max_retrieve_documents"))
    return tuple(Wanted(place, one) for place, one in enumerate(requests))


def _asked_all(room: Room, targets: Sequence[Target]) -> list[Delivery]:
    settings = room.settings
    keeping = Keeping(room.spool, settings.spool_bytes)
    until = time.monotonic() + settings.deadline_s
    begun: set[int] = set()

    def run(place: int, deadline: float) -> Delivery:
        begun.add(place)
        return deliver(targets[place], keeping, deadline)

    calls = [
        Call(partial(run, place, min(time.monotonic() + target.deadline_s, until)), until)
        for place, target in enumerate(targets)
    ]
    found = room.fan_out.ask(calls, discard=Delivery.close)
    return [
        one or late(target, keeping, asked=place in begun)
        for place, (one, target) in enumerate(zip(found, targets, strict=True))
    ]


def _reply(request: Request, room: Room, decision: Decision, plan: Plan, deliveries: Sequence[Delivery]) -> Reply:
    found = _in_order(deliveries)
    errors = list(dict.fromkeys([*plan.errors, *(error for one in deliveries for error in one.errors)]))
    audit = _Audit(request, room, decision, plan, deliveries)
    room.store.record_alone(audit.records())
    streaming = _Streaming(deliveries, audit, room.settings.stream_s)
    return Reply(_answer(_status(errors, found), errors, found), streaming.ended)


def _in_order(deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Found]]:
    """Every document that arrives, in the order of the request as far as it is not streamed in another."""
    places: dict[int, tuple[Delivery, Found]] = {}
    for delivery in deliveries:
        coming = delivery.coming
        places |= {one.wanted.place: (delivery, one) for one in delivery.documents if one.stretch is not None}
        free = sorted(one.wanted.place for one in coming)
        places |= {place: (delivery, one) for place, one in zip(free, coming, strict=True)}
    return [places[place] for place in sorted(places)]


def _status(errors: Sequence[RegistryError], found: Sequence[object]) -> str:
    if not any(error.severity is Severity.ERROR for error in errors):
        return v.SUCCESS
    return v.PARTIAL_SUCCESS if found else v.FAILURE


def _answer(
    status: str, errors: Sequence[RegistryError], found: Sequence[tuple[Delivery, Found]]
) -> Iterator[bytes | OutgoingPart]:
    head = registry_response(status, errors).decode()
    text = f'<xdsb:RetrieveDocumentSetResponse xmlns:xdsb="{v.XDSB}">{head}'
    for delivery, one in found:
        yield f"{text}<xdsb:DocumentResponse>{_names(one)}<xdsb:Document>".encode()
        yield OutgoingPart(one.mime_type, one.size, partial(delivery.chunks, one))
        text = "</xdsb:Document></xdsb:DocumentResponse>"
    yield f"{text}</xdsb:RetrieveDocumentSetResponse>".encode()


def _names(one: Found) -> str:
    repository, document = one.wanted.key
    values: Mapping[str, str | None] = {
        "HomeCommunityId": one.wanted.request.home,
        "RepositoryUniqueId": repository,
        "DocumentUniqueId": document,
        "NewRepositoryUniqueId": one.new_repository_unique_id,
        "NewDocumentUniqueId": one.new_document_unique_id,
        "mimeType": one.mime_type,
    }
    return "".join(f"<xdsb:{name}>{escape(value)}</xdsb:{name}>" for name, value in values.items() if value is not None)


class _Streaming:
    """Bounds what is still coming while the answer leaves, and ends it all with the answer."""

    def __init__(self, deliveries: Sequence[Delivery], audit: "_Audit", stream_s: float) -> None:
        self._deliveries: Final = deliveries
        self._audit: Final = audit
        self._timer: threading.Timer | None = None
        coming = [delivery for delivery in deliveries if delivery.coming]
        if coming:
            for delivery in coming:
                delivery.extend(time.monotonic() + stream_s)
            # A consumer that takes its time is noticed by nobody who waits for it: connections are taken back here.
            self._timer = threading.Timer(stream_s, _close_all, (coming,))
            self._timer.daemon = True
            self._timer.start()

    def ended(self, whole: bool) -> None:
        """The answer is sent or broken."""
        if self._timer is not None:
            self._timer.cancel()
        _close_all(self._deliveries)
        if not whole:
            self._audit.broken()


def _close_all(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        delivery.close()


# ------------------------------------------------------------------------------------------------------------- audit


class _Audit:
    """The records of one request, toward the caller and toward every target."""

    def __init__(
        self, request: Request, room: Room, decision: Decision, plan: Plan, deliveries: Sequence[Delivery]
    ) -> None:
        self._request: Final = request
        self._room: Final = room
        self._decision: Final = decision
        self._plan: Final = plan
        self._deliveries: Final = deliveries
        self._arriving: Final = [[one.wanted for one in delivery.documents] for delivery in deliveries]

    def records(self) -> list[bytes]:
        """Success for what arrives, outcome 8 for the rest; toward a target that gave no answer outcome 12."""
        arriving = [wanted for one in self._arriving for wanted in one]
        missed = [*self._plan.missed, *(wanted for delivery in self._deliveries for wanted in delivery.missed)]
        errors = [*self._plan.errors, *(error for delivery in self._deliveries for error in delivery.errors)]
        found = [self._received(arriving, Outcome.SUCCESS)] if arriving else []
        if missed or not arriving:
            found.append(self._received(missed, Outcome.SERIOUS_FAILURE, codes_of(errors)))
        for (target, transaction), delivery, came in zip(
            self._plan.targets, self._deliveries, self._arriving, strict=True
        ):
            if came:
                found.append(self._sent(target, transaction, came, Outcome.SUCCESS))
            if delivery.missed and delivery.asked:
                outcome = Outcome.SERIOUS_FAILURE if delivery.reached else Outcome.MAJOR_FAILURE
                found.append(self._sent(target, transaction, delivery.missed, outcome, codes_of(delivery.errors)))
        return found

    def broken(self) -> None:
        """The transfer did not come to its end: what was said to arrive may not have."""
        reason = "the transfer broke before its end"
        arriving = [wanted for one in self._arriving for wanted in one]
        found = [self._received(arriving, Outcome.SERIOUS_FAILURE, reason)] if arriving else []
        found += [
            self._sent(target, transaction, [one.wanted for one in delivery.coming], Outcome.SERIOUS_FAILURE, reason)
            for (target, transaction), delivery in zip(self._plan.targets, self._deliveries, strict=True)
            if delivery.coming
        ]
        if found:
            try:
                self._room.store.record_alone(found)
            except StoreUnavailable as error:
                _log.error("%s audit records of a broken transfer could not be written: %s", len(found), error)

    def _received(self, wanted: Sequence[Wanted], outcome: Outcome, reason: str | None = None) -> bytes:
        parties = self._room.records.received(self._request)
        return self._record((parties, self._request.transaction), wanted, outcome, reason, self._decision.rule)

    def _sent(
        self,
        target: Target,
        transaction: Transaction,
        wanted: Sequence[Wanted],
        outcome: Outcome,
        reason: str | None = None,
    ) -> bytes:
        return self._record((self._room.records.sent(target.url), transaction), wanted, outcome, reason)

    def _record(
        self,
        between: tuple[Parties, Transaction],
        wanted: Sequence[Wanted],
        outcome: Outcome,
        reason: str | None,
        rule: str | None = None,
    ) -> bytes:
        parties, transaction = between
        documents = dict.fromkeys(_reference(one.request) for one in wanted)
        return self._room.records.retrieved(
            parties,
            transaction=transaction,
            documents=list(documents) or [DocumentReference(UNKNOWN)],
            outcome=outcome,
            reason=reason,
            decision=rule,
        )


def _reference(request: DocumentRequest) -> DocumentReference:
    return DocumentReference(request.document_unique_id, normalise_oid(request.repository_unique_id), request.home)
