"""Whether work grows with its input as it should: CPU of one thread at two sizes, compared within one run.

A ratio says the same on a slow machine and on a busy one; a bound in seconds does not.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

__all__ = ["growth"]

TIMES = 4
RUNS = 5
CHEAP_S = 0.005
"""What costs less than this counts as if it cost this: its ratios are noise."""


def growth(made: Callable[[int], Any], work: Callable[[Any], Any], size: int) -> float:
    """How many times the CPU of ``size`` an input four times as large takes: about 4 when linear, 16 when quadratic.

    ``made`` builds the input, outside the time; the least of some runs counts, without the garbage collector.
    """
    small, large = (_least(work, made(size * times)) for times in (1, TIMES))
    return large / max(small, CHEAP_S)


def _least(work: Callable[[Any], Any], given: Any) -> float:
    spent = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(RUNS):
            began = time.thread_time()
            work(given)
            spent.append(time.thread_time() - began)
    finally:
        if collecting:
            gc.enable()
    return min(spent)
