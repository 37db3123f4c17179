"""One processor for a process: who is kept, who is free, when it moves."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from wire import processor
from wire.processor import Load, better, keep_to_one, stay_free

ALLOWED = sorted(os.sched_getaffinity(0))
several = pytest.mark.skipif(len(ALLOWED) < 2, reason="this machine has one processor")


def told(program):
    """What a process of its own prints: a test must not keep the whole test run to one processor."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@several
def test_all_threads_are_kept_but_those_that_stay_free():
    said = told(
        """
        import os, threading
        from concurrent.futures import ThreadPoolExecutor
        from wire.processor import keep_to_one, stay_free
        gate = threading.Event()
        before = threading.Thread(target=gate.wait, daemon=True)
        before.start()
        everywhere = len(os.sched_getaffinity(0))
        assert keep_to_one(0)
        at = lambda: len(os.sched_getaffinity(0))
        print(at(), len(os.sched_getaffinity(before.native_id)), ThreadPoolExecutor(1).submit(at).result())
        print(ThreadPoolExecutor(1, initializer=stay_free).submit(at).result() == everywhere)
        """
    )
    assert said == ["1", "1", "1", "True"]


@several
def test_children_of_one_parent_begin_on_different_processors():
    program = "import os; from wire.processor import keep_to_one; keep_to_one({}); print(*os.sched_getaffinity(0))"
    assert len({told(program.format(place))[0] for place in range(2)}) == 2


@several
def test_it_moves_with_every_thread_but_the_free_ones():
    said = told(
        """
        import itertools, os, threading, time
        from wire import processor
        allowed = sorted(os.sched_getaffinity(0))
        ticks = itertools.count()
        def look():  # the processor where we are is always busy with others, the last one never
            at = next(ticks)
            return processor.Load(at, {one: 0 if one == allowed[-1] else at for one in allowed}, at * 0.1)
        processor._look, processor.LOOK_S = look, 0.02
        os.sched_setaffinity(0, allowed)
        free, gate = threading.Event(), threading.Event()
        def roam():
            processor.stay_free()
            free.set()
            gate.wait()
        assert processor.keep_to_one(-os.getppid())  # at the first
        assert os.sched_getaffinity(0) == {allowed[0]}
        roaming = threading.Thread(target=roam, daemon=True)
        roaming.start()
        free.wait()
        until = time.monotonic() + 30
        while os.sched_getaffinity(0) != {allowed[-1]} and time.monotonic() < until:
            time.sleep(0.02)
        print(os.sched_getaffinity(0) == {allowed[-1]}, os.sched_getaffinity(roaming.native_id) == set(allowed))
        """
    )
    assert said == ["True", "True"]


def test_without_a_choice_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {ALLOWED[0]})
    threads = threading.active_count()
    assert not keep_to_one(0)
    assert threading.active_count() == threads


def test_where_the_system_has_no_such_call_nothing_is_kept(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity")
    assert not keep_to_one(0)
    stay_free()


@pytest.mark.parametrize(
    ("busy", "own", "to"),
    [
        ({0: 1.0, 1: 0.0}, 1.0, None),  # all of it is ours
        ({0: 1.0, 1: 0.0}, 0.5, 1),
        ({0: 1.0, 1: 0.4}, 0.5, None),  # not worth it
        ({0: 1.0, 1: 0.6, 2: 0.1, 3: 0.1}, 0.4, 2),
        ({0: 1.0, 1: 0.0}, 0.01, None),  # we do nothing
        ({0: 0.2, 1: 0.0}, 1.5, None),  # free threads of ours work elsewhere
        ({1: 0.0}, 0.5, None),  # ours was taken away, and is not counted any more
        ({0: 1.0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_when_to_move(busy, own, to):
    before = Load(10.0, dict.fromkeys(busy, 7.0), 3.0)
    now = Load(12.0, {at: 7.0 + 2 * share for at, share in busy.items()}, 3.0 + 2 * own)
    assert better(0, before, now) == to
    assert better(0, before, before) is None


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="there is no /proc/stat")
def test_a_look_at_the_real_machine(monkeypatch):
    monkeypatch.setattr(processor, "_allowed", frozenset(ALLOWED))
    before = processor._look()
    sum(number * number for number in range(1_000_000))
    now = processor._look()
    assert set(now.busy) == set(ALLOWED)
    assert now.own > before.own
    assert all(now.busy[at] >= before.busy[at] for at in ALLOWED)
