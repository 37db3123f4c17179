"""Version 2: versions of logical objects (ITI-57), removed submission sets (ITI-62), merged patients (ITI-8, ITI-44).

``source_patient_id`` of the entries that are there is read out of their fragments. SQLite rebuilds three tables, since
a column cannot be made nullable in place there.
"""

import html
import re
import zlib

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BATCH = 2_000
# Fragments of version 1 as they were written: slots of the object itself stand before its classifications.
SOURCE_PATIENT_ID = re.compile(
    rb'<rim:Slot name="sourcePatientId"><rim:ValueList><rim:Value>([^<]*)</rim:Value>',
)


def upgrade() -> None:
    """From version 1 to 2."""
    _objects()
    _codes_of_all_patients()
    _merges()
    _fill_source_patient_ids(op.get_bind())


def _objects() -> None:
    op.drop_index("entry_by_logical_id", table_name="entry")
    for table in ("entry", "folder", "association"):
        with op.batch_alter_table(table) as batch:
            batch.alter_column("submission_set_key", existing_type=KEY, nullable=True)
            if table != "association":
                batch.add_column(sa.Column("superseded", sa.SmallInteger(), nullable=False, server_default="0"))
            if table == "entry":
                batch.add_column(sa.Column("source_patient_id", sa.Text()))
    op.create_index("entry_by_logical_id", "entry", ["logical_id", "version"], unique=True)
    op.create_index("folder_by_logical_id", "folder", ["logical_id", "version"], unique=True)
    op.create_index("association_by_submission_set", "association", ["submission_set_key"])
    op.create_index("folder_by_submission_set", "folder", ["submission_set_key"])


def _codes_of_all_patients() -> None:
    op.create_index("entry_by_class", "entry", ["class_code", "class_scheme"])
    op.create_index("entry_by_facility", "entry", ["facility_code", "facility_scheme"])
    event = sa.text("attribute = 1")
    op.create_index("entry_code_by_event", "entry_code", ["code", "scheme"], sqlite_where=event, postgresql_where=event)
    op.create_index("folder_code_by_code", "folder_code", ["code", "scheme"])


def _merges() -> None:
    with op.batch_alter_table("patient") as batch:
        batch.add_column(sa.Column("survivor_key", KEY))
        # Named as PostgreSQL names that of a new table; SQLite knows no name.
        batch.create_foreign_key("patient_survivor_key_fkey", "patient", ["survivor_key"], ["patient_key"])
    merged = sa.text("survivor_key IS NOT NULL")
    op.create_index("patient_by_survivor", "patient", ["survivor_key"], sqlite_where=merged, postgresql_where=merged)
    op.create_table(
        "patient_merge",
        sa.Column("merge_key", KEY, autoincrement=True, nullable=False),
        sa.Column("subsumed_key", KEY, nullable=False),
        sa.Column("surviving_key", KEY, nullable=False),
        sa.Column("merged_at", sa.String(length=14), nullable=False),
        sa.Column("undone_at", sa.String(length=14)),
        sa.ForeignKeyConstraint(["subsumed_key"], ["patient.patient_key"]),
        sa.ForeignKeyConstraint(["surviving_key"], ["patient.patient_key"]),
        sa.PrimaryKeyConstraint("merge_key"),
    )
    active = sa.text("undone_at IS NULL")
    for name, column, unique in (
        ("patient_merge_subsumed", "subsumed_key", True),
        ("patient_merge_surviving", "surviving_key", False),
    ):
        op.create_index(name, "patient_merge", [column], unique=unique, sqlite_where=active, postgresql_where=active)


def _fill_source_patient_ids(connection: sa.Connection) -> None:
    dictionaries = {
        number: bytes(text) for number, text in connection.execute(sa.text("SELECT number, bytes FROM dictionary"))
    }
    entry = sa.table("entry", *map(sa.column, ("entry_key", "dictionary", "fragment", "source_patient_id")))
    key = entry.c.entry_key
    rows = sa.select(key, entry.c.dictionary, entry.c.fragment).order_by(key).limit(BATCH)
    change = sa.update(entry).where(key == sa.bindparam("of")).values(source_patient_id=sa.bindparam("told"))
    last = -1
    while batch := connection.execute(rows.where(key > last)).all():
        last = batch[-1].entry_key
        told = [(row.entry_key, _source_patient_id(row.fragment, dictionaries.get(row.dictionary))) for row in batch]
        known = [{"of": number, "told": text} for number, text in told if text is not None]
        if known:
            connection.execute(change, known)


def _source_patient_id(fragment: bytes, dictionary: bytes | None) -> str | None:
    plain = zlib.decompressobj(-15, dictionary) if dictionary is not None else zlib.decompressobj(-15)
    slots = plain.decompress(bytes(fragment)).partition(b"<rim:Classification")[0]
    found = SOURCE_PATIENT_ID.search(slots)
    return html.unescape(found[1].decode()) if found is not None else None
