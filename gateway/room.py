"""What a gateway's transactions work with, joined by ``gateway.app``."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from gateway.communities import Communities
from gateway.fan_out import FanOut
from gateway.patients import PatientMap
from gateway.records import Records
from gateway.settings import GatewaySettings
from gateway.store.protocol import GatewayStore
from ihe.xua import Caller
from wire.client import SoapClient
from wire.spool import Spool

__all__ = ["Room"]


@dataclass(frozen=True, slots=True)
class Room:
    """``home`` is our own home community id, ``local`` calls the registry and the repositories of this community.

    ``granted`` gives the transactions that the settings list for a caller beyond what every trusted node may do;
    ``spool`` keeps documents that have arrived and cannot leave yet.
    """

    settings: GatewaySettings
    home: str
    store: GatewayStore
    records: Records
    local: SoapClient
    communities: Communities
    fan_out: FanOut
    patients: PatientMap
    granted: Callable[[Caller], Collection[str]]
    spool: Spool
