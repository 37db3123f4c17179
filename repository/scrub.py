"""Every document read back and verified, at a bounded rate: damage is found while there is still a backup to heal it.

Documents are read in the order of their object keys. What was done is durable every few seconds, so whoever goes on,
by hand or by the clock, goes on where the last one stopped, or died. What is not right is read a second time before it
is called damaged; a store that does not answer damages nothing: the object is tried again before the pass ends.

Nobody is shown what is read: no byte and no patient leaves the process. So there is no audit record of a scrub, as
there is none of a backup; what it finds stands in the log, the metrics and the report of ``dossier store scrub``.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from prometheus_client import Counter, Gauge

from repository.reading import is_there, verified
from repository.room import Room
from repository.store.protocol import Damaged, Document, KeyMissing, ObjectMissing, StoreUnavailable
from repository.store.scrub_book import Finding, Findings, Progress, ScrubBook

__all__ = ["Report", "Scrub", "ScrubBusy", "report_of", "run", "run_pass"]

BATCH: Final = 100
CHECKPOINT_S: Final = 5.0
"""So much reading at most is done again after a death, beside the document it died in."""
MOST_UNANSWERED: Final = 3
"""So many objects in a row without an answer: the store is away, and the pass waits."""
LEASE: Final = "scrub"
LEASE_S: Final = 60.0
LOOK_S: Final = 60.0
"""How often the clock is asked whether a new pass is due."""

_log = logging.getLogger(__name__)

VERIFIED: Final = Counter("dossier_scrub_verified", "Documents that were read back and are right")
READ: Final = Counter("dossier_scrub_bytes", "Bytes of documents that were read back")
DAMAGED: Final = Gauge("dossier_scrub_damaged", "Objects that are missing or not right", multiprocess_mode="livemax")
FULL_PASS: Final = Gauge(
    "dossier_scrub_last_full_pass_timestamp_seconds",
    "When every document had been read back for the last time, 0 if never",
    multiprocess_mode="livemax",
)


_GONE: Final = Findings("", "", Finding.MISSING)


class ScrubBusy(Exception):  # noqa: N818 - an outcome
    """Another process is scrubbing."""


class _Ended(Exception):  # noqa: N818 - an outcome
    """The process has to end, or another one holds the lease now."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a pass stands. Times are microseconds since 1970, UTC.

    complete     every document was looked at
    verified     documents that were right, in the whole pass; ``bytes`` were read for it
    damaged      objects that are not right, also those a pass before found and this one has not reached yet
    unanswered   objects the store did not answer for: nothing is known of them
    """

    complete: bool
    began_at: int
    verified: int
    bytes: int
    damaged: tuple[Findings, ...]
    unanswered: tuple[Findings, ...]

    @property
    def right(self) -> bool:
        """Whether every document there is was verified."""
        return self.complete and not self.damaged and not self.unanswered


class _Pace:
    """Holds reading down to a rate; raises _Ended when ``going`` says so."""

    def __init__(
        self,
        bytes_per_s: float,
        going: Callable[[], bool],
        wait: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._going = going
        self._wait = wait
        self._clock = clock
        self._began = clock()
        self._read = 0
        self._asked = float("-inf")

    def took(self, count: int) -> None:
        """So many bytes were read."""
        self._read += count
        self.check()
        while (ahead := self._read / self._bytes_per_s - (self._clock() - self._began)) > 0:
            self._wait(min(ahead, LEASE_S / 10))
            self.check()
        if ahead < -1:  # time in which the store was slower than the rate is not caught up
            self._began, self._read = self._clock(), 0

    def check(self) -> None:
        """Whether to go on; the lease is renewed from time to time."""
        if self._clock() - self._asked > LEASE_S / 10:
            self._asked = self._clock()
            if not self._going():
                raise _Ended


class Scrub:
    """One process's share of a pass over all documents."""

    def __init__(self, room: Room, book: ScrubBook, pace: _Pace) -> None:
        self._room: Final = room
        self._book: Final = book
        self._pace: Final = pace
        self._in_a_row = 0

    def step(self, progress: Progress) -> Progress:
        """The next documents; ``ended_at`` is set after the last. Raises StoreUnavailable, _Ended."""
        batch = self._book.next(progress.after, BATCH)
        if not batch:
            return self._end(progress)
        return self._look_at(progress, batch, moving=True)

    def _look_at(self, progress: Progress, batch: tuple[Document, ...], *, moving: bool) -> Progress:
        """``moving``: the batch is the next in order, and the pass stands behind what was looked at afterwards."""
        began, looked_at, found = time.monotonic(), list[str](), list[Findings]()
        for document in batch:
            self._pace.check()
            finding = self._finding(document)
            looked_at.append(document.object_key)
            if finding is _GONE:
                continue
            if finding is None:
                progress = replace(progress, verified=progress.verified + 1, bytes=progress.bytes + document.size)
                VERIFIED.inc()
            else:
                found.append(finding)
            away = self._in_a_row >= MOST_UNANSWERED
            if moving and (away or time.monotonic() - began > CHECKPOINT_S):
                break
        if moving:
            progress = replace(progress, after=looked_at[-1])
        self._book.advance(progress, looked_at, found, self._room.clock())
        if moving and self._in_a_row >= MOST_UNANSWERED:
            raise StoreUnavailable("the document store does not answer; what was verified is kept")
        return progress

    def _end(self, progress: Progress) -> Progress:
        """What the store did not answer for is tried once more."""
        left = [one.object_key for one in self._book.findings() if one.finding is Finding.UNANSWERED]
        for key in left:
            document = self._book.available(key)
            if document is not None:
                progress = self._look_at(progress, (document,), moving=False)
        now = self._room.clock()
        self._book.end(progress, now)
        return replace(progress, ended_at=now)

    # ---------------------------------------------------------------------------------------------- one document

    def _finding(self, document: Document) -> Findings | None:
        """What is wrong with a document, twice looked at; None if it is right, _GONE if it is no document any more."""
        try:
            wrong = self._wrong(document) and self._wrong(document)
            self._in_a_row = 0
        except StoreUnavailable as error:
            _log.warning("object %s could not be read back: %s", document.object_key, error)
            self._in_a_row += 1
            return Findings(document.object_key, document.unique_id, Finding.UNANSWERED)
        if wrong is None:
            return None
        now = self._book.available(document.object_key)
        if now is None:
            return _GONE
        if now.envelope != document.envelope:  # its data key was wrapped anew meanwhile
            return self._finding(now)
        other = self._other_copy(document)
        _log.error(
            "object %s of document %s: %s; %s",
            document.object_key,
            document.unique_id,
            wrong.value,
            "another copy of it is whole" if other else "there is no other whole copy",
        )
        return Findings(document.object_key, document.unique_id, wrong, other)

    def _wrong(self, document: Document) -> Finding | None:
        vault = self._room.vault
        try:
            for block in verified(vault, document):
                READ.inc(len(block))
                self._pace.took(len(block))
        except ObjectMissing:
            return Finding.MISSING
        except KeyMissing:
            return Finding.NO_KEY
        except Damaged:
            if not is_there(vault, document):
                return Finding.WRONG_SIZE
            return Finding.WRONG_HASH if document.envelope is None else Finding.UNREADABLE
        return None

    def _other_copy(self, document: Document) -> bool:
        copies = self._room.index.available([document.unique_id])
        others = [one for one in copies if one.object_key != document.object_key and one.hash == document.hash]
        try:
            return any(self._wrong(one) is None for one in others)
        except StoreUnavailable:
            return False


