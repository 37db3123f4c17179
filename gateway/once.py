"""What several threads ask at the same moment is asked once, and all of them get what it gave."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["OnceAtATime"]

T = TypeVar("T")


class OnceAtATime(Generic[T]):
    """For one kind of question; nothing is kept once it is answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Hashable, Future[T]] = {}

    def ask(self, key: Hashable, work: Callable[[], T], deadline: float) -> T:
        """``work``, or what another thread's gives that began before it for this ``key``.

        Raises what that raised; TimeoutError when it is not there by ``deadline`` (``time.monotonic``).
        """
        with self._lock:
            under_way = self._asked.get(key)
            if under_way is None:
                mine: Future[T] = Future()
                self._asked[key] = mine
        if under_way is not None:
            return under_way.result(max(deadline - time.monotonic(), 0))
        try:
            mine.set_result(work())
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._asked[key]
        return mine.result()
