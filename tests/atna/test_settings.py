"""``[audit]``: sinks are refused with a reason when this version cannot deliver to them safely."""

from datetime import UTC
from zoneinfo import ZoneInfo

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


def test_a_retention_that_would_not_be_kept_to_is_refused_and_the_reason_is_given():
    assert AuditSettings(retention_days=None).retention_days is None
    with pytest.raises(ValidationError, match="for ever"):
        AuditSettings(retention_days=3650)


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
        AuditSettings(retention_days=30)
    with pytest.raises(ValidationError):
        AuditSettings(unknown=1)


def test_the_time_zone_of_the_page():
    assert AuditSettings().zone is UTC
    assert AuditSettings(time_zone="Europe/Luxembourg").zone == ZoneInfo("Europe/Luxembourg")


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc/passwd", "", "CEST+2", "/etc/localtime"])
def test_a_zone_nobody_knows_is_refused(zone):
    with pytest.raises(ValidationError, match="Europe/Luxembourg"):
        AuditSettings(time_zone=zone)