# ------------------------------------------------------------------------------------------------------- a pass


def report_of(book: ScrubBook) -> Report:
    """Where the last pass stands."""
    progress, found = book.progress() or Progress(0), book.findings()
    return Report(
        complete=progress.ended_at is not None,
        began_at=progress.began_at,
        verified=progress.verified,
        bytes=progress.bytes,
        damaged=tuple(one for one in found if one.finding is not Finding.UNANSWERED),
        unanswered=tuple(one for one in found if one.finding is Finding.UNANSWERED),
    )


def run_pass(
    room: Room,
    book: ScrubBook,
    *,
    bytes_per_s: float | None = None,
    anew: bool = False,
    stop: threading.Event | None = None,
    patience_s: float = LEASE_S + 5,
) -> Report:
    """Go on with the pass that is under way, or do a whole one; ``anew``: from the first document in any case.

    ``bytes_per_s`` overrides the setting. Another process at it gives way after its next documents; when it does not
    within ``patience_s``, ScrubBusy. Raises StoreUnavailable when the store is away; what was done is kept. Ends early,
    ``complete`` False, when ``stop`` is set.
    """
    holder, ending = secrets.token_hex(8), stop or threading.Event()
    deadline = time.monotonic() + patience_s
    while not room.index.hold(LEASE, holder, LEASE_S):
        if time.monotonic() > deadline or ending.wait(0.05):
            raise ScrubBusy("another process is reading the documents back; try again later")

    def going() -> bool:
        return not ending.is_set() and room.index.hold(LEASE, holder, LEASE_S)

    pace = _Pace(bytes_per_s or room.settings.scrub_bytes_per_s, going, ending.wait)
    scrub = Scrub(room, book, pace)
    progress = book.progress()
    if progress is None or progress.ended_at is not None or anew:
        progress = book.begin(room.clock())
    try:
        while progress.ended_at is None:
            progress = scrub.step(progress)
    except _Ended:
        _log.info("scrub: ended early, to go on later")
    finally:
        room.index.let_go(LEASE, holder)
    return report_of(book)


