"""The tables of the audit service.

``record`` holds each message as it came and its place in the chain; the others are what ITI-81 searches by. Their
primary keys lead with the searched value and then the time, so that each is one tree and a search reads it in order.
They name the record without a foreign key: that would cost every record a look-up for each of its rows, and its removal
a reading of every table; the check of the log compares them with the records instead.

``log_partition`` cuts the log by the month of reception; ``checkpoint`` is what was signed, ``checkpoint_key`` by whom.

Times are microseconds since 1970, UTC. ``event_at`` is a function of the message alone (EventDateTime, else the syslog
timestamp, else 0), so that equal bytes fall on the same key: ``record_once`` finds repeats, and because it leads with
the time it grows at one end. Searched texts are cut to ``INDEXED`` characters, in the tables and in the search.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData(info={"room": "audit", "version": 4})

INDEXED: Final = 256
"""Characters of a searched text that count: an index entry of PostgreSQL holds 2,700 bytes."""

Key: Final = BigInteger().with_variant(Integer, "sqlite")

record: Final = Table(
    "record",
    metadata,
    Column("number", Key, primary_key=True, autoincrement=False),
    Column("event_at", BigInteger, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("chain", LargeBinary(32), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("repeats", Integer, nullable=False, default=0),
    Column("readable", Boolean, nullable=False),
    Column("event_code", String(INDEXED)),
    Column("event_system", String(INDEXED)),
    Column("action", String(1)),
    Column("outcome", SmallInteger),
    Column("source_id", String(INDEXED)),
    # How and from whom it came; NULL for records of before version 2, whose links do not cover it.
    Column("via", Text),
    Column("site_id", String(INDEXED)),
    # Bit n stands for role 110150 + n of DICOM, for ParticipantObjectTypeCode n, for ParticipantObjectTypeCodeRole n.
    Column("agent_roles", SmallInteger, nullable=False, server_default="0"),
    Column("entity_types", Integer, nullable=False, server_default="0"),
    Column("entity_roles", Integer, nullable=False, server_default="0"),
    Column("message", LargeBinary, nullable=False),
    UniqueConstraint("event_at", "sha256", name="record_once"),
)
Index("record_by_event", record.c.event_code, record.c.event_at)


def _of() -> "Column[int]":
    return Column("record", Key, primary_key=True, autoincrement=False)


def _at() -> "Column[int]":
    return Column("event_at", BigInteger, primary_key=True)


def _text(name: str) -> "Column[str]":
    return Column(name, String(INDEXED), primary_key=True)


# Patient objects, their CX taken apart; "" where a CX has no assigning authority.
record_patient: Final = Table(
    "record_patient", metadata, _text("id"), _text("authority"), _at(), _of(), sqlite_with_rowid=False
)

# UserID and UserName of each participant.
record_participant: Final = Table(
    "record_participant", metadata, _text("user_id"), _at(), _of(), sqlite_with_rowid=False
)

# ParticipantObjectID of every object, patients too, as it stands.
record_object: Final = Table("record_object", metadata, _text("object_id"), _at(), _of(), sqlite_with_rowid=False)

# EventTypeCode; "" where a code names no system.
record_type: Final = Table(
    "record_type", metadata, _text("code"), _text("system"), _at(), _of(), sqlite_with_rowid=False
)

# Everything else that is searched by: ``indexing.Kind``, the text (names and addresses casefolded), "" or its code
# system. Compared byte by byte, so that a search for a beginning is a stretch of the tree.
record_text: Final = Table(
    "record_text",
    metadata,
    Column("kind", SmallInteger, primary_key=True, autoincrement=False),
    Column("text", String(INDEXED, collation="C").with_variant(String(INDEXED), "sqlite"), primary_key=True),
    _text("system"),
    _at(),
    Column("record", Key, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# One row while records of an older version wait to be indexed anew: the last one that was. See ``reindexing``.
index_state: Final = Table(
    "index_state",
    metadata,
    Column("name", String(8), primary_key=True),
    Column("number", Key, nullable=False),
)

# One row: the last link. Whoever appends holds it locked, so the chain has one order.
chain_head: Final = Table(
    "chain_head",
    metadata,
    Column("name", String(8), primary_key=True),
    Column("number", Key, nullable=False),
    Column("chain", LargeBinary(32), nullable=False),
)

# In order of ``position``, 1, 2, 3…; numbers of records go on from one to the next. While it is open ``last``, ``end``
# and ``closed_at`` are NULL: its last link is chain_head's. ``start``, ``end``: the link it begins from, its last one.
# What was removed keeps its row, and the signed statement of its removal.
log_partition: Final = Table(
    "log_partition",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("name", String(32), nullable=False, unique=True),
    Column("format", SmallInteger, nullable=False),
    Column("first", Key, nullable=False),
    Column("last", Key),
    Column("start", LargeBinary(32), nullable=False),
    Column("end", LargeBinary(32)),
    Column("opened_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("state", String(8), nullable=False),
    Column("removed_at", BigInteger),
    Column("rule", Text),
    Column("key_id", String(32)),
    Column("signature", LargeBinary(64)),
)

# Never removed, partitions that were included: a serial that is missing tells.
checkpoint: Final = Table(
    "checkpoint",
    metadata,
    Column("serial", Integer, primary_key=True, autoincrement=False),
    Column("partition", String(32), nullable=False),
    Column("number", Key, nullable=False),
    Column("link", LargeBinary(32), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)
Index("checkpoint_by_number", checkpoint.c.number)

# Every public key that ever signed here, so that what it signed can be checked after a change of keys.
checkpoint_key: Final = Table(
    "checkpoint_key",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("since", BigInteger, nullable=False),
)
