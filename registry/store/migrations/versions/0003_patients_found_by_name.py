"""Version 3: patients are found by name and birth (ITI-47).

What is there is filled in. While programs of version 2 still write, what they write is not found by name until the next
message about that patient.
"""

import sqlalchemy as sa
from alembic import op

from ihe.demographics import name_and_birth

revision = "0003"
down_revision = "0002"

BATCH = 2_000


def upgrade() -> None:
    """From version 2 to 3."""
    op.add_column("patient", sa.Column("name_and_birth", sa.Text()))
    _fill(op.get_bind())
    findable = sa.text("name_and_birth IS NOT NULL")
    op.create_index(
        "patient_by_name_and_birth",
        "patient",
        ["name_and_birth"],
        sqlite_where=findable,
        postgresql_where=findable,
    )


def _fill(connection: sa.Connection) -> None:
    names = ("patient_key", "family", "given", "birth", "name_and_birth")
    patient = sa.table("patient", *map(sa.column, names))
    key = patient.c.patient_key
    rows = sa.select(key, patient.c.family, patient.c.given, patient.c.birth).order_by(key).limit(BATCH)
    change = sa.update(patient).where(key == sa.bindparam("of")).values(name_and_birth=sa.bindparam("told"))
    last = -1
    while batch := connection.execute(rows.where(key > last)).all():
        last = batch[-1].patient_key
        told = [{"of": row.patient_key, "told": name_and_birth(*row[1:])} for row in batch]
        known = [one for one in told if one["told"] is not None]
        if known:
            connection.execute(change, known)
