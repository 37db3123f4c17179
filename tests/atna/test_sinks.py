"""Where records go, read from one text."""

import pytest

from atna.sinks import Kind, parse_sink


def test_a_receiver_without_close_notify():
    assert parse_sink("tls://audit").close_notify
    assert not parse_sink("tls://audit?close=tcp").close_notify
    for text in ("tls://audit?close=never", "udp://127.0.0.1?close=tcp", "https://audit/records?close=tcp"):
        with pytest.raises(ValueError, match="no user, password, query"):
            parse_sink(text)


@pytest.mark.parametrize(
    ("text", "kind", "host", "port", "url"),
    [
        ("https://audit:8040/records", Kind.RECORDS, "audit", 8040, "https://audit:8040/records"),
        ("https://audit/records", Kind.RECORDS, "audit", 443, "https://audit/records"),
        ("tls://audit", Kind.TLS, "audit", 6514, ""),
        ("tls://[2001:db8::1]:7000/", Kind.TLS, "2001:db8::1", 7000, ""),
        ("tcp://127.0.0.1:601", Kind.TCP, "127.0.0.1", 601, ""),
        ("udp://audit", Kind.UDP, "audit", 514, ""),
        ("fhir+https://audit/base/fhir/", Kind.FHIR, "audit", 443, "https://audit/base/fhir/AuditEvent"),
        ("fhir+http://localhost:8080", Kind.FHIR, "localhost", 8080, "http://localhost:8080/AuditEvent"),
    ],
)
def test_each_form(text, kind, host, port, url):
    sink = parse_sink(text)
    assert (sink.text, sink.kind, sink.host, sink.port, sink.url) == (text, kind, host, port, url)
