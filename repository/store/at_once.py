"""The two steps every submission takes, each in one statement of PostgreSQL that is a transaction by itself.

Nothing stands in the way of most submissions. Where something does, these write nothing and say so, and the caller
looks at what stands, with a lock. A statement whose answer is lost is never sent twice: run again it would meet what it
wrote itself.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Dialect,
    LargeBinary,
    Select,
    Text,
    bindparam,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from atna.store.engine import DRIVER_ERRORS, is_lost_race
from atna.store.prepared import Prepared
from atna.store.quick import Quick
from repository.store.protocol import Document, State, Submission
from repository.store.rows import new_rows
from repository.store.tables import documents, outbox, submissions

__all__ = ["claimed", "completed"]

_PENDING, _AVAILABLE = State.PENDING.value, State.AVAILABLE.value


def claimed(quick: Quick, submission: Submission, rows: Sequence[Document]) -> bool:
    """Write a submission and its documents, none of them staged; False where its unique id is in use."""
    try:
        quick.insert(new_rows(submission, rows), once=True)
    except DRIVER_ERRORS as error:
        if is_lost_race(error):
            return False
        raise
    return True


def completed(
    quick: Quick, submission: Submission, answer: bytes, now: int, records: Sequence[Mapping[str, Any]]
) -> bool:
    """A PENDING submission with this digest, and this attempt's documents, become AVAILABLE, with rows of the outbox.

    False where there is none such, or where it fell victim to a deadlock with whoever changes many documents at once
    (new keys, the sweep): nothing of it was kept then.
    """
    values = {
        "of": submission.unique_id,
        "said": submission.digest,
        "by": submission.attempt,
        "with_answer": answer,
        "at": now,
        "written_at": records[0]["created_at"] if records else now,
        "sinks": [row["sink"] for row in records],
        "messages": [row["message"] for row in records],
    }
    try:
        return bool(quick.change(_completion(quick.dialect), values))
    except DRIVER_ERRORS as error:
        if is_lost_race(error):
            return False
        raise


@cache
def _completion(dialect: Dialect) -> Prepared:
    return Prepared(_COMPLETION, dialect)


def _written() -> "Select[tuple[str]]":
    d, s = documents.c, submissions.c
    done = (
        update(submissions)
        .where(s.unique_id == bindparam("of"), s.digest == bindparam("said"), s.state == _PENDING)
        .values(state=_AVAILABLE, attempt=bindparam("by"), answer=bindparam("with_answer"))
        .returning(s.unique_id)
        .cte("done")
    )
    is_done = exists(select(done.c.unique_id))
    mine = (d.submission_unique_id == bindparam("of"), d.attempt == bindparam("by"), d.state == _PENDING)
    shown = update(documents).where(*mine, is_done).values(state=_AVAILABLE, since=bindparam("at")).cte("shown")
    arrays = bindparam("sinks", type_=ARRAY(Text)), bindparam("messages", type_=ARRAY(LargeBinary))
    record = func.unnest(*arrays).table_valued("sink", "message").render_derived("record").c
    each = select(record.sink, bindparam("written_at", type_=BigInteger), record.message).where(is_done)
    recorded = insert(outbox).from_select(["sink", "created_at", "message"], each).cte("recorded")
    return select(done.c.unique_id).add_cte(shown, recorded)


_COMPLETION: Final = _written()
