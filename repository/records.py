"""The audit records a repository writes, ready for its outbox (``atna.events`` says what they hold).

Received  ITI-41 (Import), ITI-43 (Export), ITI-86 (Patient Record)        Sent  ITI-42 (Export), ITI-18 (Query)
Alert     malware in a document
``reason`` is made of error codes alone. Times are the recorder's.
"""

from collections.abc import Sequence
from typing import Final, NotRequired, TypedDict, Unpack

from atna.events import documents_removed, provided, registered, retrieved, stored_query
from atna.message import Outcome
from atna.node_events import malware_found
from atna.participants import DocumentReference, Parties, Writer, calling, serving
from atna.recorder import Recorder
from ihe.xua import Caller
from repository.store.protocol import Origin
from wire.messages import Request

__all__ = ["Records", "origin_of"]


def origin_of(request: Request) -> Origin:
    """Who sent this request and where to."""
    return Origin(request.caller.address, request.caller.node, request.reply_to, request.address)


class Said(TypedDict):
    """What became of documents, and whose they are; ``decision`` is the rule of the access policy."""

    patient_id: str | None
    outcome: Outcome
    reason: NotRequired[str | None]
    decision: NotRequired[str | None]


class Records:
    """Records of one process. ``registry_url`` is whom ITI-42 and ITI-18 are sent to."""

    def __init__(self, recorder: Recorder, registry_url: str) -> None:
        self._recorder: Final = recorder
        self._registry_url: Final = registry_url

    def _received(self, origin: Origin) -> Parties:
        caller = Caller(origin.address, origin.node)
        return serving(caller, origin.endpoint, self._recorder.process_id, user_id=origin.reply_to)

    def _sent(self) -> Parties:
        user_id = f"{self._recorder.process_name}@{self._recorder.host}"
        return calling(self._registry_url, self._recorder.process_id, user_id=user_id, address=self._recorder.host)

    def provided(
        self,
        origin: Origin,
        *,
        patient_id: str | None,
        submission_set_id: str | None,
        outcome: Outcome,
        reason: str | None = None,
        decision: str | None = None,
    ) -> bytes:
        """ITI-41, received."""
        return self._recorder.record(
            provided(
                self._received(origin),
                patient_id=patient_id,
                submission_set_id=submission_set_id,
                outcome=outcome,
                reason=reason,
                decision=decision,
            )
        )

    def malware(self, origin: Origin, document: DocumentReference, malware: str) -> bytes:
        """A document of an ITI-41 was refused because of what the scanner calls ``malware``."""
        return self._recorder.record(malware_found(self._received(origin), document=document, malware=malware))

    def registered(
        self, *, patient_id: str | None, submission_set_id: str, outcome: Outcome, reason: str | None = None
    ) -> bytes:
        """ITI-42, sent."""
        return self._recorder.record(
            registered(
                self._sent(),
                patient_id=patient_id,
                submission_set_id=submission_set_id,
                outcome=outcome,
                reason=reason,
            )
        )

    def asked(
        self,
        *,
        query_id: str,
        request: bytes,
        patient_id: str | None,
        outcome: Outcome,
        reason: str | None = None,
    ) -> bytes:
        """ITI-18, sent."""
        return self._recorder.record(
            stored_query(
                self._sent(),
                query_id=query_id,
                request=request,
                patient_id=patient_id,
                outcome=outcome,
                reason=reason,
            )
        )

    def retrieved(self, origin: Origin, documents: Sequence[DocumentReference], **said: Unpack[Said]) -> bytes:
        """ITI-43, answered; ``documents`` share one outcome and one patient."""
        return self._recorder.record(retrieved(self._received(origin), documents=documents, **said))

    def removed(self, origin: Origin, documents: Sequence[DocumentReference], **said: Unpack[Said]) -> bytes:
        """ITI-86, answered; ``documents`` share one outcome and one patient."""
        return self._recorder.record(documents_removed(self._received(origin), documents=documents, **said))

    def removed_by_rule(
        self, documents: Sequence[DocumentReference], *, patient_id: str | None, rule: str, operator: str
    ) -> bytes:
        """What a retention rule made an end of, at the command of ``operator`` (an account of this host)."""
        host = self._recorder.host
        parties = Parties(Writer.RESPONDER, operator, host, "repository", host, self._recorder.process_id)
        return self._recorder.record(
            documents_removed(
                parties, documents=documents, outcome=Outcome.SUCCESS, patient_id=patient_id, retention=rule
            )
        )
