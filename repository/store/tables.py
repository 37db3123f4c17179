"""The repository's tables: what lies in the store, whose submission it came with, and the audit outbox.

Times are microseconds since 1970, UTC. ``attempt`` names one try to register a submission; every try has its own
objects, so that two tries at once never touch each other's (see ``repository.registration``).
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, MetaData, String, Table, Text

from atna.store.outbox import outbox_table
from repository.store.protocol import State

__all__ = ["documents", "metadata", "outbox", "scrub", "scrub_findings", "submissions"]

metadata: Final = MetaData(info={"room": "repository", "version": 4})

documents: Final = Table(
    "documents",
    metadata,
    Column("object_key", String(32), primary_key=True),
    Column("state", String(9), nullable=False),
    Column("since", BigInteger, nullable=False),
    # Empty while the object is being uploaded: its metadata may come later in the message.
    Column("attempt", String(32)),
    Column("submission_unique_id", Text),
    Column("unique_id", Text),
    Column("entry_id", Text),
    Column("hash", String(40)),
    Column("size", BigInteger),
    Column("mime_type", Text),
    Column("patient_id", Text),
    # The data key of a sealed object, wrapped; both empty for plain bytes, and once the key is destroyed.
    Column("kek", Text),
    Column("wrapped_key", LargeBinary),
    # For retention rules, as submitted: code^^scheme, and the end of creationTime's precision.
    Column("class_code", Text),
    Column("created", BigInteger),
)
Index("documents_by_class", documents.c.class_code, documents.c.object_key)
Index("documents_by_unique_id", documents.c.unique_id)
Index("documents_by_submission", documents.c.submission_unique_id)
_waiting: Final = documents.c.state != State.AVAILABLE.value
Index("documents_waiting", documents.c.since, sqlite_where=_waiting, postgresql_where=_waiting)

submissions: Final = Table(
    "submissions",
    metadata,
    Column("unique_id", Text, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("state", String(9), nullable=False),
    Column("attempt", String(32), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("patient_id", Text),
    Column("address", Text, nullable=False),
    Column("node", Text),
    Column("reply_to", Text),
    Column("endpoint", Text, nullable=False),
    Column("told", Boolean, nullable=False),
    Column("answer", LargeBinary),
)
_unresolved: Final = submissions.c.state == State.PENDING.value
Index("submissions_unresolved", submissions.c.since, sqlite_where=_unresolved, postgresql_where=_unresolved)

# One row: where the reading of all documents stands. ``ended_at`` is empty while a pass is under way.
scrub: Final = Table(
    "scrub",
    metadata,
    Column("name", Text, primary_key=True),
    Column("began_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("full_at", BigInteger),
    Column("after", String(32), nullable=False),
    Column("verified", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
scrub_findings: Final = Table(
    "scrub_findings",
    metadata,
    Column("object_key", String(32), primary_key=True),
    Column("unique_id", Text, nullable=False),
    Column("finding", String(12), nullable=False),
    Column("other_copy", Boolean, nullable=False),
    Column("found_at", BigInteger, nullable=False),
)

outbox: Final = outbox_table(metadata)
