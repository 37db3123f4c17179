"""Version 4: values with blanks around them are found by what stands between.

No table changes. What older versions wrote into those that records are found by goes, for nobody could tell it from
what is written now; as the step before, this one leaves the mark ``index_state`` where there are records.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

FOUND_BY = ("record_patient", "record_participant", "record_object", "record_type", "record_text")


def upgrade() -> None:
    """From version 3 to 4."""
    state = sa.table("index_state", sa.column("name"), sa.column("number"))
    connection = op.get_bind()
    # Row by row PostgreSQL would take hours for a large log; SQLite has no other word, and does it at once.
    empty = "TRUNCATE" if connection.dialect.name == "postgresql" else "DELETE FROM"
    for table in FOUND_BY:
        op.execute(f"{empty} {table}")
    connection.execute(state.delete())  # of a version 3 that is not all indexed yet: it begins anew
    if connection.execute(sa.text("SELECT 1 FROM record LIMIT 1")).first() is not None:
        connection.execute(state.insert().values(name="index", number=0))
