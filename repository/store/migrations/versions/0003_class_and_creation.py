"""Version 3: class and creation time of each document, for retention rules.

Neither is known of what is there already: the repository never kept them, and no rule reaches such a document.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From version 2 to 3."""
    op.add_column("documents", sa.Column("class_code", sa.Text()))
    op.add_column("documents", sa.Column("created", sa.BigInteger()))
    op.create_index("documents_by_class", "documents", ["class_code", "object_key"])
