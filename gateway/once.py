"""What several threads ask at the same moment is asked once, and all of them get what it gave."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

__all__ = ["OnceAtATime"]

T = TypeVar("T")

EARLY_S: Final = 0.1
"""A call may give up this long before its deadline."""


@dataclass(frozen=True, slots=True)
class _UnderWay(Generic[T]):
    """``deadline`` is that of the thread that asks; ``told`` what it gets."""

    deadline: float
    told: Future[T] = field(default_factory=Future)

    def ran_out_of_time(self) -> bool:
        """Whether it failed, as far as can be seen, because whoever asked had no more time."""
        return self.told.done() and time.monotonic() >= self.deadline - EARLY_S


class OnceAtATime(Generic[T]):
    """For one kind of question; nothing is kept once it is answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Hashable, _UnderWay[T]] = {}

    def ask(self, key: Hashable, work: Callable[[], T], deadline: float) -> T:
        """``work``, or what another thread's gives that began before it for this ``key``.

        Raises what that raised; TimeoutError when it is not there by ``deadline`` (``time.monotonic``). Where the other
        thread failed with its time at an end, and here there is some left, ``work`` is done after all.
        """
        while True:
            with self._lock:
                under_way = self._asked.get(key)
                if under_way is None:
                    mine: _UnderWay[T] = _UnderWay(deadline)
                    self._asked[key] = mine
                    break
            try:
                return under_way.told.result(max(deadline - time.monotonic(), 0))
            except Exception:
                # Its failure is everybody's unless it was that of its deadline: theirs may be later.
                if deadline <= time.monotonic() or not under_way.ran_out_of_time():
                    raise
        return self._work(key, work, mine)

    def _work(self, key: Hashable, work: Callable[[], T], mine: _UnderWay[T]) -> T:
        try:
            result = work()
        except BaseException as error:
            self._ended(key)
            mine.told.set_exception(error)
            raise
        self._ended(key)
        mine.told.set_result(result)
        return result

    def _ended(self, key: Hashable) -> None:
        """Before those who wait are told: one of them may ask again."""
        with self._lock:
            del self._asked[key]
