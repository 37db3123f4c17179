"""The life of a listener that accepts by itself: until it is told to stop, with certificates that stay fresh."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from wire.handshake import Tls
from wire.reloading import keep_fresh

__all__ = ["accept_until"]


async def accept_until(
    stop: asyncio.Event,
    accept: Coroutine[Any, Any, None],
    *,
    drain: Callable[[], Awaitable[None]],
    tls: Tls | None,
    started: Callable[[], None],
) -> None:
    """Run ``accept``, which has no end of its own, until ``stop``; then ``drain``. Raises what ``accept`` raises."""
    accepting = asyncio.create_task(accept)
    beside = {asyncio.create_task(stop.wait()), asyncio.create_task(keep_fresh(tls))}
    try:
        started()
        await asyncio.wait({accepting, *beside}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (accepting, *beside):
            task.cancel()
        await asyncio.wait({accepting, *beside})
        await drain()
    for task in (accepting, *beside):
        if not task.cancelled():
            task.result()
