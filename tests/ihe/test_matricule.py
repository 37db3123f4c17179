"""The matricule: known numbers, and what its two check digits promise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.matricule import MatriculeFault as Fault
from ihe.matricule import check_digits, former_check_digit, matricule_fault

BASES = st.text("0123456789", min_size=11, max_size=11)
FORMER_BASES = st.text("0123456789", min_size=10, max_size=10)


@pytest.mark.parametrize("number", ["1893120105732", "1975122412374"])
def test_a_right_number_has_no_fault(number):
    assert matricule_fault(number) is None


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        ("1998041799999", Fault.LUHN),  # a sample that is often copied; its digits should be 2 and 4
        ("1975122412384", Fault.LUHN),
        ("1975122412375", Fault.VERHOEFF),
        ("1893120105733", Fault.VERHOEFF),
        ("1975132412374", Fault.DATE),
        ("1975023012374", Fault.DATE),
        ("0000010112374", Fault.DATE),
        ("1975003212374", Fault.DATE),
        ("197512241237", Fault.LENGTH),
        ("19751224123740", Fault.LENGTH),
        ("", Fault.NOT_DIGITS),
        ("197512241237X", Fault.NOT_DIGITS),
        ("1975122412374\n", Fault.NOT_DIGITS),
        ("١٩٧٥١٢٢٤١٢٣٧٤", Fault.NOT_DIGITS),
        ("19751224330", Fault.FORMER),
        ("19800101126", Fault.FORMER),
        ("19800101127", Fault.FORMER),  # (12 - r) mod 11: a day that ran out of numbers
        ("19800101128", Fault.FORMER),  # (13 - r) mod 11
        ("19800101129", Fault.FORMER_CHECK),
        ("19801301126", Fault.DATE),
    ],
)
def test_a_wrong_number_breaks_the_rule_that_is_named(number, fault):
    assert matricule_fault(number) is fault


def test_month_and_day_may_be_unknown():
    for base in ("19750000123", "19751200123", "19750024123"):
        assert matricule_fault(base + check_digits(base)) is None


def test_the_check_digits_of_the_sample_would_be_others():
    assert check_digits("19980417999") == "24"


def test_no_fault_repeats_a_number():
    assert not any(any(part.isdigit() and len(part) > 2 for part in fault.split()) for fault in Fault)


@given(BASES, st.integers(0, 12), st.integers(1, 9))
def test_each_single_wrong_digit_is_noticed(base, place, step):
    """Of any 13 digits, whatever date they say: the two check digits alone see it."""
    number = base + check_digits(base)
    wrong = number[:place] + str((int(number[place]) + step) % 10) + number[place + 1 :]
    assert check_digits(wrong[:11]) != wrong[11:]
    assert matricule_fault(wrong) is not None


@given(BASES, st.integers(0, 11))
def test_each_exchange_of_different_neighbours_is_noticed(base, place):
    """Neighbours anywhere, the check digits included, 0 and 9 included, which Luhn alone would miss."""
    number = base + check_digits(base)
    wrong = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    if wrong != number:
        assert check_digits(wrong[:11]) != wrong[11:]
        assert matricule_fault(wrong) is not None


@given(BASES)
def test_the_verhoeff_digit_closes_the_number(base):
    """As its inventor defines it: with the digit at place 0 the state is 0. Computed here by his table."""
    d = ["0123456789", "1234067895", "2340178956", "3401289567", "4012395678"]
    d += ["5987604321", "6598710432", "7659821043", "8765932104", "9876543210"]
    p = ["0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258"]
    state = 0
    for place, digit in enumerate(reversed(base + check_digits(base)[1])):
        state = int(d[state][int(p[place % 8][int(digit)])])
    assert state == 0


@given(FORMER_BASES, st.integers(0, 10), st.integers(1, 9))
def test_a_wrong_digit_changes_the_usual_check_of_a_former_number(base, place, step):
    """Only the usual digit promises it: those of days that ran out are others."""
    check = former_check_digit(base)
    if check is None:
        return
    number = f"{base}{check}"
    wrong = number[:place] + str((int(number[place]) + step) % 10) + number[place + 1 :]
    assert former_check_digit(wrong[:10]) != int(wrong[10])
