"""Keeps a worker process to one processor, and moves it when others need that one more.

The threads of a Python process take turns. On several processors each turn wakes another one, and whoever gave the turn
away for the length of a system call gets it back only when the next thread lets go: with sixteen requests under way a
hundred changes of thread for each of them, and half of the throughput (docs/decisions/0024-one-processor.md). On
one processor a short call ends before anybody else has begun.

Work that does run beside the interpreter, block by block (hash, cipher, disk, network), says ``stay_free`` in its own
threads and may run anywhere.
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Load", "better", "keep_to_one", "stay_free"]

LOOK_S: Final = 2.0
WORTH_MOVING: Final = 0.25
"""A processor has to offer so much more of its time than ours before we move."""
IDLE: Final = 0.05
"""Who uses less of its processor than that stays where it is."""
_STAT: Final = Path("/proc/stat")
_TASKS: Final = Path("/proc/self/task")

_lock = threading.Lock()
_allowed: frozenset[int] = frozenset()
_free: set[int] = set()


@dataclass(frozen=True, slots=True)
class Load:
    """One look: seconds of work by processor since the machine started, and this process's own; ``at`` in seconds."""

    at: float
    busy: Mapping[int, float]
    own: float


def keep_to_one(place: int) -> bool:
    """From now on this process runs on one of the processors it may use; whether there is a choice.

    ``place`` counts the processes of one parent, so that they begin on different ones. Threads that run already are
    kept as well.
    """
    global _allowed  # noqa: PLW0603 - a fact of the process, as the affinity itself
    if not hasattr(os, "sched_setaffinity"):
        return False
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return False
    _allowed = frozenset(allowed)
    first = allowed[(place + os.getppid()) % len(allowed)]
    _move(first)
    threading.Thread(target=_watch, args=(first,), name="processor", daemon=True).start()
    return True


def stay_free() -> None:
    """Let the calling thread run on every processor that the process may use. Fit to initialise a pool's threads."""
    if _allowed:
        with _lock:
            _free.add(threading.get_native_id())
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _allowed)


def better(here: int, before: Load, now: Load) -> int | None:
    """The processor to move to, None to stay: the idlest, if it has clearly more to spare than others leave us here.

    >>> better(0, Load(0, {0: 0, 1: 0}, 0), Load(1, {0: 1.0, 1: 0.1}, 0.4))
    1
    """
    passed = now.at - before.at
    if passed <= 0 or here not in before.busy or here not in now.busy:
        return None
    share = {at: (used - before.busy[at]) / passed for at, used in now.busy.items() if at in before.busy}
    own = (now.own - before.own) / passed
    others = max(0.0, share.pop(here) - own)
    if own < IDLE or not share:
        return None
    idlest = min(share, key=lambda at: (share[at], at))
    return idlest if others - share[idlest] > WORTH_MOVING else None


def _watch(here: int) -> None:
    before = _look()
    while True:
        time.sleep(LOOK_S * random.uniform(0.5, 1.5))  # noqa: S311 - so that two do not move to the same one at once
        now = _look()
        found = better(here, before, now)
        here, before = here if found is None else found, now
        _move(here)


def _look() -> Load:
    """Fields of ``/proc/stat``: user, nice, system, idle, iowait, irq, softirq, steal; in ticks."""
    ticks, busy = os.sysconf("SC_CLK_TCK"), {}
    with contextlib.suppress(OSError, ValueError):
        for line in _STAT.read_text().splitlines():
            name, *fields = line.split()
            if not name.startswith("cpu"):
                break
            if name != "cpu" and int(name[3:]) in _allowed:
                user, nice, system, _idle, _wait, *interrupts = map(int, fields[:8])
                busy[int(name[3:])] = (user + nice + system + sum(interrupts)) / ticks
    return Load(time.monotonic(), busy, time.process_time())


def _move(to: int) -> None:
    """Every thread that did not ask to be free; one that was begun meanwhile is met by the next look."""
    with _lock:
        free = set(_free)
    for task in _TASKS.iterdir():
        if int(task.name) not in free:
            with contextlib.suppress(OSError):  # it has ended, or the processor is gone
                os.sched_setaffinity(int(task.name), {to})
