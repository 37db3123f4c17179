"""Durations of XML Schema."""

import pytest

from ihe.durations import parse_duration, print_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("P0Y0M7D", 604_800),
        (" PT1H30M ", 5_400),
        ("P1Y2M", 365 * 86_400 + 60 * 86_400),
        ("PT0.5S", 0.5),
        ("P1DT1S", 86_401),
        ("PT0S", 0),
        *(
            (wrong, None)
            for wrong in ("", "P", "PT", "P1", "-P1D", "1D", "P1H", "PT1D", "P1D2Y", "P" + "9" * 400 + "D")
        ),
    ],
)
def test_what_a_partner_may_say(text, seconds):
    assert parse_duration(text) == seconds


def test_what_we_say():
    assert print_duration(3600.9) == "PT3600S"
    assert parse_duration(print_duration(86_400)) == 86_400
