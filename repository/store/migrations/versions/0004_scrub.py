"""Version 4: how far the scrub has read, and what it found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """From version 3 to 4."""
    op.create_table(
        "scrub",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("full_at", sa.BigInteger()),
        sa.Column("after", sa.String(length=32), nullable=False),
        sa.Column("verified", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "scrub_findings",
        sa.Column("object_key", sa.String(length=32), nullable=False),
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("finding", sa.String(length=12), nullable=False),
        sa.Column("other_copy", sa.Boolean(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("object_key"),
    )
