import pytest

from gateway.breaker import Breaker, Open


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(3, 10, clock)


def failing(breaker, times=1):
    return [breaker.failed(trying=breaker.enter()) for _ in range(times)]


def test_failures_in_a_row_open_it(breaker):
    assert failing(breaker, 2) == [False, False]
    assert not breaker.succeeded()
    assert failing(breaker, 3) == [False, False, True]
    with pytest.raises(Open, match="3 times in a row"):
        breaker.enter()


def test_after_the_pause_one_call_tries(breaker, clock):
    failing(breaker, 3)
    clock.now = 9.9
    with pytest.raises(Open):
        breaker.enter()
    clock.now = 10
    assert breaker.enter()
    with pytest.raises(Open):
        breaker.enter()
    assert breaker.succeeded()
    assert breaker.enter() is False
    assert breaker.enter() is False


def test_a_call_that_tries_in_vain_begins_the_pause_again(breaker, clock):
    failing(breaker, 3)
    clock.now = 10
    assert failing(breaker) == [False]
    clock.now = 19.9
    with pytest.raises(Open):
        breaker.enter()
    clock.now = 20
    assert breaker.enter()


def test_a_call_that_tries_and_is_given_up_lets_the_next_one_try(breaker, clock):
    failing(breaker, 3)
    clock.now = 10
    breaker.left(trying=breaker.enter())
    assert breaker.enter()


def test_calls_that_were_under_way_when_it_opened_change_neither_pause_nor_try(breaker, clock):
    late = [breaker.enter() for _ in range(5)]
    assert [breaker.failed(trying=trying) for trying in late[:3]] == [False, False, True]
    clock.now = 10
    assert not breaker.failed(trying=late[3])
    assert breaker.enter()
    breaker.failed(trying=late[4])
    with pytest.raises(Open):
        breaker.enter()
    assert breaker.succeeded()


def test_one_that_tried_in_vain_opens_nothing_that_was_closed_meanwhile(breaker, clock):
    late = [breaker.enter() for _ in range(4)]
    assert [breaker.failed(trying=trying) for trying in late[:3]] == [False, False, True]
    clock.now = 10
    trying = breaker.enter()
    assert breaker.succeeded()  # the fourth, that was under way when it opened
    assert not breaker.failed(trying=trying)
    assert failing(breaker, 2) == [False, True]
