"""The national identification number of Luxembourg, checked digit by digit.

13 digits: ``YYYYMMDD``, 3 sequence digits, a Luhn digit, a Verhoeff digit. Both check digits are computed over the
first 11 digits; month and day may be ``00`` where they are unknown.
11 digits (the former number): ``YYYYMMDD``, 2 order digits, a digit modulo 11.

What the two check digits promise together: each single wrong digit and each exchange of two different neighbours is
noticed, wherever among the 13 it happens. The Verhoeff digit sees to the first 11 and to the 11th with the 12th, the
exchange of the check digits themselves spoils both.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["MatriculeFault", "MatriculePolicy", "check_digits", "former_check_digit", "matricule_fault"]

_DIGITS: Final = re.compile(r"[0-9]+")
_LENGTH: Final = 13
_FORMER_LENGTH: Final = 11
_BASE: Final = 11

_FORMER_WEIGHTS: Final = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
_FORMER_LATER: Final = (12, 13)
"""Where a day ran out of numbers the check digit was ``(12 - r) mod 11``, later ``(13 - r) mod 11``."""

_INVERSE: Final = (0, 4, 3, 2, 1, 5, 6, 7, 8, 9)
_PERMUTATION: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _dihedral(a: int, b: int) -> int:
    """The product of two elements of the dihedral group of ten, numbered as Verhoeff did."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


class MatriculeFault(StrEnum):
    """Which rule a number breaks; the text may be shown to a sender, no number stands in it."""

    NOT_DIGITS = "it must consist of digits"
    LENGTH = "it must have 13 digits"
    DATE = "digits 1 to 8 are no date YYYYMMDD (month and day may be 00)"
    LUHN = "digit 12 is not the Luhn digit of digits 1 to 11"
    VERHOEFF = "digit 13 is not the Verhoeff digit of digits 1 to 11"
    FORMER = "it is a former number of 11 digits; send the one of 13 digits"
    FORMER_CHECK = "it has 11 digits and digit 11 is not its check digit; send the number of 13 digits"


def check_digits(base: str) -> str:
    """The Luhn and the Verhoeff digit of the first 11 digits."""
    return f"{_luhn(base)}{_verhoeff(base)}"


def _luhn(base: str) -> int:
    total = 0
    for place, digit in enumerate(map(int, reversed(base))):
        doubled = digit * 2 if place % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return -total % 10


def _verhoeff(base: str) -> int:
    state = 0
    for place, digit in enumerate(map(int, reversed(base)), 1):
        permuted = digit
        for _ in range(place % 8):  # the permutation has period 8
            permuted = _PERMUTATION[permuted]
        state = _dihedral(state, permuted)
    return _INVERSE[state]


def former_check_digit(base: str) -> int | None:
    """The 11th digit to the first 10 of a former number; ``None`` where none was ever issued."""
    rest = _former_rest(base)
    return None if rest == 1 else -rest % 11


def _former_rest(base: str) -> int:
    return sum(weight * int(digit) for weight, digit in zip(_FORMER_WEIGHTS, base, strict=True)) % 11


def matricule_fault(number: str) -> MatriculeFault | None:
    """The first rule ``number`` breaks, ``None`` for a right number of 13 digits.

    A right former number is a fault too (FORMER): new data carries the 13 digits.
    """
    if _DIGITS.fullmatch(number) is None:
        return MatriculeFault.NOT_DIGITS
    if len(number) == _FORMER_LENGTH:
        return _former_fault(number)
    if len(number) != _LENGTH:
        return MatriculeFault.LENGTH
    if not _is_date(number):
        return MatriculeFault.DATE
    expected = check_digits(number[:_BASE])
    if number[_BASE] != expected[0]:
        return MatriculeFault.LUHN
    return None if number[-1] == expected[1] else MatriculeFault.VERHOEFF


def _former_fault(number: str) -> MatriculeFault:
    if not _is_date(number):
        return MatriculeFault.DATE
    rest = _former_rest(number[:-1])
    usual = former_check_digit(number[:-1])
    allowed = {usual, *((later - rest) % 11 for later in _FORMER_LATER)}
    return MatriculeFault.FORMER if int(number[-1]) in allowed else MatriculeFault.FORMER_CHECK


def _is_date(number: str) -> bool:
    year, month, day = int(number[:4]), int(number[4:6]), int(number[6:8])
    if year == 0 or month > 12:
        return False
    return day <= (monthrange(year, month)[1] if month else 31)


@dataclass(frozen=True, slots=True)
class MatriculePolicy:
    """Whose ids are matricules (OIDs of ``authorities``), and whether a wrong one is refused or only recorded."""

    authorities: frozenset[str] = frozenset()
    strict: bool = True

    def fault(self, identifier: str, authority: str) -> MatriculeFault | None:
        """What is wrong with an id of this authority; ``None`` when nothing, or when it is no matricule."""
        return matricule_fault(identifier) if authority in self.authorities else None
