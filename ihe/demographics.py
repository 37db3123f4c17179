"""When are two people's particulars the same? Names folded, births by the day; nothing phonetic, nothing guessed.

Folding: case, accents and the marks between parts of a name do not count: ``Müller-Lüdenscheidt``, ``MULLER
LUDENSCHEIDT`` and ``müller  lüdenscheidt`` are one name. ``Mueller`` is another: which of two spellings is meant cannot
be told from a name. Letters that Unicode takes for letters of their own (ø, ł, đ, ß, æ …) are folded to those they are
written with where they are missing.
"""

import unicodedata
from typing import Final

__all__ = ["birth_day", "births_agree", "fold", "name_and_birth"]

_LETTERS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŋ": "n", "ŧ": "t"}
)
_DAY: Final = 8


def fold(name: str) -> str:
    """A name for comparison: small letters and digits, one blank between its parts; may be empty."""
    apart = unicodedata.normalize("NFKD", name.casefold()).casefold().translate(_LETTERS)
    # An apostrophe joins (O'Hara is OHARA), every other mark parts.
    plain = (one for one in apart if not unicodedata.combining(one) and one not in "'’ʼ`´")
    return " ".join("".join(one if one.isalnum() else " " for one in plain).split())


def birth_day(time: str | None) -> str | None:
    """The eight digits of the day of an HL7 TS; ``None`` where it is less precise, or no time at all."""
    digits = (time or "")[:_DAY]
    return digits if len(digits) == _DAY and digits.isascii() and digits.isdigit() else None


def births_agree(one: str, other: str) -> bool:
    """Two births (HL7 TS) as far as both are precise, at most to the day."""
    digits = min(len(one), len(other), _DAY)
    return one[:digits] == other[:digits]


def name_and_birth(family: str | None, given: str | None, birth: str | None) -> str | None:
    """What a person is found by: folded family name, folded given name, day of birth; ``None`` without all three."""
    names, day = (fold(family or ""), fold(given or "")), birth_day(birth)
    return "|".join((*names, day)) if all(names) and day is not None else None
