"""A listener from its start to its end, whatever it accepts."""

import asyncio

import pytest

from wire import reloading
from wire.accepting import accept_until


def run(accept, *, tls=None):
    """What happened, in order; ``stop`` is set when the certificates were looked at three times, else at once."""
    happened, looks = [], []

    async def drain():
        happened.append("drained")

    async def main():
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def looked():
            looks.append(1)
            if len(looks) == 3:
                loop.call_soon_threadsafe(stop.set)

        def started():
            happened.append("started")
            if not tls:
                loop.call_later(0.02, stop.set)

        await accept_until(stop, accept(happened), drain=drain, tls=looked if tls else None, started=started)

    try:
        asyncio.run(asyncio.wait_for(main(), 20))
    finally:
        run.happened, run.looks = happened, looks


async def for_ever(happened):
    try:
        await asyncio.Event().wait()
    finally:
        happened.append("accepting ended")


async def broken(_happened):
    raise OSError("the socket is gone")


def test_it_accepts_until_it_is_told_to_stop_and_drains_then():
    run(for_ever)
    assert run.happened == ["started", "accepting ended", "drained"]


def test_what_ends_it_otherwise_is_raised_after_the_drain():
    with pytest.raises(OSError, match="the socket is gone"):
        run(broken)
    assert run.happened == ["started", "drained"]


def test_certificates_are_looked_at_while_nobody_calls(monkeypatch):
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.02)
    run(for_ever, tls=True)
    assert len(run.looks) >= 3
