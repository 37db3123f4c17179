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


def test_a_clock_that_goes_back_a_little_moves_nothing_back(caplog):
    moments = iter([100.0, 96.0, 100.5])
    own = recorder(lambda: next(moments))
    found = [decode_message(own.record(STARTED)) for _ in range(3)]
    times = [one.timestamp for one in found]
    assert times == sorted(set(times))
    assert {one.process_id for one in found} == {own.process_id}
    assert caplog.messages == []


def test_a_clock_that_was_ahead_and_is_put_right_is_followed(caplog):
    two_years = 730 * 86_400.0
    moments = iter([100.0, 100.0 + two_years, 101.0, 101.0, 102.0, 100.5 + two_years, 103.0])
    own = recorder(lambda: next(moments))
    found = [decode_message(own.record(STARTED)) for _ in range(7)]
    times = [(one.timestamp, parse(one.message).event.date_time) for one in found]
    expected = ["1970-01-01T00:01:40.0", "1972-01-01T00:01:40.0", *["1970-01-01T00:01:41.0"] * 2]
    expected += ["1970-01-01T00:01:42.0", "1972-01-01T00:01:40.5", "1970-01-01T00:01:43.0"]
    assert [time[:21] for time, _ in times] == expected
    assert all(time == other for time, other in times)
    runs = [one.process_id.removeprefix(own.process_id) for one in found]
    assert runs == ["", "", ".1", ".1", ".1", ".1", ".2"]
    back = (63_071_999, 63_071_997)
    assert caplog.messages == [f"the clock went back by {s} s; audit records follow it" for s in back]


def test_a_time_that_comes_again_makes_no_equal_records():
    moments = iter([100.0, 100.0, 50.0, 100.0, 100.0, 50.0, 100.0, 100.0])
    own = recorder(lambda: next(moments))
    assert len({own.record(STARTED) for _ in range(8)}) == 8


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
