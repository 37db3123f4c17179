"""``[audit]``: sinks are refused with a reason when nothing can be delivered to them safely."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from atna.settings import LONGEST_S, AuditSettings


@pytest.mark.parametrize(
    "sink",
    [
        "https://audit.example.org:8040/records",
        "http://127.0.0.1:8040/records",
        "http://[::1]:1/records",
        "http://localhost/records",
        "tls://audit.example.org",
        "tls://[2001:db8::1]:6514",
        "tcp://127.0.0.1:601",
        "udp://127.0.0.1:514",
        "fhir+https://audit.example.org/fhir",
        "fhir+http://127.0.0.1:8080/",
    ],
)
def test_sinks(sink):
    assert AuditSettings(sinks=[sink]).sinks == (sink,)


def test_records_are_kept_for_ever_unless_a_time_is_given():
    assert AuditSettings().retention_days is None
    assert AuditSettings(retention_days=3650).retention_days == 3650
    for days in (0, -1, 200 * 366 + 1, "a year"):
        with pytest.raises(ValidationError, match="retention_days"):
            AuditSettings(retention_days=days)


@pytest.mark.parametrize("name", ["checkpoint_interval_s", "syslog_idle_timeout_s"])
def test_a_time_that_no_thread_can_wait_for_is_refused(name):
    assert getattr(AuditSettings(**{name: LONGEST_S}), name) == LONGEST_S
    with pytest.raises(ValidationError, match=f"{name}\n.*less than or equal to {LONGEST_S}"):
        AuditSettings(**{name: LONGEST_S + 1})


@pytest.mark.parametrize(
    ("sink", "reason"),
    [
        ("http://audit.example.org/records", "loopback only"),
        ("fhir+http://audit.example.org/fhir", "loopback only"),
        ("tcp://audit.example.org:601", "loopback only"),
        ("tcp://127.0.0.1", "host:port"),
        ("tls://:6514", "host:port"),
        ("tls://audit:6514/records", "host:port"),
        ("tls://audit:0", "port from 1"),
        ("udp://audit.example.org:514", "allow_udp_sinks"),
        ("https://audit.example.org/", "/records"),
        ("https://audit.example.org/fhir", "fhir"),
        ("https://user:secret@audit.example.org/records", "no user"),
        ("https:///records", "should be https"),
        ("https://audit:port/records", "should be a URL"),
        ("file:///records", "should be https"),
    ],
)
def test_other_sinks_are_refused_and_the_reason_is_given(sink, reason):
    with pytest.raises(ValidationError, match=reason):
        AuditSettings(sinks=[sink])


def test_records_go_somewhere_and_to_each_sink_once():
    with pytest.raises(ValidationError, match="at least 1"):
        AuditSettings(sinks=[])
    with pytest.raises(ValidationError, match="stands twice"):
        AuditSettings(sinks=["tls://audit", "tls://audit:6514"])


def test_udp_off_loopback_is_allowed_by_name():
    sinks = ("udp://10.1.2.3", "tls://audit:6514")
    assert AuditSettings(sinks=sinks, allow_udp_sinks=True).sinks == sinks


def test_what_this_version_does_not_do_is_refused():
    with pytest.raises(ValidationError):
        AuditSettings(unknown=1)


def test_the_time_zone_of_the_page():
    assert AuditSettings().zone is UTC
    assert AuditSettings(time_zone="Europe/Luxembourg").zone == ZoneInfo("Europe/Luxembourg")


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc/passwd", "", "CEST+2", "/etc/localtime"])
def test_a_zone_nobody_knows_is_refused(zone):
    with pytest.raises(ValidationError, match="Europe/Luxembourg"):
        AuditSettings(time_zone=zone)
