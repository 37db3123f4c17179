"""Where records go, read from one text."""

import pytest

from atna.sinks import Kind, parse_sink


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
