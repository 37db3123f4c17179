"""The Document Registry as the wire sees it: which transaction is answered by whom.

Each transaction is a row here and a module of its own; what they share is in ``registry.asked``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ihe import ebrs
from ihe import vocabulary as v
from ihe.errors import ErrorCode, FaultCode, RegistryError, Rejected, SoapFault
from ihe.transactions import ITI_18, ITI_42, ITI_51, ITI_57, ITI_61, ITI_62, ITI_92, Transaction
from registry import iti62_remove_metadata as iti62
from registry import queries, submissions
from registry.asked import Asked, QueryAsked, RemovalAsked, SubmissionAsked
from registry.desk import Desk
from registry.store.protocol import StoreUnavailable
from wire.messages import Handler, Reply, Request, StagedPart

__all__ = ["RegistryActor"]

_QUERY_ANSWER = f"{{{v.QUERY}}}AdhocQueryResponse"


@dataclass(frozen=True, slots=True)
class RegistryActor(Desk):
    """Everything a worker needs to answer the transactions of a registry."""

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """The transactions answered at this address; of several with one body root the plainest stands first."""
        return {
            ITI_42: self.submit,
            ITI_57: self.submit,
            ITI_61: self.submit,
            ITI_92: self.submit,
            ITI_62: self.remove,
            ITI_18: self.query,
            ITI_51: self.query,
        }

    def stage(self, request_id: str, wanted: int | None) -> StagedPart:
        """Refuse: no transaction of a registry carries documents."""
        del request_id, wanted
        raise SoapFault(FaultCode.SENDER, "a registry takes metadata only; send documents to a repository (ITI-41)")

    def submit(self, request: Request) -> Reply:
        """ITI-42 and its like."""
        return submissions.answer(self, request)

    def remove(self, request: Request) -> Reply:
        """ITI-62."""
        return iti62.answer(self, request)

    def query(self, request: Request) -> Reply:
        """ITI-18 and its like."""
        return queries.answer(self, request)

    def failure(self, request: Request, error: Exception) -> Reply:
        """Answer when a handler failed by our own defect: XDSRegistryError with the request id, audited."""
        code, text = ErrorCode.REGISTRY_ERROR, f"internal error, request {request.request_id}; nothing was changed"
        is_query = request.transaction.response_root == _QUERY_ANSWER
        kind = QueryAsked if is_query else RemovalAsked if request.transaction is ITI_62 else SubmissionAsked
        asked: Asked = kind(self, request)
        errors = asked.refused(error if isinstance(error, StoreUnavailable) else Rejected((RegistryError(code, text),)))
        if is_query:
            return Reply([queries.refusal(errors)])
        return Reply([ebrs.registry_response(v.FAILURE, errors)])
