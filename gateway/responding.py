"""The Responding Gateway as the wire sees it: what partners ask of this community."""

from collections.abc import Mapping
from typing import Final

from gateway import iti38_cross_gateway_query as iti38
from gateway import iti39_cross_gateway_retrieve as iti39
from gateway import iti55_cross_gateway_patient_discovery as iti55
from gateway import iti92_restricted_update_document_set as iti92
from gateway.failing import failed
from gateway.room import Room
from ihe.errors import FaultCode, SoapFault
from ihe.transactions import ITI_38, ITI_39, ITI_55, ITI_55_DEFERRED, ITI_92, Transaction
from wire.messages import Handler, Reply, Request, StagedPart

__all__ = ["RespondingGateway"]


class RespondingGateway:
    """``wire.messages.Actor`` at ``/responding``."""

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self._handlers: Final[Mapping[Transaction, Handler]] = {
            ITI_38: lambda request: iti38.answer(room, request),
            ITI_39: lambda request: iti39.answer(room, request),
            ITI_55: lambda request: iti55.answer(room, request),
            ITI_55_DEFERRED: lambda request: iti55.answer(room, request),
            ITI_92: lambda request: iti92.answer(room, request),
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
        if request.transaction in iti55.DISCOVERIES:
            return iti55.failed(self._room, request, error)
        return failed(self._room, request, error)
