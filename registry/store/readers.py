"""Where stored queries are asked: at the replica while there is one that answers, else at the primary.

A replica is behind by as much as its lag: nobody is promised to find at once what was just registered. When it fails in
any way (gone, restarting, a query cancelled by its recovery), the same query goes to the primary, and for ``PAUSE_S``
all others do too; then one of them tries the replica again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from atna.store.engine import DRIVER_ERRORS, Engine, is_unavailable
from atna.store.quick import Quick

__all__ = ["Readers", "Source"]

T = TypeVar("T")

PAUSE_S: Final = 5.0
FALLBACKS: Final = Counter("dossier_replica_failures", "Queries the replica failed and the primary answered")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One database to ask: through its engine, or the short way."""

    engine: Engine
    quick: Quick


class Readers:
    """Thread safe; ``clock`` gives seconds that only rise."""

    def __init__(
        self, primary: Engine, replica: Engine | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.primary: Final = Source(primary, Quick(primary))
        self._replica = None if replica is None or replica is primary else Source(replica, Quick(replica))
        self._clock = clock
        self._lock = threading.Lock()
        self._paused_until = float("-inf")

    def ask(self, work: Callable[[Source], T]) -> T:
        """What ``work`` finds. It may be run twice or thrice, so it changes nothing. Raises what the drivers raise."""
        replica = self._replica
        if replica is not None and self._may_try():
            try:
                found = work(replica)
            except DRIVER_ERRORS as error:
                self._pause(error)
            else:
                self._paused_until = float("-inf")
                return found
        try:
            return work(self.primary)
        except DRIVER_ERRORS as error:
            # A connection that died with its server takes the others of its pool with it: the next one is new.
            if not is_unavailable(error):
                raise
        return work(self.primary)

    def _may_try(self) -> bool:
        with self._lock:
            now = self._clock()
            if now < self._paused_until:
                return False
            if self._paused_until > float("-inf"):  # it failed last time: one tries, the others wait for what it finds
                self._paused_until = now + PAUSE_S
            return True

    def _pause(self, error: BaseException) -> None:
        FALLBACKS.inc()
        self._paused_until = self._clock() + PAUSE_S
        _log.warning("the replica does not answer, the primary does", error=type(error).__name__, pause_s=PAUSE_S)
