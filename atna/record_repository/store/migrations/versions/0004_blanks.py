"""Version 4: values with blanks around them are found by what stands between.

No table changes. As the step before, it leaves the mark ``index_state`` where there are records.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """From version 3 to 4."""
    state = sa.table("index_state", sa.column("name"), sa.column("number"))
    connection = op.get_bind()
    connection.execute(state.delete())  # of a version 3 that is not all indexed yet: it begins anew
    if connection.execute(sa.text("SELECT 1 FROM record LIMIT 1")).first() is not None:
        connection.execute(state.insert().values(name="index", number=0))
