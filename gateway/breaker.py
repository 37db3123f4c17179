"""A circuit breaker: whoever failed several times in a row is left alone for a while, then tried by one call.

Closed   calls go through; ``failures`` in a row open it
Open     no call goes through until ``pause_s`` have passed
Half     then one call is let through at a time: its success closes the breaker, its failure opens it again
"""

import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Breaker", "Open"]


class Open(Exception):  # noqa: N818 - says what happened
    """The community failed too often of late and is not asked now."""


class Breaker:
    """Of one community, for all threads of a process; ``clock`` gives seconds."""

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float]) -> None:
        self._most: Final = failures
        self._pause_s: Final = pause_s
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._failed = 0
        self._opened_at: float | None = None
        self._trying = False

    def enter(self) -> bool:
        """Before a call; whether it is the one that tries while the breaker is open. Raises Open."""
        with self._lock:
            if self._opened_at is None:
                return False
            if self._trying or self._clock() < self._opened_at + self._pause_s:
                raise Open(f"not asked: it failed {self._failed} times in a row")
            self._trying = True
            return True

    def succeeded(self) -> bool:
        """A call was answered; whether this closed the breaker."""
        with self._lock:
            was_open = self._opened_at is not None
            self._failed, self._opened_at, self._trying = 0, None, False
            return was_open

    def failed(self, *, trying: bool) -> bool:
        """A call was not answered as it should have been; whether this opened the breaker."""
        with self._lock:
            was_open = self._opened_at is not None
            self._failed += 1
            # Calls that were under way when it opened do not prolong the pause, nor do they end the one that tries.
            # One of them may have closed it meanwhile: then the one that tried fails as any other.
            again = trying and was_open
            if again or (not was_open and self._failed >= self._most):
                self._opened_at = self._clock()
            if trying:
                self._trying = False
            return self._opened_at is not None and not was_open

    def left(self, *, trying: bool) -> None:
        """A call was given up by its caller: nothing is known."""
        with self._lock:
            if trying:
                self._trying = False
