"""Several calls at once, each with a deadline of its own; nobody is waited for longer than that."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

__all__ = ["Call", "FanOut"]

T = TypeVar("T")

GRACE_S: Final = 0.25
"""For a call that ends at its deadline to say so itself, and for an answer that came in time to be read."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """``run`` ends at ``deadline`` (``time.monotonic``) by itself if it can; it raises nothing but our own defects."""

    run: Callable[[], T]
    deadline: float


class FanOut:
    """The threads of one process for this; at most ``threads`` calls run at once, the next ones wait their turn."""

    def __init__(self, threads: int) -> None:
        self._pool: Final = ThreadPoolExecutor(threads, thread_name_prefix="community")

    def ask(
        self, calls: Sequence[Call[T]], *, here: bool = False, discard: Callable[[T], None] = lambda _result: None
    ) -> list[T | None]:
        """What each call gave, in their order; ``None`` for one that was not ready a moment after its deadline.

        ``here``: the first runs in this thread, which then is held as long as it takes: for what is our own.
        ``discard`` is told what comes too late.
        """
        own = calls[:1] if here else ()
        others = calls[len(own) :]
        futures = [self._pool.submit(call.run) for call in others]
        waiting = list(futures)
        results: list[T | None] = []
        try:
            results += [call.run() for call in own]
            for call, future in zip(others, futures, strict=True):
                results.append(_result(future, call.deadline, discard))
                waiting.remove(future)
        except BaseException:  # a defect of ours
            for result in results:
                if result is not None:
                    discard(result)
            for future in waiting:
                _leave(future, discard)
            raise
        return results

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[T], deadline: float, discard: Callable[[T], None]) -> T | None:
    try:
        return future.result(max(deadline + GRACE_S - time.monotonic(), 0))
    except TimeoutError:
        if future.done() and not future.cancelled():
            return future.result()
        _leave(future, discard)
        return None


def _leave(future: Future[T], discard: Callable[[T], None]) -> None:
    if not future.cancel():
        future.add_done_callback(partial(_discarded, discard))


def _discarded(discard: Callable[[T], None], future: Future[T]) -> None:
    if not future.cancelled() and future.exception() is None:
        discard(future.result())
