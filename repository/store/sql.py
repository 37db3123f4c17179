"""The index of documents in SQLite or PostgreSQL, by SQLAlchemy Core; the same statements on both."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection, Engine, and_, case, delete, exists, func, insert, or_, select, update

from atna.store.engine import DRIVER_ERRORS, is_disk_full, open_engine, reading, write
from atna.store.outbox import GroupCommit, NotRecorded, Outbox, OutboxUnavailable, add, rows_of
from atna.store.quick import Quick
from repository.store.at_once import claimed, completed
from repository.store.protocol import Document, Envelope, State, StoreUnavailable, Submission, Superseded
from repository.store.rows import (
    complete_submission,
    document_of,
    is_pending,
    same_attempt,
    sealed_columns,
    standing_submission,
    submission_of,
    write_submission,
)
from repository.store.tables import documents, metadata, outbox, submissions

__all__ = ["SqlIndex", "open_index"]

T = TypeVar("T")

_REMOVING: Final[dict[str, Any]] = {"state": State.REMOVING.value, "kek": None, "wrapped_key": None}
"""Whatever becomes of the object, nobody reads it any more: its data key is destroyed in the same commit."""

_BATCH: Final = 500
"""Values in one IN list; SQLite takes 32,766, PostgreSQL 65,535."""


def open_index(database_url: str, sinks: Sequence[str], max_rows: int) -> "SqlIndex":
    """The index in this database, its tables made where it is empty. Raises DatabaseRefused, StoreUnavailable."""
    with translated():
        return SqlIndex(open_engine(database_url, metadata), sinks, max_rows)


@contextmanager
def translated() -> Iterator[None]:
    """What SQLAlchemy or the driver raises becomes ``StoreUnavailable``; its text holds no statement and no value."""
    try:
        yield
    except DRIVER_ERRORS as error:
        full = is_disk_full(error)
        name = type(getattr(error, "orig", None) or error).__name__
        reason = "no room left in the database" if full else f"database: {name}"
        raise StoreUnavailable(reason, full=full) from error


@contextmanager
def _outbox_asked() -> Iterator[None]:
    try:
        yield
    except OutboxUnavailable as error:
        raise StoreUnavailable("the outbox of audit records does not answer") from error


class SqlIndex:
    """``repository.store.protocol.DocumentIndex``; ``sinks`` are where audit records are to go."""

    def __init__(self, engine: Engine, sinks: Sequence[str], max_rows: int) -> None:
        self._engine = engine
        self._sinks = tuple(sinks)
        self.outbox = Outbox(engine, outbox, sinks, max_rows)
        self._group = GroupCommit(engine, outbox, sinks)
        self._quick = Quick(engine) if engine.dialect.name == "postgresql" else None

    def close(self) -> None:
        """Close every pooled connection."""
        if self._quick is not None:
            self._quick.close()
        self._engine.dispose()

    def check(self) -> bool:
        """Whether the database answers."""
        with self._reading() as connection:
            return connection.execute(select(1)).scalar() == 1

    def _write(self, work: Callable[[Connection], T]) -> T:
        with translated():
            return write(self._engine, work)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), reading(self._engine) as connection:
            yield connection

    # ------------------------------------------------------------------------------------------------ uploads

    def stage(self, object_key: str, now: int, envelope: Envelope | None = None) -> None:
        """A row in state STAGING."""
        row = {"object_key": object_key, "state": State.STAGING.value, "since": now, **sealed_columns(envelope)}

        def work(connection: Connection) -> None:
            connection.execute(insert(documents).values(row))

        self._write(work)

    def unstage(self, object_key: str) -> None:
        """Forget a row in state STAGING."""
        d = documents.c

        def work(connection: Connection) -> None:
            connection.execute(delete(documents).where(d.object_key == object_key, d.state == State.STAGING.value))

        self._write(work)

    def leave(self, object_key: str, now: int) -> None:
        """A row in state STAGING becomes REMOVING."""
        d = documents.c
        mine = and_(d.object_key == object_key, d.state == State.STAGING.value)

        def work(connection: Connection) -> None:
            connection.execute(update(documents).where(mine).values(**_REMOVING, since=now))

        self._write(work)

    # -------------------------------------------------------------------------------------------- submissions

    def claim(
        self, submission: Submission, rows: Sequence[Document], *, replacing: Submission | None = None
    ) -> Submission | None:
        """Write a submission and its documents as PENDING, or say what stands there."""
        if self._quick is not None and replacing is None and not any(row.staged for row in rows):
            with translated():
                if claimed(self._quick, submission, rows):
                    return None

        def work(connection: Connection) -> Submission | None:
            standing = standing_submission(connection, submission.unique_id, lock=True)
            if standing is not None and not same_attempt(standing, replacing):
                return standing
            write_submission(connection, submission, rows, fresh=standing is None)
            return None

        return self._write(work)

    def touch(self, submission: Submission, now: int) -> None:
        """Move ``since`` of this attempt."""
        d = documents.c

        def work(connection: Connection) -> None:
            changed = connection.execute(update(submissions).where(is_pending(submission)).values(since=now)).rowcount
            if not changed:
                raise Superseded(submission.attempt)
            mine = and_(d.submission_unique_id == submission.unique_id, d.attempt == submission.attempt)
            connection.execute(update(documents).where(mine).values(since=now))

        self._write(work)

    def told(self, submission: Submission, messages: Sequence[bytes]) -> None:
        """Remember that the source was told that the outcome is unknown."""

        def work(connection: Connection) -> None:
            connection.execute(update(submissions).where(is_pending(submission)).values(told=True))
            add(connection, outbox, messages, self._sinks)

        self._write(work)

    def complete(
        self,
        submission: Submission,
        answer: bytes,
        messages: Sequence[bytes],
        now: int,
        *,
        anyway: Sequence[bytes] = (),
    ) -> Submission:
        """Submission and documents of this attempt become AVAILABLE, with their audit records."""
        if self._quick is not None:
            records = rows_of([*anyway, *messages], self._sinks)
            with translated():
                if completed(self._quick, submission, answer, now, records):
                    return replace(submission, state=State.AVAILABLE, answer=answer)

        def work(connection: Connection) -> Submission:
            standing = standing_submission(connection, submission.unique_id, lock=True)
            if standing is None or standing.digest != submission.digest:
                raise Superseded(submission.attempt)
            add(connection, outbox, anyway, self._sinks)
            if standing.state is not State.PENDING:
                return standing
            complete_submission(connection, submission, answer, now)
            add(connection, outbox, messages, self._sinks)
            return replace(standing, state=State.AVAILABLE, attempt=submission.attempt, answer=answer)

        return self._write(work)

    def abandon(
        self,
        submission: Submission,
        messages: Sequence[bytes],
        *,
        earlier: Submission | None = None,
        left_at: int | None = None,
    ) -> Submission | None:
        """Forget this attempt; the submission too unless another attempt stands."""
        d = documents.c

        def work(connection: Connection) -> Submission | None:
            if earlier is None:
                connection.execute(delete(submissions).where(is_pending(submission)))
            else:
                back = {"attempt": earlier.attempt, "since": earlier.since}
                connection.execute(update(submissions).where(is_pending(submission)).values(**back))
            mine = and_(
                d.submission_unique_id == submission.unique_id,
                d.attempt == submission.attempt,
                d.state == State.PENDING.value,
            )
            if left_at is None:
                connection.execute(delete(documents).where(mine))
            else:
                connection.execute(update(documents).where(mine).values(**_REMOVING, since=left_at))
            add(connection, outbox, messages, self._sinks)
            return standing_submission(connection, submission.unique_id)

        return self._write(work)

    def release(self, submission: Submission, messages: Sequence[bytes]) -> bool:
        """Forget a PENDING submission; its documents become REMOVING."""
        d, s = documents.c, submissions.c

        def work(connection: Connection) -> bool:
            gone = connection.execute(delete(submissions).where(is_pending(submission), s.since == submission.since))
            if not gone.rowcount:
                return False
            theirs = and_(d.submission_unique_id == submission.unique_id, d.state == State.PENDING.value)
            connection.execute(update(documents).where(theirs).values(_REMOVING))
            add(connection, outbox, messages, self._sinks)
            return True

        return self._write(work)

    def remove(self, object_keys: Sequence[str], messages: Sequence[bytes], now: int) -> None:
        """Documents become REMOVING and their submissions REMOVED, with the audit records."""
        d, s = documents.c, submissions.c

        def work(connection: Connection) -> None:
            for start in range(0, len(object_keys), _BATCH):
                chosen = d.object_key.in_(list(object_keys[start : start + _BATCH]))
                wanted = and_(chosen, d.state == State.AVAILABLE.value)
                theirs = s.unique_id.in_(select(d.submission_unique_id).where(wanted))
                done = and_(theirs, s.state == State.AVAILABLE.value)  # one that is being sent again goes its own way
                connection.execute(update(submissions).where(done).values(state=State.REMOVED.value, answer=None))
                gone = connection.execute(update(documents).where(wanted).values(**_REMOVING, since=now))
                if gone.rowcount != len(object_keys[start : start + _BATCH]):
                    raise Superseded("a document was removed by somebody else")
            add(connection, outbox, messages, self._sinks)

        self._write(work)

    # ------------------------------------------------------------------------------------------------ reading

    def submission(self, unique_id: str) -> Submission | None:
        """What stands under a submission set unique id."""
        with self._reading() as connection:
            return standing_submission(connection, unique_id)

    def documents_of(self, submission_unique_id: str) -> tuple[Document, ...]:
        """Rows of every attempt, oldest first."""
        d = documents.c
        statement = select(documents).where(
            d.submission_unique_id == submission_unique_id,
            d.state.in_([State.PENDING.value, State.AVAILABLE.value]),
        )
        return self._documents(statement)

    def available(self, unique_ids: Sequence[str]) -> tuple[Document, ...]:
        """Rows in state AVAILABLE of these documents, oldest first."""
        d = documents.c
        wanted = list(dict.fromkeys(unique_ids))
        found: list[Document] = []
        for start in range(0, len(wanted), _BATCH):
            chosen = d.unique_id.in_(wanted[start : start + _BATCH])
            found += self._documents(select(documents).where(chosen, d.state == State.AVAILABLE.value))
        return tuple(found)

    def due(
        self, class_code: str, after: Literal["creation", "stored"], before: int, beyond: str, limit: int
    ) -> tuple[Document, ...]:
        """AVAILABLE documents of a class that were created or stored before a time, page by page."""
        d = documents.c
        old = (d.created if after == "creation" else d.since) < before
        mine = and_(d.class_code == class_code, d.object_key > beyond, d.state == State.AVAILABLE.value, old)
        with self._reading() as connection:
            rows = connection.execute(select(documents).where(mine).order_by(d.object_key).limit(limit)).all()
        return tuple(document_of(row) for row in rows)

    def unjudged(self, class_code: str | None) -> int:
        """How many AVAILABLE documents say nothing of their creation, or of their class."""
        d = documents.c
        unsaid = d.class_code.is_(None) if class_code is None else and_(d.class_code == class_code, d.created.is_(None))
        with self._reading() as connection:
            counted = select(func.count()).select_from(documents).where(unsaid, d.state == State.AVAILABLE.value)
            return int(connection.execute(counted).scalar_one())

    def _documents(self, statement: Any) -> tuple[Document, ...]:
        d = documents.c
        with self._reading() as connection:
            rows = connection.execute(statement.order_by(d.since, d.object_key)).all()
        return tuple(document_of(row) for row in rows)

    def unresolved(self, before: int) -> tuple[Submission, ...]:
        """PENDING submissions whose last attempt began before a time."""
        s = submissions.c
        statement = select(submissions).where(s.state == State.PENDING.value, s.since < before).order_by(s.since)
        with self._reading() as connection:
            return tuple(submission_of(row) for row in connection.execute(statement))

    def known(self, object_keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys have a row."""
        found: set[str] = set()
        with self._reading() as connection:
            for start in range(0, len(object_keys), _BATCH):
                wanted = documents.c.object_key.in_(list(object_keys[start : start + _BATCH]))
                found.update(connection.execute(select(documents.c.object_key).where(wanted)).scalars())
        return frozenset(found)

    # ---------------------------------------------------------------------------------------------- data keys

    def key_counts(self) -> dict[str | None, int]:
        """Rows by the name of the key their data key is wrapped under, None for plain bytes."""
        d = documents.c
        standing = d.state != State.REMOVING.value
        with self._reading() as connection:
            rows = connection.execute(select(d.kek, func.count().label("objects")).where(standing).group_by(d.kek))
            return {row.kek: row.objects for row in rows}

    def sealed_otherwise(self, kek: str, after: str, limit: int) -> tuple[tuple[str, Envelope], ...]:
        """Objects whose data key is wrapped under another key, in order of their keys."""
        d = documents.c
        wanted = select(d.object_key, d.kek, d.wrapped_key).where(
            d.kek.is_not(None), d.kek != kek, d.object_key > after
        )
        with self._reading() as connection:
            rows = connection.execute(wanted.order_by(d.object_key).limit(limit)).all()
        return tuple((row.object_key, Envelope(row.kek, bytes(row.wrapped_key))) for row in rows)

    def rewrap(self, changes: Sequence[tuple[str, Envelope, Envelope]]) -> int:
        """Put new envelopes in the place of old ones that still stand."""
        d = documents.c

        def work(connection: Connection) -> int:
            changed = 0
            for object_key, old, new in changes:
                # The wrapped bytes tell a destroyed or renewed key from the one that was read.
                mine = and_(d.object_key == object_key, d.kek == old.kek, d.wrapped_key == old.wrapped)
                changed += connection.execute(update(documents).where(mine).values(**sealed_columns(new))).rowcount
            return changed

        return self._write(work)

    # ---------------------------------------------------------------------------------------------- the sweep

    def discard(self, staged_before: int, left_before: int, removing_after: int = 0) -> tuple[str, ...]:
        """Mark rows nobody will claim as REMOVING; returns the keys of all that are since a time."""
        d, s = documents.c, submissions.c
        wanted = exists().where(
            s.unique_id == d.submission_unique_id,
            or_(s.state == State.PENDING.value, s.attempt == d.attempt),
        )
        staged = and_(d.state == State.STAGING.value, d.since < staged_before)
        left = and_(d.state == State.PENDING.value, d.since < left_before, ~wanted)

        def work(connection: Connection) -> tuple[str, ...]:
            # Tried for a while from now on; of a young upload the object may still appear, it keeps its time.
            since = case((d.since < left_before, left_before), else_=d.since)
            connection.execute(update(documents).where(or_(staged, left)).values(**_REMOVING, since=since))
            removing = select(d.object_key).where(d.state == State.REMOVING.value, d.since >= removing_after)
            return tuple(connection.execute(removing).scalars())

        return self._write(work)

    def forget(self, object_keys: Sequence[str], *, left_before: int | None = None) -> int:
        """Delete rows in state REMOVING; returns how many."""
        d = documents.c
        removing = d.state == State.REMOVING.value
        old = removing if left_before is None else and_(removing, d.since <= left_before)

        def work(connection: Connection) -> int:
            count = 0
            for start in range(0, len(object_keys), _BATCH):
                gone = d.object_key.in_(list(object_keys[start : start + _BATCH]))
                count += connection.execute(delete(documents).where(gone, old)).rowcount
            return count

        return self._write(work)

    def hold(self, lease: str, holder: str, duration_s: float) -> bool:
        """Become or remain the only process that does some work; False while another one is."""
        with _outbox_asked():
            return self.outbox.hold_lease(holder, duration_s, name=lease)

    def let_go(self, lease: str, holder: str) -> None:
        """Let the next one begin at once."""
        with _outbox_asked():
            self.outbox.release_lease(holder, name=lease)

    # -------------------------------------------------------------------------------------------------- audit

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records of a request that changed nothing, grouped with those of others."""
        try:
            self._group.commit(messages)
        except NotRecorded as refused:
            with translated():
                raise (refused.__cause__ or refused) from refused

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound."""
        with _outbox_asked():
            return self.outbox.full()
