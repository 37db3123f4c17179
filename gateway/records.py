"""The audit records a gateway writes, ready for its outbox (``atna.events`` says what they hold).

Towards the consumer the initiating gateway is registry and repository (ITI-18, 43), towards a partner the responding
one is (ITI-38, 39, 55, 92): ``received``. Towards partners and the actors of this community it is a consumer: ``sent``.
``reason`` is made of error codes alone. Times are the recorder's.
"""

from collections.abc import Sequence
from typing import Final, NotRequired, TypedDict, Unpack

from atna.events import patients_found, registered, retrieved, stored_query
from atna.message import Outcome
from atna.participants import DocumentReference, Parties, calling, serving
from atna.recorder import Recorder
from ihe.transactions import Transaction
from wire.messages import Request

__all__ = ["Queried", "Records", "Retrieved", "Updated"]


class Queried(TypedDict):
    """A question as it was put: ``request`` is the AdhocQueryRequest or the queryByParameter, as UTF-8."""

    transaction: Transaction
    query_id: str
    request: bytes
    outcome: Outcome
    reason: NotRequired[str | None]
    decision: NotRequired[str | None]
    home_community_id: NotRequired[str | None]


class Retrieved(TypedDict):
    """What documents with one outcome came to."""

    transaction: Transaction
    documents: Sequence[DocumentReference]
    outcome: Outcome
    patient_id: NotRequired[str | None]
    reason: NotRequired[str | None]
    decision: NotRequired[str | None]


class Updated(TypedDict):
    """A submission that changes what is registered."""

    transaction: Transaction
    patient_id: str | None
    submission_set_id: str | None
    outcome: Outcome
    reason: NotRequired[str | None]
    decision: NotRequired[str | None]
    home_community_id: NotRequired[str | None]


class Records:
    """Records of one process; each method gives one record."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder

    def received(self, request: Request) -> Parties:
        """The parties of a request that we answer."""
        return serving(request.caller, request.address, self._recorder.process_id, user_id=request.reply_to)

    def sent(self, url: str) -> Parties:
        """The parties of a request that we send to ``url``."""
        user_id = f"{self._recorder.process_name}@{self._recorder.host}"
        return calling(url, self._recorder.process_id, user_id=user_id, address=self._recorder.host)

    def queried(self, parties: Parties, *, patient_id: str | None, **asked: Unpack[Queried]) -> bytes:
        """ITI-18 or 38, about one patient or none."""
        return self._recorder.record(stored_query(parties, patient_id=patient_id, **asked))

    def updated(self, parties: Parties, **what: Unpack[Updated]) -> bytes:
        """ITI-92."""
        return self._recorder.record(registered(parties, **what))

    def discovered(self, parties: Parties, *, patient_ids: Sequence[str], **asked: Unpack[Queried]) -> bytes:
        """ITI-47 or 55 with the patients that were returned."""
        return self._recorder.record(patients_found(parties, patient_ids=patient_ids, **asked))

    def retrieved(self, parties: Parties, **what: Unpack[Retrieved]) -> bytes:
        """ITI-39 or 43; a mixed answer takes a record for the documents that came and one for the others."""
        return self._recorder.record(retrieved(parties, **what))
