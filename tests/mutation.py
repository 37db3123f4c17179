"""Would the tests notice? ``python -m tests.mutation [--list] [--group NAME] [--only WORDS] [--sample N]``.

Each mutant of ``tests.mutants`` is made in turn, in this process, and the tests that ran its line are run until one
fails. Exit status 1 when a mutant survives that ``EQUIVALENT`` does not explain.
"""

import argparse
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import coverage
import pytest
from _pytest.runner import runtestprotocol

from tests.mutants import GROUPS, mutants

TIMEOUT_S = 60
SLOW_S = 1.5
"""A test that takes longer is run only for a mutant nothing quicker has killed."""
_TWICE = "the parser that has just refused the value refuses it again"
_SHORTCUT = "saves time alone: what follows finds nothing"
_CUT = "the answer is cut into other pieces, and is the same"
_UNREACHED = "cannot happen unless another part of the house is broken"
EQUIVALENT = {
    "ihe.structure_rules: slots_are_named_once: never if len(set(names)) == len(names)": _SHORTCUT,
    "ihe.row_engine: _Sheet.values: never if fault is None and (not too_long)": _SHORTCUT,
    "ihe.row_engine: _filled: always if len(lists) != len(slots)": "saves time alone: joining slots of different names",
    "ihe.row_engine: _fault: always if datatype.strict is not None": _TWICE,
    "registry.store.query_sql: _plain_statement: always if attribute in criteria.values": _UNREACHED,
    "registry.iti18_registry_stored_query: response: always if len(block) >= _BLOCK": _CUT,
    "iti42: _folder_errors: never if found is None": _UNREACHED,
    "iti42: _registration: never if patient is None": _UNREACHED,
    "repository.iti86_remove_documents: _removed: never if not verdict.documents": "the same records by another way",
    "repository.iti86_remove_documents: _told_of: never if not kept": _SHORTCUT,
}
"""Mutants that change nothing anybody can see, and why."""


class Mutation:
    """A pytest plugin: instead of running the tests once, runs for each mutant those that may kill it."""

    def __init__(self, wanted, say, verbose):
        self.wanted, self.say, self.verbose = wanted, say, verbose
        self.killed, self.survived, self.broken = {}, [], []
        self._seconds, self._contexts = {}, None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self._baseline(session.items)
        for one in self.wanted:
            if not self.broken:
                self._try(one, session.items)
        return True

    def _baseline(self, items):
        files = sorted({one.file for one in self.wanted if one.file})
        measured = coverage.Coverage(data_file=None, include=files or ["/nowhere"], config_file=False)
        measured.start()
        for number, item in enumerate(items):
            measured.switch_context(str(number))
            began = time.monotonic()
            if self._fails(item):
                self.broken.append(item.nodeid)
            self._seconds[item] = time.monotonic() - began
        measured.stop()
        data = measured.get_data()
        self._contexts = {file: data.contexts_by_lineno(file) for file in files}
        self.say(f"{len(items)} tests, {sum(self._seconds.values()):.0f} s")

    def _try(self, one, items):
        candidates = list(items)
        if one.file:
            numbers = {int(number) for number in self._contexts[one.file].get(one.line, ()) if number}
            candidates = [item for number, item in enumerate(items) if number in numbers]
        words = _plain(one.hint)
        candidates.sort(key=lambda item: (not words or words not in _plain(item.nodeid), self._seconds[item]))
        candidates.sort(key=lambda item: self._seconds[item] > SLOW_S)
        with one.change():
            killer = next((item for item in candidates if self._fails(item)), None)
        for folder in items[0].config._tmp_path_factory.getbasetemp().iterdir():
            shutil.rmtree(folder, ignore_errors=True)  # what a killer leaves: thousands of directories
        # A kill counts when the test passes again without the mutant; what the mutant left behind may fail it once more.
        if killer is not None and all(self._fails(killer) for _ in range(3)):
            self.broken.append(f"{killer.nodeid} after {one.name}")
        elif killer is None:
            self.survived.append(one.name)
            reason = EQUIVALENT.get(one.name)
            self.say(
                f"equivalent: {one.name}: {reason}"
                if reason
                else f"survived: {one.name} ({len(candidates)} tests, line {one.line or '-'})"
            )
        else:
            self.killed[one.name] = killer.nodeid
            if self.verbose:
                self.say(f"killed: {one.name} by {killer.nodeid}")

    @staticmethod
    def _fails(item):
        try:
            with _at_most(TIMEOUT_S):
                reports = runtestprotocol(item, log=False, nextitem=None)
        except TimeoutError:
            return True
        return any(report.failed for report in reports)


def _plain(text):
    return re.sub(r"[^a-z0-9]", "", text.lower())


@contextmanager
def _at_most(seconds):
    def ring(*_):
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run(wanted, say=print, verbose=False):
    """Try these mutants; the names of those that survived without an explanation."""
    unexplained, killed = [], Counter()
    for group, tests in GROUPS.items():
        mine = [one for one in wanted if one.group == group]
        if not mine:
            continue
        plugin = Mutation(mine, say, verbose)
        # PostgreSQL tells nothing here that SQLite does not; a worker process would not see the mutant
        quiet = [
            "-qq",
            "--no-header",
            "--no-summary",
            "--tb=line",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-k",
            "not postgresql",
        ]
        status = pytest.main([*quiet, *tests], plugins=[plugin])
        if plugin.broken or len(plugin.killed) + len(plugin.survived) != len(mine):
            raise SystemExit(f"{group}: tests fail without any mutant (pytest {status}): {plugin.broken}")
        killed[group] = len(plugin.killed)
        unexplained += [name for name in plugin.survived if name not in EQUIVALENT]
        say(f"{group}: {len(mine)} mutants, {len(plugin.killed)} killed, {len(plugin.survived)} survived")
        for name in EQUIVALENT.keys() & plugin.killed.keys():
            say(f"explained as equivalent and yet killed: {name}")
    say(f"all: {len(wanted)} mutants, {killed.total()} killed, {len(unexplained)} survived without an explanation")
    return unexplained


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--list", action="store_true", help="only name the mutants")
    parser.add_argument("--group", choices=tuple(GROUPS))
    parser.add_argument("--only", default="", help="only mutants whose name holds these words")
    parser.add_argument("--sample", type=int, help="every so many, and those explained as equivalent")
    parser.add_argument("--verbose", action="store_true", help="say which test killed each")
    chosen = parser.parse_args()
    wanted = [one for one in mutants() if chosen.group in (None, one.group) and chosen.only in one.name]
    if chosen.sample:
        wanted = [one for at, one in enumerate(wanted) if at % chosen.sample == 0 or one.name in EQUIVALENT]
    if chosen.list:
        print("\n".join(f"{one.group:<12}{one.name}" for one in wanted))
        return 0
    began = time.monotonic()
    survivors = run(wanted, lambda text: print(text, flush=True), chosen.verbose)
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    sys.exit(main())
