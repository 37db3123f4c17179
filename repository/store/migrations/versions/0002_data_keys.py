"""Version 2: the wrapped data key of each sealed object. What is there already are plain bytes, and stay so."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From version 1 to 2."""
    op.add_column("documents", sa.Column("kek", sa.Text()))
    op.add_column("documents", sa.Column("wrapped_key", sa.LargeBinary()))