# ----------------------------------------------------------------------------------------------------- periodic


def run(room: Room, book: ScrubBook, stop: threading.Event) -> None:
    """Begin a pass every ``scrub_interval_s`` and go on with what was begun, until ``stop``; 0: only count."""
    holder = secrets.token_hex(8)
    while not stop.is_set():
        try:
            _show(book)
            if room.settings.scrub_interval_s and _due(room, book.progress()):
                _take_turns(room, book, stop, holder)
        except StoreUnavailable as error:
            _log.warning("scrub: %s", error)
        except Exception:  # noqa: BLE001 - a defect must not end the scrub of this process for ever
            _log.exception("scrub failed")
        stop.wait(LOOK_S)


def _due(room: Room, progress: Progress | None) -> bool:
    if progress is None or progress.ended_at is None:
        return True
    return room.clock() - progress.began_at >= room.settings.scrub_interval_s * 1_000_000


def _take_turns(room: Room, book: ScrubBook, stop: threading.Event, holder: str) -> None:
    """One step at a time: between two of them whoever scrubs by hand takes over, and is not disturbed."""

    def going() -> bool:
        return not stop.is_set() and room.index.hold(LEASE, holder, LEASE_S)

    scrub = Scrub(room, book, _Pace(room.settings.scrub_bytes_per_s, going, stop.wait))
    try:
        while going():
            progress = book.progress()
            if not _due(room, progress):
                return
            if progress is None or progress.ended_at is not None:
                progress = book.begin(room.clock())
            scrub.step(progress)
            _show(book)
            room.index.let_go(LEASE, holder)
            stop.wait(0.2)
    except _Ended:
        _log.info("scrub: ended early, to go on later")
    finally:
        room.index.let_go(LEASE, holder)


def _show(book: ScrubBook) -> None:
    report = report_of(book)
    DAMAGED.set(len(report.damaged))
    progress = book.progress()
    FULL_PASS.set((progress.full_at if progress is not None and progress.full_at else 0) / 1_000_000)
