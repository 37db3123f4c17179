"""Runs the listeners of one process until it is told to stop: from a ``threading.Event`` to an event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

__all__ = ["Listener", "run_listeners"]

Listener = Callable[[asyncio.Event, Callable[[], None]], Awaitable[None]]
"""Serves until the event is set, then drains and returns; calls the second argument once it takes requests."""


def run_listeners(listeners: Sequence[Listener], started: Callable[[], None], stop: threading.Event) -> None:
    """Run all listeners in one event loop; ``started`` is called when the last of them takes requests.

    The loop is uvloop where that is installed. Returns when every listener has drained; the first listener that fails
    ends the others and its exception is raised.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(listeners, started, stop))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(listeners: Sequence[Listener], started: Callable[[], None], stop: threading.Event) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    over = threading.Event()
    waiting = set(range(len(listeners)))

    def wait_for_stop() -> None:
        while not stop.wait(0.5):
            if over.is_set():
                return
        loop.call_soon_threadsafe(ending.set)

    def one_started(number: int) -> None:
        waiting.discard(number)
        if not waiting:
            started()

    watcher = asyncio.create_task(asyncio.to_thread(wait_for_stop))
    try:
        async with asyncio.TaskGroup() as group:
            for number, listener in enumerate(listeners):
                group.create_task(_listen(listener, ending, partial(one_started, number)))
    finally:
        over.set()
        await watcher


async def _listen(listener: Listener, ending: asyncio.Event, started: Callable[[], None]) -> None:
    await listener(ending, started)
