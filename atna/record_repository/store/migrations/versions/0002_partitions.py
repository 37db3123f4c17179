"""Version 2: partitions, signed checkpoints, and how each record came.

What is there becomes one closed partition of format 1, named after the month of its last record; its links stay as they
are. The tables that records are found by lose their foreign key, which cost each record more than its own row.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SIDE_TABLES = {
    "record_object": ("object_id",),
    "record_participant": ("user_id",),
    "record_patient": ("id", "authority"),
    "record_type": ("code", "system"),
}


def upgrade() -> None:
    """From version 1 to 2."""
    op.add_column("record", sa.Column("via", sa.Text()))
    for table, texts in SIDE_TABLES.items():
        _without_reference(table, texts)
    _log_partition()
    _checkpoints()
    _first_partition()


def _without_reference(table: str, texts: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(f"{table}_record_fkey", table, type_="foreignkey")
        return
    op.create_table(
        f"{table}_2",
        *(sa.Column(text, sa.String(length=256), nullable=False) for text in texts),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("record", KEY, nullable=False),
        sa.PrimaryKeyConstraint(*texts, "event_at", "record"),
        sqlite_with_rowid=False,
    )
    columns = ", ".join((*texts, "event_at", "record"))
    # Names are those above.
    op.execute(f"INSERT INTO {table}_2 ({columns}) SELECT {columns} FROM {table}")  # noqa: S608
    op.drop_table(table)
    op.rename_table(f"{table}_2", table)


def _log_partition() -> None:
    op.create_table(
        "log_partition",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("format", sa.SmallInteger(), nullable=False),
        sa.Column("first", KEY, nullable=False),
        sa.Column("last", KEY),
        sa.Column("start", sa.LargeBinary(length=32), nullable=False),
        sa.Column("end", sa.LargeBinary(length=32)),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger()),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("removed_at", sa.BigInteger()),
        sa.Column("rule", sa.Text()),
        sa.Column("key_id", sa.String(length=32)),
        sa.Column("signature", sa.LargeBinary(length=64)),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("name"),
    )


def _checkpoints() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("serial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.String(length=32), nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.Column("link", sa.LargeBinary(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("signature", sa.LargeBinary(length=64), nullable=False),
        sa.PrimaryKeyConstraint("serial"),
    )
    op.create_index("checkpoint_by_number", "checkpoint", ["number"])
    op.create_table(
        "checkpoint_key",
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("public_key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key_id"),
    )


def _first_partition() -> None:
    connection = op.get_bind()
    head = connection.execute(sa.text("SELECT number, chain FROM chain_head WHERE name = 'head'")).first()
    if head is None or head.number == 0:
        return
    times = connection.execute(sa.text("SELECT min(received_at), max(received_at) FROM record")).one()
    month = datetime.fromtimestamp(times[1] // 1_000_000, UTC).strftime("%Y-%m")
    partition = sa.table(
        "log_partition",
        *(sa.column(name) for name in ("position", "name", "format", "first", "last", "start", "end")),
        *(sa.column(name) for name in ("opened_at", "closed_at", "state")),
    )
    connection.execute(
        partition.insert().values(
            position=1,
            name=f"until-{month}",
            format=1,
            first=1,
            last=head.number,
            start=bytes(32),
            end=head.chain,
            opened_at=times[0],
            closed_at=times[1],
            state="closed",
        )
    )
