"""Version 1 of the repository's schema: what its tables were when they had a version for the first time."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table, what is referred to first."""
    _documents()
    _outbox()
    _outbox_lease()
    _submissions()


def _documents() -> None:
    op.create_table(
        "documents",
        sa.Column("object_key", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.String(length=32)),
        sa.Column("submission_unique_id", sa.Text()),
        sa.Column("unique_id", sa.Text()),
        sa.Column("entry_id", sa.Text()),
        sa.Column("hash", sa.String(length=40)),
        sa.Column("size", sa.BigInteger()),
        sa.Column("mime_type", sa.Text()),
        sa.Column("patient_id", sa.Text()),
        sa.PrimaryKeyConstraint("object_key"),
    )
    op.create_index("documents_by_submission", "documents", ["submission_unique_id"])
    op.create_index("documents_by_unique_id", "documents", ["unique_id"])
    op.create_index(
        "documents_waiting",
        "documents",
        ["since"],
        sqlite_where=sa.text("state != 'available'"),
        postgresql_where=sa.text("state != 'available'"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_by_sink", "outbox", ["sink", "id"])


def _outbox_lease() -> None:
    op.create_table(
        "outbox_lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def _submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=9), nullable=False),
        sa.Column("attempt", sa.String(length=32), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("patient_id", sa.Text()),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("node", sa.Text()),
        sa.Column("reply_to", sa.Text()),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("answer", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("unique_id"),
    )
    op.create_index(
        "submissions_unresolved",
        "submissions",
        ["since"],
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
