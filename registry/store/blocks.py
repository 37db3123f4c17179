"""Long lists of values in statements, a block at a time."""

from collections.abc import Collection, Iterator
from typing import Any, Final

AT_ONCE: Final = 500
"""Values of one IN: both engines look up each of them in an index, and SQLite has a bound on parameters."""


def blocks(values: Collection[Any], at_once: int | None = None) -> Iterator[list[Any]]:
    """All values in order, so that locks come in one order for everybody; nothing for no value.

    ``at_once`` where a statement takes fewer than AT_ONCE.
    """
    most = AT_ONCE if at_once is None else at_once
    ordered = sorted(values)
    for at in range(0, len(ordered), most):
        yield ordered[at : at + most]
