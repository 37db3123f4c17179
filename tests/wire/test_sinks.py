"""Who is no audit record repository of ours gets nothing, and that is an alert (ITI-19)."""

import socket

import pytest

from atna.sender import NotDelivered
from tests.records_sink import RecordsSink
from tests.syslog_peer import SyslogPeer
from tests.wire.test_tls import settings_for
from wire.reloading import listener_context
from wire.sinks import Sinks
from wire.tls import server_context


@pytest.fixture
def told():
    return []


@pytest.fixture
def sinks(pki, told):
    it = Sinks(settings_for(pki, pki.client), lambda *failure: told.append(failure))
    yield it
    it.close()


def test_a_syslog_receiver_of_a_foreign_authority(pki, sinks, told):
    with SyslogPeer(context=server_context(settings_for(pki, pki.self_signed("someone")))) as foreign:
        with pytest.raises(NotDelivered, match=r"self-signed|foreign authority"):
            sinks(f"tls://127.0.0.1:{foreign.port}", [b"secret"])
        assert [failure[:2] for failure in told] == [("127.0.0.1", foreign.port)]
        assert foreign.read == []


def test_a_service_of_a_foreign_authority(pki, sinks, told, serve):
    tls = listener_context(settings_for(pki, pki.self_signed("someone")), "registry.tls")
    with serve(tls=tls) as server:
        with pytest.raises(NotDelivered):
            sinks(f"https://127.0.0.1:{server.port}/records", [b"secret"])
    assert [failure[:2] for failure in told] == [("127.0.0.1", server.port)]


def test_nobody_there_and_no_tls_are_no_alerts(sinks, told):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for place in (f"tls://127.0.0.1:{port}", f"https://127.0.0.1:{port}/records"):
        with pytest.raises(NotDelivered):
            sinks(place, [b"x"])
    with RecordsSink() as sink:
        sinks(sink.url, [b"x"])
    assert told == []
