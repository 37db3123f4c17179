"""No two records are equal, and their times strictly increase."""

import threading

from atna.iti20_record_audit_event import decode_message
from atna.message import Outcome, parse
from atna.node_events import application_activity
from atna.recorder import Recorder

STARTED = application_activity(started=True, application="a", process_id="1", address="h")


def recorder(clock=lambda: 1_772_359_200.0):
    return Recorder("source", None, "dossier registry", "höst", clock)


def test_times_strictly_increase_though_the_clock_stands():
    own = recorder()
    times = [parse(decode_message(own.record(STARTED)).message).event.date_time for _ in range(3)]
    assert times == [f"2026-03-01T10:00:00.00000{n}Z" for n in range(3)]


def test_a_clock_that_goes_back_moves_nothing_back():
    moments = iter([100.0, 50.0, 100.5])
    own = recorder(lambda: next(moments))
    times = [decode_message(own.record(STARTED)).timestamp for _ in range(3)]
    assert times == sorted(set(times))


def test_the_time_is_that_of_the_clock_from_second_to_second():
    moments = iter([1_772_359_199.25, 1_772_359_199.75, 1_772_359_200.5, 1_772_359_260.0])
    own = recorder(lambda: next(moments))
    times = [decode_message(own.record(STARTED)).timestamp for _ in range(4)]
    assert [time[11:] for time in times] == [
        "09:59:59.250000Z",
        "09:59:59.750000Z",
        "10:00:00.500000Z",
        "10:01:00.000000Z",
    ]


def test_threads_get_different_records():
    own, found = recorder(), []
    threads = [threading.Thread(target=lambda: found.extend(own.record(STARTED) for _ in range(200))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1600


def test_two_processes_never_write_the_same_bytes():
    assert recorder().record(STARTED) != recorder().record(STARTED)


def test_header_and_severity():
    own = recorder()
    syslog = decode_message(own.record(STARTED))
    assert (syslog.priority, syslog.host, syslog.app_name) == (85, "h_st", "dossier_registry")
    assert syslog.process_id == own.process_id
    failed = application_activity(
        started=True, application="a", process_id="1", address="h", outcome=Outcome.MAJOR_FAILURE
    )
    assert decode_message(own.record(failed)).priority == 84
