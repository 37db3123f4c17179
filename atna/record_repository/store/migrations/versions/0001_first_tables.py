"""Version 1 of the audit's schema: what its tables were when they had a version for the first time."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table, what is referred to first."""
    _chain_head()
    _record()
    _record_object()
    _record_participant()
    _record_patient()
    _record_type()


def _chain_head() -> None:
    op.create_table(
        "chain_head",
        sa.Column("name", sa.String(length=8), nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.Column("chain", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _record() -> None:
    op.create_table(
        "record",
        sa.Column("number", KEY, autoincrement=False, nullable=False),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("chain", sa.LargeBinary(length=32), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("readable", sa.Boolean(), nullable=False),
        sa.Column("event_code", sa.String(length=256)),
        sa.Column("event_system", sa.String(length=256)),
        sa.Column("action", sa.String(length=1)),
        sa.Column("outcome", sa.SmallInteger()),
        sa.Column("source_id", sa.String(length=256)),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("event_at", "sha256", name="record_once"),
    )
    op.create_index("record_by_event", "record", ["event_code", "event_at"])


def _record_object() -> None:
    op.create_table(
        "record_object",
        sa.Column("object_id", sa.String(length=256), nullable=False),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("record", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["record"],
            ["record.number"],
        ),
        sa.PrimaryKeyConstraint("object_id", "event_at", "record"),
        sqlite_with_rowid=False,
    )


def _record_participant() -> None:
    op.create_table(
        "record_participant",
        sa.Column("user_id", sa.String(length=256), nullable=False),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("record", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["record"],
            ["record.number"],
        ),
        sa.PrimaryKeyConstraint("user_id", "event_at", "record"),
        sqlite_with_rowid=False,
    )


def _record_patient() -> None:
    op.create_table(
        "record_patient",
        sa.Column("id", sa.String(length=256), nullable=False),
        sa.Column("authority", sa.String(length=256), nullable=False),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("record", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["record"],
            ["record.number"],
        ),
        sa.PrimaryKeyConstraint("id", "authority", "event_at", "record"),
        sqlite_with_rowid=False,
    )


def _record_type() -> None:
    op.create_table(
        "record_type",
        sa.Column("code", sa.String(length=256), nullable=False),
        sa.Column("system", sa.String(length=256), nullable=False),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("record", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["record"],
            ["record.number"],
        ),
        sa.PrimaryKeyConstraint("code", "system", "event_at", "record"),
        sqlite_with_rowid=False,
    )
