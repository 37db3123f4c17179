"""The communities of the settings: which has which home, and how it is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.settings import Community, GatewaySettings
from wire.client import SoapClient
from wire.handshake import HandshakeFailed
from wire.settings import TlsSettings

__all__ = ["Communities", "Open"]


class Open(Exception):  # noqa: N818 - says what happened
    """The community failed too often of late and is not asked now."""


class Communities:
    """One for all threads of a process."""

    def __init__(self, settings: GatewaySettings, tls: TlsSettings, handshake_failed: HandshakeFailed) -> None:
        self._all: Final = {community.home_community_id: community for community in settings.communities}
        self._clients: Final = {
            community.home_community_id: SoapClient(
                community.tls(tls),
                timeout_s=settings.deadline_of(community),
                handshake_failed=handshake_failed,
            )
            for community in settings.communities
        }

    def by_home(self, home: str) -> Community | None:
        """The community with this home, ``urn:oid:`` before it or not."""
        return self._all.get(f"urn:oid:{home.strip().removeprefix('urn:oid:')}")

    def all(self) -> tuple[Community, ...]:
        """In the order of the settings."""
        return tuple(self._all.values())

    def client(self, community: Community) -> SoapClient:
        """Calls to it, with its own certificate, key and ca where the settings name them."""
        return self._clients[community.home_community_id]

    @contextmanager
    def guard(self, community: Community) -> Iterator[None]:
        """Around each call; raises Open at once where calls to it are not worth trying."""
        del community
        yield

    def close(self) -> None:
        """Give all connections up."""
        for client in self._clients.values():
            client.close()
