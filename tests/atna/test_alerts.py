"""Failed handshakes become security alerts (ITI-19; DICOM PS3.15 A.5.3.11)."""

import threading

from atna.alerts import MOST_WAITING, Alerts
from atna.message import parse
from atna.recorder import Recorder


def recorder():
    return Recorder("test", None, "dossier-test", "localhost")


def test_a_failed_handshake_is_recorded_with_address_and_reason():
    kept = []
    alerts = Alerts(recorder(), kept.extend)
    alerts.handshake_failed("192.0.2.7", 50123, "certificate expired")
    alerts.close()
    (record,) = kept
    message = parse(record[record.index(b"<AuditMessage") :])
    assert message.event.event_id.code == "110113"
    assert message.objects[0].id == "192.0.2.7"
    details = {detail.type: detail.value for detail in message.objects[0].details}
    assert details == {"Alert Description": b"certificate expired", "urn:dossier:peer-port": b"50123"}
    assert message.event.outcome_description == "certificate expired"


def test_a_database_that_fails_and_a_flood_disturb_nobody():
    gate, kept = threading.Event(), []

    def slow(records):
        gate.wait(10)
        kept.extend(records)
        raise OSError("no room")

    alerts = Alerts(recorder(), slow)
    for _ in range(MOST_WAITING + 50):
        alerts.handshake_failed("192.0.2.7", 50123, "no certificate")
    gate.set()
    alerts.close()
    assert len(kept) == MOST_WAITING
