"""xs:duration and seconds (XML Schema part 2: 3.2.6), as far as a time to live needs them."""

import re
from typing import Final

__all__ = ["parse_duration", "print_duration"]

_DURATION: Final = re.compile(
    r"P(?=[0-9T])(?:([0-9]{1,6})Y)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)S)?)?"
)
_SECONDS: Final = (365 * 86_400, 30 * 86_400, 86_400, 3_600, 60, 1)
"""A year and a month are as long as they commonly are: nobody keeps a correlation to the minute of a leap year."""


def parse_duration(text: str) -> float | None:
    """Seconds; ``None`` for what is no duration, and for one below zero."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        return None
    return sum(float(part) * worth for part, worth in zip(found.groups("0"), _SECONDS, strict=True))


def print_duration(seconds: float) -> str:
    """Whole seconds, as hours, minutes and seconds do not matter to who reads it."""
    return f"PT{int(seconds)}S"
