"""What a crash left behind: submissions without an outcome, uploads without a message, objects without a row.

Nothing here guesses: a pending submission is asked about at the registry (``repository.resolution``), and what store,
registry or database do not answer is left for the next sweep. Any number of sweeps may run at once, beside a repository
at work: each step is taken only if the row still is what was read. A lease spares the periodic ones the double work.

A complete object without a row is not a leftover of a crash (the row is durable first): either the database is not the
one the store belongs to, an older copy of it for example, or a store did very late what it had been asked to. Whether
it is somebody's document nobody here can know. So it is reported and stays, until an operator says how many may go.
"""

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final

from repository.patience import Patience
from repository.resolution import Resolution, resolve, window
from repository.room import Room
from repository.store.protocol import StoredObject, StoreUnavailable, Submission

__all__ = ["MOST_ORPHANS", "Report", "run", "run_once"]

MOST_ORPHANS: Final = 100
"""More unfinished uploads without a row than this are no leftovers: none of them is removed."""
ORPHAN_AGE: Final = 3_600_000_000
"""An object without a row is removed when it is older than this (microseconds)."""
RETRIED_FOR: Final = 3_600_000_000
"""An object that the store does not delete is tried again at every sweep for this time (microseconds), then only when
the whole store is looked at: a locked one would be asked for in vain every few seconds, for years."""
LONGEST_PAUSE: Final = 3_600_000_000
"""A submission that stays without an outcome is asked about after pauses that double up to this (microseconds)."""
LEASE_S: Final = 60.0
LEASE: Final = "sweep"
BATCH: Final = 500

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What one sweep found and did; counts.

    completed       submissions the registry turned out to have; their documents are available now
    removed         submissions the registry does not have and never will; all of each is gone
    undecided       submissions still without an outcome: the registry does not say, or might still commit
    damaged         registered submissions whose documents are not in the store: somebody has to look
    discarded       objects of uploads, superseded attempts and removed documents that were deleted
    orphans         objects without a row, and how many of them were removed
    unanswered      questions that store or database did not answer: the next sweep asks again
    """

    completed: int = 0
    removed: int = 0
    undecided: int = 0
    damaged: int = 0
    discarded: int = 0
    orphans: int = 0
    orphans_removed: int = 0
    unanswered: int = 0

    @property
    def quiet(self) -> bool:
        """Whether there was nothing to tell."""
        return self == Report()


class _Asking(Patience):
    """Goes on after what store or database do not answer, but not for ever; ``going`` says whether to go on at all."""

    def __init__(self, going: Callable[[], bool]) -> None:
        super().__init__()
        self._going = going

    def goes_on(self) -> bool:
        return not self.over and self._going()

    def resolve(self, room: Room, submission: Submission) -> Resolution:
        if not self.goes_on():
            return Resolution.UNKNOWN
        try:
            return resolve(room, submission)
        except StoreUnavailable as error:
            _log.warning("a submission could not be looked at: %s", error)
            self.unanswered += 1
            return Resolution.UNKNOWN

    def remove(self, room: Room, keys: list[str]) -> list[str]:
        """Those that are gone now."""
        return [key for key in keys if self.goes_on() and self.deleted(partial(room.store.delete, key), key)]


def run_once(
    room: Room,
    *,
    orphans: bool = True,
    staging_age_s: float | None = None,
    remove_orphans: int = 0,
    pauses: "_Pauses | None" = None,
    going: Callable[[], bool] = lambda: True,
) -> Report:
    """One sweep; ``orphans``: compare the whole store with the index as well. Raises StoreUnavailable.

    ``staging_age_s`` overrides the setting: 0 only while no process of this repository is serving.
    ``remove_orphans``: complete objects without a row are removed if there are at most so many.
    """
    now = room.clock()
    asking = _Asking(going)
    resolved = Counter[Resolution]()
    for submission in room.index.unresolved(now - window(room)):
        if pauses is None or pauses.due(submission, now):
            resolution = asking.resolve(room, submission)
            resolved[resolution] += 1
            if pauses is not None:
                pauses.note(submission, resolution, now)
    age_s = room.settings.staging_age_s if staging_age_s is None else staging_age_s
    discarded = _discard(room, asking, now, age_s, 0 if orphans else now - RETRIED_FOR)
    found, removed = _orphans(room, asking, now, remove_orphans) if orphans else (0, 0)
    report = Report(
        completed=resolved[Resolution.FOUND],
        removed=resolved[Resolution.ABSENT],
        undecided=resolved[Resolution.UNKNOWN],
        damaged=resolved[Resolution.DAMAGED],
        discarded=discarded,
        orphans=found,
        orphans_removed=removed,
        unanswered=asking.unanswered,
    )
    if not report.quiet:
        _log.info("sweep: %s", report)
    return report


def _discard(room: Room, asking: _Asking, now: int, age_s: float, removing_after: int) -> int:
    """Remove what nobody claims; its row goes later, for an object that a store writes late is removed again."""
    left_before = now - window(room)
    keys = room.index.discard(now - int(age_s * 1_000_000), left_before, removing_after)
    return room.index.forget(asking.remove(room, list(keys)), left_before=left_before)


# ------------------------------------------------------------------------------------- objects without a row


@dataclass(slots=True)
class _Strays:
    """Objects without a row: how many, and the first of them that are old enough to be removed."""

    count: int = 0
    old: list[str] = field(default_factory=list)

    def add(self, stored: StoredObject, now: int, most: int) -> None:
        self.count += 1
        if now - stored.modified > ORPHAN_AGE and len(self.old) <= most:
            self.old.append(stored.key)


def _orphans(room: Room, asking: _Asking, now: int, may_go: int) -> tuple[int, int]:
    """(objects without a row, how many of them were removed)."""
    unfinished, complete = _Strays(), _Strays()
    try:
        for batch in _batches(room.store.objects()):
            if not asking.goes_on():
                return unfinished.count + complete.count, 0
            known = room.index.known([stored.key for stored in batch])
            for stored in batch:
                if stored.key not in known:
                    strays, most = (complete, may_go) if stored.complete else (unfinished, MOST_ORPHANS)
                    strays.add(stored, now, most)
    except StoreUnavailable as error:
        _log.warning("the store could not be compared with the index: %s", error)
        asking.unanswered += 1
        return unfinished.count + complete.count, 0
    keys = [*_removable(unfinished, MOST_ORPHANS), *_removable(complete, may_go)]
    if left := unfinished.count + complete.count - len(keys):
        _log.error("%s objects in the document store are not in the index: is this the right database?", left)
    return unfinished.count + complete.count, len(asking.remove(room, keys))


def _removable(strays: _Strays, most: int) -> list[str]:
    return strays.old if strays.count <= most else []


def _batches(objects: Iterator[StoredObject]) -> Iterator[list[StoredObject]]:
    while batch := list(islice(objects, BATCH)):
        yield batch


# -------------------------------------------------------------------------------------------------- periodic


class _Pauses:
    """When a submission is asked about again: each question leaves an audit record, and the registry has other work."""

    def __init__(self, first_s: float) -> None:
        self._first = int(first_s * 1_000_000)
        self._next: dict[str, tuple[int, int]] = {}

    def due(self, submission: Submission, now: int) -> bool:
        return self._next.get(submission.attempt, (0, 0))[0] <= now

    def note(self, submission: Submission, resolution: Resolution, now: int) -> None:
        _, last = self._next.pop(submission.attempt, (0, 0))
        if resolution in {Resolution.UNKNOWN, Resolution.DAMAGED}:
            pause = min(2 * last or self._first, LONGEST_PAUSE)
            self._next[submission.attempt] = now + pause, pause


def run(room: Room, stop: threading.Event) -> None:
    """Sweep every ``sweep_interval_s`` until ``stop``; the whole store every ``orphan_interval_s``.

    One process of all that share the database sweeps at a time; the others wait for its lease to end.
    """
    holder, pauses = secrets.token_hex(8), _Pauses(room.settings.sweep_interval_s)
    whole_at = room.clock() + int(room.settings.orphan_interval_s * 1_000_000)

    held_at = float("-inf")

    def going() -> bool:
        nonlocal held_at
        if stop.is_set():
            return False
        if time.monotonic() - held_at < LEASE_S / 10:  # asked before each object: not each time a commit
            return True
        if not room.index.hold(LEASE, holder, LEASE_S):
            return False
        held_at = time.monotonic()
        return True

    while not stop.wait(room.settings.sweep_interval_s):
        whole = room.clock() >= whole_at
        try:
            if not going():
                continue
            run_once(room, orphans=whole, pauses=pauses, going=going)
        except StoreUnavailable as error:
            _log.warning("sweep could not be done: %s", error)
        except Exception:  # noqa: BLE001 - a defect must not end the sweep of this process for ever
            _log.exception("sweep failed")
        if whole:
            whole_at = room.clock() + int(room.settings.orphan_interval_s * 1_000_000)
    try:
        room.index.let_go(LEASE, holder)
    except StoreUnavailable:
        _log.info("sweep: the lease runs out by itself")
