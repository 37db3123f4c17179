"""Many threads with one question: it is asked once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.once import OnceAtATime

FAR = 30


def all_at_once(once, work, count=6):
    """What each of ``count`` threads gets that ask while the first of them is still asking."""
    inside, go = threading.Event(), threading.Event()
    calls = []

    def slow():
        calls.append(1)
        inside.set()
        assert go.wait(FAR)
        return work()

    def one(_number):
        try:
            return once.ask("key", slow, time.monotonic() + FAR)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(count) as pool:
        first = pool.submit(one, 0)
        assert inside.wait(FAR)
        others = [pool.submit(one, number) for number in range(1, count)]
        until = time.monotonic() + FAR
        while len(once._asked["key"].told._condition._waiters) < count - 1:
            assert time.monotonic() < until
            time.sleep(0.01)
        go.set()
        return [first.result(), *(other.result() for other in others)], len(calls)


def test_they_all_get_what_one_was_told():
    assert all_at_once(OnceAtATime(), lambda: "told") == (["told"] * 6, 1)


def test_they_all_get_what_one_failed_with():
    def fails():
        raise ValueError("silent")

    assert all_at_once(OnceAtATime(), fails) == (["silent"] * 6, 1)


def test_it_is_asked_again_afterwards_and_apart_for_another_key():
    once, told = OnceAtATime(), iter(range(9))
    assert [once.ask(key, lambda: next(told), 0) for key in ("a", "a", "b")] == [0, 1, 2]


def test_who_waits_too_long_is_told():
    once, inside, go = OnceAtATime(), threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert go.wait(FAR)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(once.ask, "key", slow, 0)
        assert inside.wait(FAR)
        with pytest.raises(TimeoutError):
            once.ask("key", slow, time.monotonic())
        go.set()
        first.result()


@pytest.mark.parametrize(("more_time_s", "wanted"), [(FAR, "mine"), (0, "no time")], ids=["more", "no more"])
def test_who_has_more_time_than_the_one_that_ran_out_of_it_asks_for_itself(more_time_s, wanted):
    """The first gives up with its time at an end while the second waits for it."""
    once, inside, go = OnceAtATime(), threading.Event(), threading.Event()
    deadline = time.monotonic()

    def runs_out():
        inside.set()
        assert go.wait(FAR)
        raise ValueError("no time")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(once.ask, "key", runs_out, deadline if more_time_s else deadline + 2 * FAR)
        assert inside.wait(FAR)
        second = pool.submit(once.ask, "key", lambda: "mine", time.monotonic() + FAR)
        until = time.monotonic() + FAR
        while not once._asked["key"].told._condition._waiters:
            assert time.monotonic() < until
            time.sleep(0.01)
        go.set()
        for one, told in ((first, "no time"), (second, wanted)):
            if told == "mine":
                assert one.result() == "mine"
            else:
                with pytest.raises(ValueError, match=told):
                    one.result()
