"""What counts as the same name and the same day of birth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.demographics import birth_day, fold, name_and_birth


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller-Lüdenscheidt", "MULLER  LUDENSCHEIDT"),
        ("O'Hara", "ohara"),
        ("D’Aviano", "DAVIANO"),
        ("Straße", "STRASSE"),
        ("Øystein", "Oystein"),
        ("Nguyễn", "nguyen"),
        ("İpek", "IPEK"),
        ("ＦＵＬＬ", "full"),
        ("Mu\u0308ller", "Müller"),
    ],
)
def test_one_name_in_two_spellings(one, other):
    assert fold(one) == fold(other) != ""


@pytest.mark.parametrize(
    ("one", "other"), [("Müller", "Mueller"), ("Anna", "Anne"), ("Jean Paul", "Jean"), ("王", "汪")]
)
def test_two_names(one, other):
    assert fold(one) != fold(other)


@given(st.text())
def test_folding_a_folded_name_changes_nothing(name):
    folded = fold(name)
    assert fold(folded) == folded
    assert "|" not in folded


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("19700101", "19700101"),
        ("19700101120000+0100", "19700101"),
        ("197001", None),
        ("1970-01-01", None),
        ("", None),
        (None, None),
        ("１９７００１０１", None),
    ],
)
def test_days(time, day):
    assert birth_day(time) == day


def test_a_person_is_found_by_all_three_or_not():
    assert name_and_birth("van Müller", "Änne", "197001011200") == "van muller|anne|19700101"
    for lacking in ((None, "A", "19700101"), ("A", "--", "19700101"), ("A", "A", "1970")):
        assert name_and_birth(*lacking) is None
