"""How far the scrub has read and what it found, in the database of the index. Times: microseconds since 1970, UTC."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from repository.store.protocol import Document, State
from repository.store.rows import document_of
from repository.store.sql import SqlIndex
from repository.store.tables import documents, scrub, scrub_findings

__all__ = ["Finding", "Findings", "Progress", "ScrubBook"]

NAME: Final = "documents"


class Finding(StrEnum):
    """What is wrong with an object.

    MISSING      it is not in the store
    WRONG_SIZE   it has another size than its row says
    WRONG_HASH   it has other bytes than were provided
    UNREADABLE   sealed: it does not open under its data key, or that not under its key-encryption key
    NO_KEY       sealed: its key-encryption key is not at hand
    UNANSWERED   not found wrong: the store did not answer for it, and is asked again before the pass ends
    """

    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    WRONG_HASH = "wrong hash"
    UNREADABLE = "unreadable"
    NO_KEY = "no key"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Findings:
    """One object that is not right. ``other_copy``: another whole one of the document exists, ITI-43 gives that."""

    object_key: str
    unique_id: str
    finding: Finding
    other_copy: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """A pass over all documents, in the order of their object keys: done up to ``after``.

    ``verified`` documents were right, ``bytes`` were read. ``ended_at`` is None while it is under way; ``full_at`` is
    when the last one ended, this or the one before.
    """

    began_at: int
    after: str = ""
    verified: int = 0
    bytes: int = 0
    ended_at: int | None = None
    full_at: int | None = None


class ScrubBook:
    """Every call is one transaction, durable when it returns, and may raise StoreUnavailable."""

    def __init__(self, index: SqlIndex) -> None:
        self._index: Final = index

    def progress(self) -> Progress | None:
        """The last pass, ended or not; None before the first."""
        with self._index._reading() as connection:
            row = connection.execute(select(scrub).where(scrub.c.name == NAME)).one_or_none()
        if row is None:
            return None
        return Progress(row.began_at, row.after, row.verified, row.bytes, row.ended_at, row.full_at)

    def begin(self, now: int) -> Progress:
        """A new pass. What was found wrong stays until it is looked at again."""
        fresh = {"began_at": now, "ended_at": None, "after": "", "verified": 0, "bytes": 0}

        def work(connection: Connection) -> Progress:
            if not connection.execute(update(scrub).where(scrub.c.name == NAME).values(fresh)).rowcount:
                connection.execute(insert(scrub).values(name=NAME, **fresh))
            return Progress(now)

        return self._index._write(work)

    def next(self, after: str, limit: int) -> tuple[Document, ...]:
        """AVAILABLE documents after an object key, in order of their keys."""
        d = documents.c
        statement = select(documents).where(d.state == State.AVAILABLE.value, d.object_key > after)
        with self._index._reading() as connection:
            rows = connection.execute(statement.order_by(d.object_key).limit(limit)).all()
        return tuple(document_of(row) for row in rows)

    def available(self, object_key: str) -> Document | None:
        """The document if its row is (still) AVAILABLE."""
        d = documents.c
        statement = select(documents).where(d.object_key == object_key, d.state == State.AVAILABLE.value)
        with self._index._reading() as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else document_of(row)

    def advance(self, progress: Progress, looked_at: Sequence[str], found: Sequence[Findings], now: int) -> None:
        """Note where the pass stands now: of the objects ``looked_at`` those ``found`` are not right, the rest is."""
        f = scrub_findings.c

        def work(connection: Connection) -> None:
            values = {"after": progress.after, "verified": progress.verified, "bytes": progress.bytes}
            connection.execute(update(scrub).where(scrub.c.name == NAME).values(values))
            if looked_at:
                connection.execute(delete(scrub_findings).where(f.object_key.in_(list(looked_at))))
            for one in found:
                connection.execute(
                    insert(scrub_findings).values(
                        object_key=one.object_key,
                        unique_id=one.unique_id,
                        finding=one.finding.value,
                        other_copy=one.other_copy,
                        found_at=now,
                    )
                )

        self._index._write(work)

    def end(self, progress: Progress, now: int) -> None:
        """The pass is done. What it did not find again, since its row is gone, is no finding any more."""

        def work(connection: Connection) -> None:
            connection.execute(update(scrub).where(scrub.c.name == NAME).values(ended_at=now, full_at=now))
            connection.execute(delete(scrub_findings).where(scrub_findings.c.found_at < progress.began_at))

        self._index._write(work)

    def findings(self) -> tuple[Findings, ...]:
        """All that stands, by object key."""
        with self._index._reading() as connection:
            rows = connection.execute(select(scrub_findings).order_by(scrub_findings.c.object_key)).all()
        return tuple(
            Findings(row.object_key, row.unique_id, Finding(row.finding), bool(row.other_copy)) for row in rows
        )
