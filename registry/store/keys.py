"""Row keys made by the application, so that one submission is written without asking the database for numbers."""

import random
import threading
import time

_COUNTER_BITS = 21


class KeyMaker:
    """63-bit integers, rising with time: 42 bits of milliseconds, 21 bits that start at random and count up.

    Two processes can make the same key with a chance of about one in a million per millisecond they share; the primary
    key refuses the second, and the work is run again. Thread safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> int:
        with self._lock:
            start = random.getrandbits(_COUNTER_BITS - 1)
            fresh = (time.time_ns() // 1_000_000 << _COUNTER_BITS) | start
            self._last = max(fresh, self._last + 1)
            return self._last
