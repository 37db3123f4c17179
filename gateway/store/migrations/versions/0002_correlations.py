"""Version 2: what communities answered about patients of ours (ITI-55)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From version 1 to 2."""
    op.create_table(
        "correlation",
        sa.Column("community", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("community", "patient"),
    )
    op.create_index("correlation_by_expiry", "correlation", ["expires_at"])
