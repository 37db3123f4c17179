"""A document store whose operations fail in the ways real ones do: by a script, or by dice with a seed.

Each fault is one of ``Fault``; ``FAULTS`` says which of them an operation can have. What is raised is what the real
stores raise, so whoever calls cannot tell it from the real thing. Thread safe.
"""

import random
import threading
import time
from collections import Counter
from enum import StrEnum

from repository.store.protocol import StoreUnavailable

__all__ = ["FAULTS", "Dice", "Fault", "FaultyStore", "Script"]

PER_FAULT_BYTES = 2**20
"""Dice are thrown once for so many bytes written, not for each block: a store is asked once for each part."""
ARRIVES_AFTER = 20
"""Operations of the store after which a deed that was late is done."""


class Fault(StrEnum):
    """What goes wrong.

    TIMEOUT     no answer, and nothing was done
    UNANSWERED  no answer, but the deed is done
    LATE        no answer; the deed is done later, after whoever asked for it has given up and cleaned up
    BUSY        refused (503), nothing was done
    FULL        refused for want of room, nothing was done
    TRUNCATED   a reading ends early as if that were all
    BROKEN      a reading or a listing breaks off in the middle
    SLOW        the deed is done and answered, late
    """

    TIMEOUT = "timeout"
    UNANSWERED = "unanswered"
    LATE = "late"
    BUSY = "busy"
    FULL = "full"
    TRUNCATED = "truncated"
    BROKEN = "broken"
    SLOW = "slow"


_ALWAYS = (Fault.TIMEOUT, Fault.BUSY, Fault.SLOW)
FAULTS = {
    "begin": (*_ALWAYS, Fault.UNANSWERED, Fault.FULL),
    "write": (*_ALWAYS, Fault.UNANSWERED, Fault.FULL),
    "finish": (*_ALWAYS, Fault.UNANSWERED, Fault.LATE, Fault.FULL),
    "abort": (*_ALWAYS, Fault.UNANSWERED),
    "delete": (*_ALWAYS, Fault.UNANSWERED),
    "size": _ALWAYS,
    "open": (*_ALWAYS, Fault.TRUNCATED, Fault.BROKEN),
    "objects": (*_ALWAYS, Fault.BROKEN),
}
"""The faults that each operation can have."""

_SAID = {
    Fault.TIMEOUT: "document store: timed out",
    Fault.UNANSWERED: "document store: connection lost",
    Fault.LATE: "document store: timed out",
    Fault.BUSY: "document store: 503 SlowDown",
    Fault.BROKEN: "document store: connection lost",
    Fault.FULL: "no room left in the document store",
}


class Script:
    """One fault at one operation, ``times`` times after ``after`` calls that go well; None in between."""

    def __init__(self, operation, fault, *, times=1, after=0):
        assert fault in FAULTS[operation]
        self.operation, self.fault, self.times, self.after = operation, fault, times, after

    def __call__(self, operation):
        if operation != self.operation:
            return None
        if self.after:
            self.after -= 1
            return None
        if not self.times:
            return None
        self.times -= 1
        return self.fault


class Dice:
    """A fault in ``percent`` of a hundred operations, each of those it can have alike."""

    def __init__(self, seed, percent):
        self.percent = percent
        self._random = random.Random(seed)

    def __call__(self, operation):
        if self._random.random() * 100 >= self.percent:
            return None
        return self._random.choice(FAULTS[operation])


class FaultyStore:
    """``DocumentStore`` around another one. ``choose(operation)`` gives a fault or None; ``injected`` counts them.

    ``pause()`` is what a slow operation costs.
    """

    def __init__(self, target, choose=lambda _operation: None, *, pause=lambda: time.sleep(0.05)):
        self.choose = choose
        self.injected = Counter()
        self._target = target
        self._pause = pause
        self._lock = threading.Lock()
        self._late = []

    def fault(self, operation):
        """Throw the dice; raises what ends the operation before it began, waits where it is slow, or gives the fault."""
        with self._lock:
            fault = self.choose(operation)
            if fault is not None:
                self.injected[operation, fault] += 1
            due = [deed for left, deed in self._late if left <= 0]
            self._late = [(left - 1, deed) for left, deed in self._late if left > 0]
        for deed in due:
            deed()
        if fault is Fault.SLOW:
            self._pause()
            return None
        if fault in {Fault.TIMEOUT, Fault.BUSY, Fault.FULL}:
            raise failure(fault)
        return fault

    def done(self, fault):
        """The deed is done: raises if nobody hears of it."""
        if fault is not None:
            raise failure(fault)

    def later(self, deed):
        with self._lock:
            self._late.append((ARRIVES_AFTER, deed))

    def arrive(self):
        """All that was late arrives now."""
        with self._lock:
            due, self._late = self._late, []
        for _, deed in due:
            deed()

    # --------------------------------------------------------------------------------------------- operations

    def begin(self, key):
        fault = self.fault("begin")
        upload = _FaultyUpload(self, key, self._target)
        self.done(fault)
        return upload

    def open(self, key):
        fault = self.fault("open")
        blocks = list(self._target.open(key)) if fault is not None else self._target.open(key)
        if fault is None:
            yield from blocks
            return
        half = len(b"".join(blocks)) // 2
        yield b"".join(blocks)[:half]
        if fault is Fault.BROKEN:
            raise failure(fault)

    def size(self, key):
        self.fault("size")
        return self._target.size(key)

    def delete(self, key):
        fault = self.fault("delete")
        self._target.delete(key)
        self.done(fault)

    def objects(self):
        fault = self.fault("objects")
        found = list(self._target.objects())
        if fault is Fault.BROKEN:
            yield from found[: len(found) // 2]
            raise failure(fault)
        yield from found

    def __getattr__(self, name):
        return getattr(self._target, name)


class _FaultyUpload:
    def __init__(self, store, key, target):
        self._store, self._key, self._target = store, key, target
        self._upload = target.begin(key)
        self._blocks = []
        self._next_dice = 0

    def write(self, block):
        fault = None
        if self._next_dice <= 0:
            fault = self._store.fault("write")
            self._next_dice = PER_FAULT_BYTES
        self._next_dice -= len(block)
        self._upload.write(block)
        self._blocks.append(block)
        self._store.done(fault)

    def finish(self):
        fault = self._store.fault("finish")
        if fault is Fault.LATE:
            self._store.later(self._appear)
        else:
            self._upload.finish()
        self._store.done(fault)

    def _appear(self):
        """The object is there, whatever was deleted meanwhile."""
        self._upload.abort()
        upload = self._target.begin(self._key)
        for block in self._blocks:
            upload.write(block)
        upload.finish()

    def abort(self):
        fault = self._store.fault("abort")
        self._upload.abort()
        self._store.done(fault)


def failure(fault):
    return StoreUnavailable(_SAID[fault], full=fault is Fault.FULL)
