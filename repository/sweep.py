"""What a crash left behind: submissions without an outcome, uploads without a message, objects without a row.

Nothing here guesses: a pending submission is asked about at the registry (``repository.resolution``). Objects without
a row cannot come into being by a crash (the row is durable first); they mean that the database is not the one the store
belongs to, e.g. an older copy of it. So only a few and old ones are removed; many are left alone and reported.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from repository.resolution import Resolution, resolve, window
from repository.room import Room
from repository.store.protocol import StoredObject, StoreUnavailable

__all__ = ["Report", "run", "run_once"]

MOST_ORPHANS: Final = 100
"""More objects without a row than this are no leftovers: none of them is removed."""
ORPHAN_AGE: Final = 3_600_000_000
"""An object without a row is removed when it is older than this (microseconds)."""
RETRIED_FOR: Final = 3_600_000_000
"""An object that the store does not delete is tried again at every sweep for this time (microseconds), then only when
the whole store is looked at: a locked one would be asked for in vain every few seconds, for years."""
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
    """

    completed: int = 0
    removed: int = 0
    undecided: int = 0
    damaged: int = 0
    discarded: int = 0
    orphans: int = 0
    orphans_removed: int = 0

    @property
    def quiet(self) -> bool:
        """Whether there was nothing to tell."""
        return self == Report()


def run_once(room: Room, *, orphans: bool = True, staging_age_s: float | None = None) -> Report:
    """One sweep; ``orphans``: compare the whole store with the index as well. Raises StoreUnavailable.

    ``staging_age_s`` overrides the setting: 0 only while no process of this repository is serving.
    """
    now = room.clock()
    resolved = Counter(resolve(room, submission) for submission in room.index.unresolved(now - window(room)))
    age_s = room.settings.staging_age_s if staging_age_s is None else staging_age_s
    removing_after = 0 if orphans else now - RETRIED_FOR
    discarded = room.index.discard(now - int(age_s * 1_000_000), now - window(room), removing_after)
    gone = [key for key in discarded if room.remove([key])]
    room.index.forget(gone)
    found, removed = _orphans(room, now) if orphans else (0, 0)
    report = Report(
        completed=resolved[Resolution.FOUND],
        removed=resolved[Resolution.ABSENT],
        undecided=resolved[Resolution.UNKNOWN],
        damaged=resolved[Resolution.DAMAGED],
        discarded=len(gone),
        orphans=found,
        orphans_removed=removed,
    )
    if not report.quiet:
        _log.info("sweep: %s", report)
    return report


def _orphans(room: Room, now: int) -> tuple[int, int]:
    """(objects without a row, how many of them were removed)."""
    found: list[StoredObject] = []
    for batch in _batches(room.store.objects()):
        known = room.index.known([stored.key for stored in batch])
        found += [stored for stored in batch if stored.key not in known]
    if len(found) > MOST_ORPHANS:
        _log.error(
            "%s objects in the document store are not in the index; none is removed: is this the right database?",
            len(found),
        )
        return len(found), 0
    old = [stored.key for stored in found if now - stored.modified > ORPHAN_AGE]
    return len(found), len([key for key in old if room.remove([key])])


def _batches(objects: Iterator[StoredObject]) -> Iterator[list[StoredObject]]:
    while batch := list(islice(objects, BATCH)):
        yield batch


def run(room: Room, stop: threading.Event) -> None:
    """Sweep every ``sweep_interval_s`` until ``stop``; the whole store every ``orphan_interval_s``."""
    whole_at = room.clock() + int(room.settings.orphan_interval_s * 1_000_000)
    while not stop.wait(room.settings.sweep_interval_s):
        whole = room.clock() >= whole_at
        if whole:
            whole_at = room.clock() + int(room.settings.orphan_interval_s * 1_000_000)
        try:
            run_once(room, orphans=whole)
        except StoreUnavailable as error:
            _log.warning("sweep could not be done: %s", error)
        except Exception:  # noqa: BLE001 - a defect must not end the sweep of this process for ever
            _log.exception("sweep failed")
