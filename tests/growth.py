"""Whether work grows with its input as it should: CPU of one thread at two sizes, compared within one run.

A ratio says the same on a slow machine and on a busy one; a bound in seconds does not.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

__all__ = ["LINEAR", "growth"]

LINEAR = 40
"""Below this the work is called linear, see ``growth``."""
TIMES = 8
RUNS = 5
CHEAP_S = 0.005
"""What costs less than this counts as if it cost this: its ratios are noise."""


def growth(made: Callable[[int], Any], work: Callable[[Any], Any], size: int) -> float:
    """How many times the CPU of ``size`` an input eight times as large takes: 64 when quadratic.

    About 8 when linear, up to 30 where the large one is too large for the processor's cache and the small one is not.

    ``made`` builds the input, outside the time; the least of some runs counts, without the garbage collector. The sizes
    take turns, so that a neighbour who slows the machine for a while slows both.
    """
    given = made(size), made(size * TIMES)
    runs = [[_spent(work, one) for one in given] for _ in range(RUNS)]
    small, large = (min(spent) for spent in zip(*runs, strict=True))
    return large / max(small, CHEAP_S)


def _spent(work: Callable[[Any], Any], given: Any) -> float:
    collecting = gc.isenabled()
    gc.disable()
    try:
        began = time.thread_time()
        work(given)
        return time.thread_time() - began
    finally:
        if collecting:
            gc.enable()
