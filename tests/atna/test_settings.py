"""``[audit]``: sinks are refused with a reason when this version cannot deliver to them safely."""

import pytest
from pydantic import ValidationError

from atna.settings import AuditSettings


@pytest.mark.parametrize(
    "sink",
    [
        "https://audit.example.org:8040/records",
        "http://127.0.0.1:8040/records",
        "http://[::1]:1/records",
        "http://localhost/records",
    ],
)
def test_acknowledged_sinks(sink):
    assert AuditSettings(sinks=[sink]).sinks == (sink,)


def test_records_are_kept_for_ever_unless_a_time_is_given():
    assert AuditSettings().retention_days is None
    assert AuditSettings(retention_days=3650).retention_days == 3650
    for days in (0, -1, 200 * 366 + 1, "a year"):
        with pytest.raises(ValidationError, match="retention_days"):
            AuditSettings(retention_days=days)


@pytest.mark.parametrize(
    ("sink", "reason"),
    [
        ("udp://127.0.0.1:514", "later version"),
        ("tls://audit:6514", "later version"),
        ("tcp://127.0.0.1:601", "later version"),
        ("http://audit.example.org/records", "loopback only"),
        ("https://audit.example.org/", "/records"),
        ("https://user:secret@audit.example.org/records", "/records"),
        ("https:///records", "should be https"),
        ("https://audit:port/records", "should be a URL"),
        ("file:///records", "should be https"),
    ],
)
def test_other_sinks_are_refused_and_the_reason_is_given(sink, reason):
    with pytest.raises(ValidationError, match=reason):
        AuditSettings(sinks=[sink])


def test_what_this_version_does_not_do_is_refused():
    with pytest.raises(ValidationError):
        AuditSettings(unknown=1)
