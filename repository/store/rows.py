"""Rows of the index of documents and the values they stand for; statements on one submission and its documents."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, select, update

from atna.store.prepared import TableRows, insert_rows
from repository.store.protocol import Document, Envelope, Origin, State, Submission, Superseded
from repository.store.tables import documents, submissions

__all__ = [
    "complete_submission",
    "document_of",
    "is_pending",
    "new_rows",
    "same_attempt",
    "sealed_columns",
    "standing_submission",
    "submission_of",
    "write_submission",
]

# Made once: building a statement, and the key it is kept under, costs more than it takes to run.
_STANDING: Final = select(submissions).where(submissions.c.unique_id == bindparam("wanted"))
_STANDING_LOCKED: Final = _STANDING.with_for_update()
_ANSWERED: Final = (
    update(submissions)
    .where(submissions.c.unique_id == bindparam("of"))
    .values(state=State.AVAILABLE.value, attempt=bindparam("by"), answer=bindparam("with_answer"))
)
_AVAILABLE: Final = (
    update(documents)
    .where(
        documents.c.submission_unique_id == bindparam("of"),
        documents.c.attempt == bindparam("by"),
        documents.c.state == State.PENDING.value,
    )
    .values(state=State.AVAILABLE.value, since=bindparam("at"))
)


def is_pending(submission: Submission) -> Any:
    """The submission's row while it is PENDING and this attempt is the last one."""
    s = submissions.c
    return and_(s.unique_id == submission.unique_id, s.attempt == submission.attempt, s.state == State.PENDING.value)


def same_attempt(standing: Submission, replacing: Submission | None) -> bool:
    """Whether what stands is the attempt that is to be replaced."""
    return (
        replacing is not None
        and standing.state in {State.PENDING, State.REMOVED}
        and (standing.attempt, standing.since) == (replacing.attempt, replacing.since)
    )


def standing_submission(connection: Connection, unique_id: str, *, lock: bool = False) -> Submission | None:
    """What stands under a submission set unique id; ``lock`` keeps other writers off it."""
    row = connection.execute(_STANDING_LOCKED if lock else _STANDING, {"wanted": unique_id}).one_or_none()
    return None if row is None else submission_of(row)


def submission_of(row: Any) -> Submission:
    """A row of ``submissions`` as a value."""
    return Submission(
        unique_id=row.unique_id,
        digest=row.digest,
        patient_id=row.patient_id,
        origin=Origin(row.address, row.node, row.reply_to, row.endpoint),
        attempt=row.attempt,
        since=row.since,
        state=State(row.state),
        answer=None if row.answer is None else bytes(row.answer),
        told=bool(row.told),
    )


def complete_submission(connection: Connection, submission: Submission, answer: bytes, now: int) -> None:
    """Submission and documents of this attempt become AVAILABLE."""
    named = {"of": submission.unique_id, "by": submission.attempt}
    connection.execute(_ANSWERED, {**named, "with_answer": answer})
    connection.execute(_AVAILABLE, {**named, "at": now})


def write_submission(connection: Connection, submission: Submission, rows: Sequence[Document], *, fresh: bool) -> None:
    """Insert a submission, or write it over the one that stands, and its documents.

    Rows of staged objects are there and become this submission's. Raises Superseded.
    """
    first, new = new_rows(submission, rows)
    if fresh:
        insert_rows(connection, [first, new])
    else:
        (values,) = first[1]
        connection.execute(update(submissions).where(submissions.c.unique_id == submission.unique_id).values(**values))
        insert_rows(connection, [new])
    d = documents.c
    for row in rows:
        if row.staged:
            mine = and_(d.object_key == row.object_key, d.state == State.STAGING.value)
            written = connection.execute(update(documents).where(mine).values(**_values(row, submission.unique_id)))
            if not written.rowcount:
                raise Superseded(row.object_key)


def new_rows(submission: Submission, rows: Sequence[Document]) -> tuple[TableRows, TableRows]:
    """The row of a submission, and those of its documents that have none yet."""
    values = {
        "unique_id": submission.unique_id,
        "digest": submission.digest,
        "state": submission.state.value,
        "attempt": submission.attempt,
        "since": submission.since,
        "patient_id": submission.patient_id,
        "address": submission.origin.address,
        "node": submission.origin.node,
        "reply_to": submission.origin.reply_to,
        "endpoint": submission.origin.endpoint,
        "told": submission.told,
        "answer": submission.answer,
    }
    # The envelope of a staged row stands already, and may have been wrapped anew since.
    new = [_values(row, submission.unique_id) | sealed_columns(row.envelope) for row in rows if not row.staged]
    return (submissions, [values]), (documents, new)


def _values(row: Document, submission_unique_id: str) -> dict[str, Any]:
    return {
        "object_key": row.object_key,
        "state": row.state.value,
        "since": row.since,
        "attempt": row.attempt,
        "submission_unique_id": submission_unique_id,
        "unique_id": row.unique_id,
        "entry_id": row.entry_id,
        "hash": row.hash,
        "size": row.size,
        "mime_type": row.mime_type,
        "patient_id": row.patient_id,
        "class_code": row.class_code,
        "created": row.created,
    }


def sealed_columns(envelope: Envelope | None) -> dict[str, Any]:
    """The columns of a data key."""
    if envelope is None:
        return {"kek": None, "wrapped_key": None}
    return {"kek": envelope.kek, "wrapped_key": envelope.wrapped}


def document_of(row: Any) -> Document:
    """A row of ``documents`` as a value."""
    return Document(
        object_key=row.object_key,
        unique_id=row.unique_id,
        entry_id=row.entry_id,
        hash=row.hash,
        size=row.size,
        mime_type=row.mime_type,
        patient_id=row.patient_id,
        attempt=row.attempt,
        since=row.since,
        state=State(row.state),
        envelope=None if row.kek is None else Envelope(row.kek, bytes(row.wrapped_key)),
        class_code=row.class_code,
        created=row.created,
    )
