"""What is made of certificate files is made anew when they change: nobody has to restart a service for it.

A set that cannot be used (a key of another certificate, half a file) changes nothing: the last good one stays in use,
the log says why once the files have come to rest, and ``dossier_certificates_stale`` is 1 until they are right again.
Connections keep what they began with.
"""

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

from prometheus_client import Gauge

from wire.certificate_expiry import EXPIRY, expiries, soon
from wire.settings import TlsSettings
from wire.tls import client_context, server_context

__all__ = ["Reloading", "ReloadingClientContext", "keep_fresh", "listener_context"]

T = TypeVar("T")

LOOK_EVERY_S: Final = 2.0
REMIND_EVERY_S: Final = 86_400.0

_log = logging.getLogger(__name__)

STALE: Final = Gauge(
    "dossier_certificates_stale",
    "1 while certificate files that were replaced cannot be used",
    ["tls"],
    multiprocess_mode="livemax",
)

_Signature = tuple[tuple[int, int, int, int] | None, ...]


class Reloading(Generic[T]):
    """``make(tls)``, made again when a file of ``tls`` has changed; calling it gives the present one, from any thread.

    ``table`` is where the settings stand (``registry.tls``): it names them in log and metrics; ``None`` for a command
    that ends soon, which publishes no metrics. Raises TlsFault when the files cannot be used at first, and never later.
    ``clock`` gives seconds.
    """

    def __init__(
        self,
        tls: TlsSettings,
        make: Callable[[TlsSettings], T],
        table: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tls = tls
        self._make = make
        self._table = table
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = _signature(tls)
        self._failed: _Signature | None = None
        self._told = False
        self._made = make(tls)
        self._next_look = clock() + LOOK_EVERY_S
        self._next_reminder = 0.0
        self._publish()

    def __call__(self) -> T:
        """The present one; looks at the files when that was not done for two seconds, in one thread at a time."""
        if self._clock() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._next_look = self._clock() + LOOK_EVERY_S
                self._lock.release()
        return self._made

    def _look(self) -> None:
        found = _signature(self._tls)
        if found != self._seen:
            try:
                self._made = self._make(self._tls)
            except (OSError, ValueError) as fault:  # TlsFault is one; a listener goes on in any case
                self._refuse(found, fault)
            else:
                self._seen, self._failed, self._told = found, None, False
                _log.info("%s: certificates were replaced and are in use", self._name)
                self._publish()
        elif self._failed is not None:  # put back as they were
            self._failed, self._told = None, False
            self._publish()
        if self._clock() >= self._next_reminder:
            self._remind()

    def _refuse(self, found: _Signature, fault: Exception) -> None:
        """Files are replaced one after the other: what lies there is judged when it has not changed for a while."""
        if found == self._failed and not self._told:
            self._told = True
            _log.error("%s: replaced files cannot be used, the former stay in use: %s", self._name, fault)
            if self._table is not None:
                STALE.labels(self._table).set(1)
        elif found != self._failed:
            self._failed, self._told = found, False

    @property
    def _name(self) -> str:
        return self._table or "tls"

    def _publish(self) -> None:
        if self._table is None:
            return
        STALE.labels(self._table).set(0)
        for kind, moment in expiries(self._tls).items():
            EXPIRY.labels(self._table, kind).set(moment.timestamp())
        self._remind()

    def _remind(self) -> None:
        """One line a day for each file that ends soon."""
        self._next_reminder = self._clock() + REMIND_EVERY_S
        if self._table is not None:
            for line in soon(self._tls):
                _log.warning("%s: %s", self._table, line)


def _signature(tls: TlsSettings) -> _Signature:
    return tuple(_state(path) for path in (tls.certificate, tls.key, tls.ca, tls.revocation_list))


def _state(path: Path | None) -> tuple[int, int, int, int] | None:
    """What changes when a file is written, replaced, or its mode is; ``None`` where there is none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class ReloadingClientContext(ssl.SSLContext):
    """The context of a client that lives long: each new connection is opened with the certificates of that moment.

    ``table`` as in ``Reloading``: for files that no listener tells of. ``current`` looks at them, too.
    """

    current: Callable[[], ssl.SSLContext]

    def __new__(cls, tls: TlsSettings, table: str | None = None) -> Self:
        """A context that stands for another one and holds nothing itself."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self.current = Reloading(tls, client_context, table)
        return self

    def wrap_socket(self, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        """As the context of the moment does."""
        return self.current().wrap_socket(*arguments, **more)

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """As the context of the moment does."""
        return self.current().wrap_bio(*arguments, **more)


def listener_context(tls: TlsSettings, table: str) -> Reloading[ssl.SSLContext] | None:
    """What a listener asks for each new connection; ``None`` where it has no certificate. Raises TlsFault."""
    return Reloading(tls, server_context, table) if tls.enabled else None


async def keep_fresh(*sources: Callable[[], object] | None) -> None:
    """Look at the files until cancelled, beside the event loop and also while nobody calls."""
    while True:
        await asyncio.sleep(LOOK_EVERY_S / 2)
        for source in sources:
            if source is not None:
                await asyncio.to_thread(source)
