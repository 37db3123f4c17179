import threading
import time

import pytest

from gateway.fan_out import Call, FanOut

LONG = 60


@pytest.fixture
def fan_out():
    it = FanOut(4)
    yield it
    it.close()


def at(seconds):
    return time.monotonic() + seconds


def test_all_run_at_once_and_answer_in_order(fan_out):
    everybody = threading.Barrier(4)
    calls = [Call(lambda number=number: (everybody.wait(LONG), number)[1], at(LONG)) for number in range(4)]
    assert fan_out.ask(calls) == [0, 1, 2, 3]


def test_only_what_is_our_own_is_run_here(fan_out):
    def name():
        return threading.current_thread().name

    first, second = fan_out.ask([Call(name, at(LONG))] * 2, here=True)
    assert (first, second.startswith("community")) == (name(), True)
    assert all(one.startswith("community") for one in fan_out.ask([Call(name, at(LONG))] * 2))


def test_one_that_is_late_is_not_waited_for_and_what_it_brings_is_thrown_away(fan_out):
    release, dropped = threading.Event(), threading.Event()
    calls = [
        Call(lambda: "own", at(LONG)),
        Call(lambda: (release.wait(LONG), "late")[1], at(0.1)),
        Call(lambda: "other", at(LONG)),
    ]
    assert fan_out.ask(calls, here=True, discard=lambda what: what == "late" and dropped.set()) == [
        "own",
        None,
        "other",
    ]
    assert not dropped.is_set()
    release.set()
    assert dropped.wait(LONG)


def test_one_that_never_gets_a_thread_is_late_and_never_begun():
    fan_out, release, begun = FanOut(1), threading.Event(), []
    stuck = Call(lambda: release.wait(LONG), at(0.1))
    never = Call(lambda: begun.append(1), at(0.2))
    assert fan_out.ask([Call(lambda: 0, at(LONG)), stuck, never], here=True) == [0, None, None]
    release.set()
    assert fan_out.ask([Call(lambda: 0, at(LONG)), Call(lambda: 1, at(LONG))], here=True) == [0, 1]
    assert begun == []
    fan_out.close()


def test_what_is_done_although_the_time_is_over_counts(fan_out):
    calls = [Call(lambda: time.sleep(0.5), at(0)), Call(lambda: "done", at(0))]
    assert fan_out.ask(calls, here=True) == [None, "done"]


@pytest.mark.parametrize("at_fault", [0, 1])
def test_a_defect_is_raised_and_nothing_is_left_over(fan_out, at_fault):
    begun, dropped, discarded = threading.Event(), threading.Event(), []

    def defect():
        assert begun.wait(LONG)
        raise ZeroDivisionError

    def discard(what):
        discarded.append(what)
        if len(discarded) == 2:
            dropped.set()

    calls = [Call(lambda: 1, at(LONG)), Call(lambda: 2, at(LONG)), Call(lambda: (begun.set(), 3)[1], at(LONG))]
    calls[at_fault] = Call(defect, at(LONG))
    with pytest.raises(ZeroDivisionError):
        fan_out.ask(calls, here=True, discard=discard)
    assert dropped.wait(LONG)
    assert sorted(discarded) == sorted({1, 2, 3} - {at_fault + 1})


def test_nobody_to_ask(fan_out):
    assert fan_out.ask([]) == []
