"""Failed handshakes become security alerts (ITI-19; DICOM PS3.15 A.5.3.11)."""

import threading

from atna.alerts import MOST_COUNTED, OTHERS, SINGLY_ALL, SINGLY_EACH, Alerts
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


def told(kept):
    """(address, port, reason, how often) of each record."""
    rows = []
    for record in kept:
        message = parse(record[record.index(b"<AuditMessage") :])
        details = {detail.type: detail.value.decode() for detail in message.objects[0].details}
        port, repeats = details.get("urn:dossier:peer-port"), details.get("urn:dossier:repeats", "1")
        rows.append((message.objects[0].id, port, details["Alert Description"], int(repeats)))
    return rows


def test_a_flood_from_one_address_is_summed_up_and_hides_nobody_else():
    kept = []
    alerts = Alerts(recorder(), kept.extend)
    for port in range(5_000):
        alerts.handshake_failed("192.0.2.7", port, "no certificate" if port % 5 else "time-out")
    alerts.handshake_failed("192.0.2.8", 7, "no certificate")
    alerts.close()
    rows = told(kept)
    assert [row[1] for row in rows[:SINGLY_EACH]] == [str(port) for port in range(SINGLY_EACH)]
    assert rows[SINGLY_EACH] == ("192.0.2.8", "7", "no certificate", 1)
    assert sorted(rows[SINGLY_EACH + 1 :]) == [
        ("192.0.2.7", None, "no certificate", 4_000 - SINGLY_EACH * 4 // 5),
        ("192.0.2.7", None, "time-out", 1_000 - SINGLY_EACH // 5),
    ]


def test_a_flood_from_everywhere_is_bounded_and_counted_whole():
    kept = []
    alerts = Alerts(recorder(), kept.extend)
    for number in range(3_000):
        alerts.handshake_failed(f"2001:db8::{number:x}", 1, "time-out")
    alerts.close()
    rows = told(kept)
    assert len(rows) == SINGLY_ALL + MOST_COUNTED + 1
    assert sum(times for *_, times in rows) == 3_000
    assert rows[-1] == (OTHERS, None, "time-out", 3_000 - SINGLY_ALL - MOST_COUNTED)


def test_after_a_minute_an_address_is_recorded_one_by_one_again():
    kept, ended = [], threading.Event()

    def keep(records):
        kept.extend(records)
        if told(records)[0][3] > 1:
            ended.set()

    alerts = Alerts(recorder(), keep, window_s=0.2)
    for port in range(SINGLY_EACH + 2):
        alerts.handshake_failed("192.0.2.7", port, "no certificate")
    assert ended.wait(10)
    alerts.handshake_failed("192.0.2.7", 999, "no certificate")
    alerts.close()
    assert told(kept)[SINGLY_EACH:] == [
        ("192.0.2.7", None, "no certificate", 2),
        ("192.0.2.7", "999", "no certificate", 1),
    ]


def test_a_database_that_fails_disturbs_nobody():
    tried = []

    def fails(records):
        tried.extend(records)
        raise OSError("no room")

    alerts = Alerts(recorder(), fails)
    for _ in range(SINGLY_EACH + 3):
        alerts.handshake_failed("192.0.2.7", 50123, "no certificate")
    alerts.close()
    assert len(tried) == SINGLY_EACH + 1
