"""The Initiating Gateway as the wire sees it: what consumers of this community ask of all others."""

from collections.abc import Mapping
from typing import Final

from gateway import iti18_registry_stored_query as iti18
from gateway import iti43_retrieve_document_set as iti43
from gateway.failing import failed
from gateway.room import Room
from ihe.errors import FaultCode, SoapFault
from ihe.transactions import ITI_18, ITI_43, Transaction
from wire.messages import Handler, Reply, Request, StagedPart

__all__ = ["InitiatingGateway"]


class InitiatingGateway:
    """``wire.messages.Actor`` at ``/initiating``."""

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self._handlers: Final[Mapping[Transaction, Handler]] = {
            ITI_43: lambda request: iti43.answer(room, request),
            ITI_18: lambda request: iti18.answer(room, request),
        }

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """What is served here."""
        return self._handlers

    def stage(self, request_id: str, wanted: int | None) -> StagedPart:
        """Refuse: nothing that is sent to a gateway carries documents."""
        del request_id, wanted
        raise SoapFault(FaultCode.SENDER, "no transaction of this address carries documents")

    def failure(self, request: Request, error: Exception) -> Reply:
        """Answer when a handler failed by our own defect, with the request id, audited."""
        return failed(self._room, request, error)
