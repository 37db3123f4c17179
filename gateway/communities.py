"""The communities of the settings: which has which home, how it is called, and whether that is worth trying now."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge

from gateway.breaker import Breaker, Open
from gateway.settings import Community, GatewaySettings
from ihe.datatypes import normalise_oid_urn
from ihe.errors import FaultCode
from wire.client import NotSent, NotTried, OutcomeUnknown, PeerFault, SoapClient
from wire.handshake import HandshakeFailed
from wire.settings import TlsSettings

__all__ = ["Communities", "Open"]

CALLS: Final = Counter("dossier_community_calls", "Calls to the gateways of communities", ["community", "result"])
"""``result``: answered, fault (SOAP), failed (silent, late or unreadable), skipped.

Skipped is what was not tried, or not long enough to be told from failed: the breaker was open, we had no connection
left, or too little time.
"""

FAIR_SHARE: Final = 0.5
"""Of the time a community may take: who is late with less of it may have been in time with all of it."""
EARLY_S: Final = 0.05
"""A wait that was cut to what was left may end this long before that."""

OPEN: Final = Gauge(
    "dossier_community_open",
    "1 while a community is not asked because it failed too often",
    ["community"],
    multiprocess_mode="livemax",
)

_log = logging.getLogger(__name__)


class Communities:
    """One for all threads of a process; ``clock`` gives seconds."""

    def __init__(
        self,
        settings: GatewaySettings,
        tls: TlsSettings,
        handshake_failed: HandshakeFailed,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._all: Final = {community.home_community_id: community for community in settings.communities}
        tables = settings.own_tables()
        self._clients: Final = {
            community.home_community_id: SoapClient(
                community.tls(tls),
                timeout_s=settings.deadline_of(community),
                handshake_failed=handshake_failed,
                table=tables.get(community.home_community_id),
            )
            for community in settings.communities
        }
        self._seconds: Final = {one.home_community_id: settings.deadline_of(one) for one in settings.communities}
        self._breakers: Final = {
            home: Breaker(settings.breaker_failures, settings.breaker_pause_s, clock) for home in self._all
        }
        for home in self._all:
            OPEN.labels(home).set(0)

    def by_home(self, home: str) -> Community | None:
        """The community with this home, ``urn:oid:`` before it or not."""
        return self._all.get(normalise_oid_urn(home))

    def all(self) -> tuple[Community, ...]:
        """In the order of the settings."""
        return tuple(self._all.values())

    def client(self, community: Community) -> SoapClient:
        """Calls to it, with its own certificate, key and ca where the settings name them."""
        return self._clients[community.home_community_id]

    def certificates(self) -> tuple[Callable[[], object], ...]:
        """What looks at the files that single communities name, one for each of these communities."""
        looks = (client.certificates for client in self._clients.values())
        return tuple(look for look in looks if look is not None)

    @contextmanager
    def guard(self, community: Community, deadline: float) -> Iterator[None]:
        """Around each call that ends at ``deadline`` (``time.monotonic``), up to the point where its answer was judged.

        Raises Open at once when it is not worth it.
        Any exception within is a failure of the community, but for a SOAP fault with the code Sender: that is an
        answer. NotTried is our own shortage and says nothing of it, nor does an answer that is late after we used up
        most of its time before we asked, nor what is no ``Exception`` (a generator that is closed).
        """
        home = community.home_community_id
        breaker = self._breakers[home]
        short = deadline - time.monotonic() < FAIR_SHARE * self._seconds[home]
        try:
            trying = breaker.enter()
        except Open:
            CALLS.labels(home, "skipped").inc()
            raise
        try:
            yield
        except PeerFault as error:
            CALLS.labels(home, "fault").inc()
            if error.fault.code is FaultCode.SENDER:
                self._succeeded(home)
            else:
                self._failed(home, trying=trying)
            raise
        except NotTried:
            CALLS.labels(home, "skipped").inc()
            breaker.left(trying=trying)
            raise
        except Exception as error:
            late = isinstance(error, NotSent | OutcomeUnknown) and time.monotonic() >= deadline - EARLY_S
            if short and late:
                CALLS.labels(home, "skipped").inc()
                breaker.left(trying=trying)
            else:
                CALLS.labels(home, "failed").inc()
                self._failed(home, trying=trying)
            raise
        except BaseException:
            breaker.left(trying=trying)
            raise
        CALLS.labels(home, "answered").inc()
        self._succeeded(home)

    def _succeeded(self, home: str) -> None:
        if self._breakers[home].succeeded():
            OPEN.labels(home).set(0)
            _log.warning("community %s answers again", home)

    def _failed(self, home: str, *, trying: bool) -> None:
        if self._breakers[home].failed(trying=trying):
            OPEN.labels(home).set(1)
            _log.warning("community %s failed too often and is not asked for a while", home)

    def close(self) -> None:
        """Give all connections up."""
        for client in self._clients.values():
            client.close()
