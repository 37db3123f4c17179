"""Version 3: more that a record is found by (address, alternative id, names, roles, policies, purposes of use).

What older records say is not read here: a log may hold hundreds of millions, and this step is one transaction. It
leaves the mark ``index_state``; whoever ran it goes on with ``reindexing``, which may be broken off and started again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.String(length=256, collation="C").with_variant(sa.String(length=256), "sqlite")


def upgrade() -> None:
    """From version 2 to 3."""
    op.add_column("record", sa.Column("site_id", sa.String(length=256)))
    for name, type_ in (
        ("agent_roles", sa.SmallInteger()),
        ("entity_types", sa.Integer()),
        ("entity_roles", sa.Integer()),
    ):
        op.add_column("record", sa.Column(name, type_, nullable=False, server_default="0"))
    op.create_table(
        "record_text",
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("system", sa.String(length=256), nullable=False),
        sa.Column("event_at", sa.BigInteger(), nullable=False),
        sa.Column("record", KEY, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("kind", "text", "system", "event_at", "record"),
        sqlite_with_rowid=False,
    )
    state = op.create_table(
        "index_state",
        sa.Column("name", sa.String(length=8), nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    if op.get_bind().execute(sa.text("SELECT 1 FROM record LIMIT 1")).first() is not None:
        op.get_bind().execute(state.insert().values(name="index", number=0))
