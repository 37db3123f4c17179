"""Random numbers for identifiers, drawn from the system many at once.

Each draw is a call of the system for which a thread gives its turn away, and a message may need twenty.
"""

import os
from typing import Final

__all__ = ["random_hex"]

_AT_ONCE: Final = 256
_BYTES: Final = 16
_DIGITS: Final = 2 * _BYTES
_drawn: Final[list[str]] = []
"""For the next who ask, each taken once; a child process draws its own."""
os.register_at_fork(after_in_child=_drawn.clear)


def random_hex() -> str:
    """128 random bits as 32 hexadecimal digits, from the source that keys are made of. Thread safe."""
    try:
        return _drawn.pop()
    except IndexError:
        digits = os.urandom(_AT_ONCE * _BYTES).hex()
        first, *further = (digits[at : at + _DIGITS] for at in range(0, len(digits), _DIGITS))
        _drawn.extend(further)
        return first
