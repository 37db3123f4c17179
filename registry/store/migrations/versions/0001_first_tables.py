"""Version 1 of the registry's schema: what its tables were when they had a version for the first time."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table, what is referred to first."""
    _defect()
    _dictionary()
    _feed_message()
    _outbox()
    _outbox_lease()
    _patient()
    _unique_id_key()
    _object_key()
    _submission_set()
    _association()
    _entry()
    _folder()
    _submission_set_author()
    _entry_author()
    _entry_code()
    _entry_reference()
    _folder_code()


def _defect() -> None:
    op.create_table(
        "defect",
        sa.Column("defect_key", KEY, autoincrement=True, nullable=False),
        sa.Column("found_at", sa.String(length=20), nullable=False),
        sa.Column("partner", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("defect_key"),
    )


def _dictionary() -> None:
    op.create_table(
        "dictionary",
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )


def _feed_message() -> None:
    op.create_table(
        "feed_message",
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("control_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "control_id"),
    )
    op.create_index("feed_message_by_age", "feed_message", ["received_at"])


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


def _patient() -> None:
    op.create_table(
        "patient",
        sa.Column("patient_key", KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("family", sa.Text()),
        sa.Column("given", sa.Text()),
        sa.Column("birth", sa.Text()),
        sa.Column("sex", sa.Text()),
        sa.Column("known_since", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("patient_key"),
        sa.UniqueConstraint("authority", "id", name="patient_identity"),
    )


def _unique_id_key() -> None:
    op.create_table(
        "unique_id_key",
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("object_type", sa.SmallInteger()),
        sa.Column("hash", sa.String(length=40)),
        sa.Column("size", sa.BigInteger()),
        sa.PrimaryKeyConstraint("unique_id"),
    )


def _object_key() -> None:
    op.create_table(
        "object_key",
        sa.Column("entry_uuid", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("patient_key", KEY, nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_key"],
            ["patient.patient_key"],
        ),
        sa.PrimaryKeyConstraint("entry_uuid"),
    )


def _submission_set() -> None:
    op.create_table(
        "submission_set",
        sa.Column("submission_set_key", KEY, autoincrement=True, nullable=False),
        sa.Column("patient_key", KEY, nullable=False),
        sa.Column("entry_uuid", sa.String(length=64), nullable=False),
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("submission_low", sa.String(length=14), nullable=False),
        sa.Column("submission_high", sa.String(length=14), nullable=False),
        sa.Column("content_type_code", sa.Text(), nullable=False),
        sa.Column("content_type_scheme", sa.Text(), nullable=False),
        sa.Column("home", sa.Text()),
        sa.Column("registered_at", sa.String(length=20), nullable=False),
        sa.Column("depositor_node", sa.Text()),
        sa.Column("depositor_organisation", sa.Text()),
        sa.Column("depositor_person", sa.Text()),
        sa.Column("dictionary", sa.SmallInteger(), nullable=False),
        sa.Column("fragment", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_key"],
            ["patient.patient_key"],
        ),
        sa.PrimaryKeyConstraint("submission_set_key"),
        sa.UniqueConstraint("entry_uuid"),
    )
    op.create_index("submission_set_by_patient", "submission_set", ["patient_key", "submission_low"])
    op.create_index("submission_set_by_unique_id", "submission_set", ["unique_id"])


def _association() -> None:
    op.create_table(
        "association",
        sa.Column("association_key", KEY, autoincrement=True, nullable=False),
        sa.Column("patient_key", KEY, nullable=False),
        sa.Column("submission_set_key", KEY, nullable=False),
        sa.Column("entry_uuid", sa.String(length=64), nullable=False),
        sa.Column("type", sa.SmallInteger(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("dictionary", sa.SmallInteger(), nullable=False),
        sa.Column("fragment", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_key"],
            ["patient.patient_key"],
        ),
        sa.ForeignKeyConstraint(
            ["submission_set_key"],
            ["submission_set.submission_set_key"],
        ),
        sa.PrimaryKeyConstraint("association_key"),
        sa.UniqueConstraint("entry_uuid"),
    )
    op.create_index("association_by_source", "association", ["source", "type"])
    op.create_index("association_by_target", "association", ["target", "type"])


def _entry() -> None:
    op.create_table(
        "entry",
        sa.Column("entry_key", KEY, autoincrement=True, nullable=False),
        sa.Column("patient_key", KEY, nullable=False),
        sa.Column("submission_set_key", KEY, nullable=False),
        sa.Column("entry_uuid", sa.String(length=64), nullable=False),
        sa.Column("logical_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("object_type", sa.SmallInteger(), nullable=False),
        sa.Column("class_code", sa.Text(), nullable=False),
        sa.Column("class_scheme", sa.Text(), nullable=False),
        sa.Column("type_code", sa.Text(), nullable=False),
        sa.Column("type_scheme", sa.Text(), nullable=False),
        sa.Column("format_code", sa.Text(), nullable=False),
        sa.Column("format_scheme", sa.Text(), nullable=False),
        sa.Column("facility_code", sa.Text(), nullable=False),
        sa.Column("facility_scheme", sa.Text(), nullable=False),
        sa.Column("practice_code", sa.Text(), nullable=False),
        sa.Column("practice_scheme", sa.Text(), nullable=False),
        sa.Column("level", sa.String(length=1), nullable=False),
        sa.Column("creation_low", sa.String(length=14)),
        sa.Column("creation_high", sa.String(length=14)),
        sa.Column("service_start_low", sa.String(length=14)),
        sa.Column("service_start_high", sa.String(length=14)),
        sa.Column("service_stop_low", sa.String(length=14)),
        sa.Column("service_stop_high", sa.String(length=14)),
        sa.Column("availability", sa.SmallInteger(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=40)),
        sa.Column("size", sa.BigInteger()),
        sa.Column("repository_unique_id", sa.Text(), nullable=False),
        sa.Column("home", sa.Text()),
        sa.Column("registered_at", sa.String(length=20), nullable=False),
        sa.Column("depositor_node", sa.Text()),
        sa.Column("depositor_organisation", sa.Text()),
        sa.Column("depositor_person", sa.Text()),
        sa.Column("dictionary", sa.SmallInteger(), nullable=False),
        sa.Column("fragment", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_key"],
            ["patient.patient_key"],
        ),
        sa.ForeignKeyConstraint(
            ["submission_set_key"],
            ["submission_set.submission_set_key"],
        ),
        sa.PrimaryKeyConstraint("entry_key"),
        sa.UniqueConstraint("entry_uuid"),
    )
    op.create_index("entry_by_logical_id", "entry", ["logical_id"])
    op.create_index("entry_by_patient", "entry", ["patient_key", "status", "creation_low"])
    op.create_index("entry_by_submission_set", "entry", ["submission_set_key"])
    op.create_index("entry_by_unique_id", "entry", ["unique_id"])


def _folder() -> None:
    op.create_table(
        "folder",
        sa.Column("folder_key", KEY, autoincrement=True, nullable=False),
        sa.Column("patient_key", KEY, nullable=False),
        sa.Column("submission_set_key", KEY, nullable=False),
        sa.Column("entry_uuid", sa.String(length=64), nullable=False),
        sa.Column("logical_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("unique_id", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("last_update_time", sa.String(length=14), nullable=False),
        sa.Column("home", sa.Text()),
        sa.Column("dictionary", sa.SmallInteger(), nullable=False),
        sa.Column("fragment", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_key"],
            ["patient.patient_key"],
        ),
        sa.ForeignKeyConstraint(
            ["submission_set_key"],
            ["submission_set.submission_set_key"],
        ),
        sa.PrimaryKeyConstraint("folder_key"),
        sa.UniqueConstraint("entry_uuid"),
    )
    op.create_index("folder_by_patient", "folder", ["patient_key", "status", "last_update_time"])
    op.create_index("folder_by_unique_id", "folder", ["unique_id"])


def _submission_set_author() -> None:
    op.create_table(
        "submission_set_author",
        sa.Column("submission_set_key", KEY, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_set_key"],
            ["submission_set.submission_set_key"],
        ),
    )
    op.create_index("submission_set_author_by_set", "submission_set_author", ["submission_set_key"])


def _entry_author() -> None:
    op.create_table(
        "entry_author",
        sa.Column("entry_key", KEY, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry_key"],
            ["entry.entry_key"],
        ),
    )
    op.create_index("entry_author_by_entry", "entry_author", ["entry_key"])


def _entry_code() -> None:
    op.create_table(
        "entry_code",
        sa.Column("entry_key", KEY, nullable=False),
        sa.Column("attribute", sa.SmallInteger(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry_key"],
            ["entry.entry_key"],
        ),
    )
    op.create_index("entry_code_by_entry", "entry_code", ["entry_key", "attribute"])


def _entry_reference() -> None:
    op.create_table(
        "entry_reference",
        sa.Column("entry_key", KEY, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry_key"],
            ["entry.entry_key"],
        ),
    )
    op.create_index("entry_reference_by_entry", "entry_reference", ["entry_key"])


def _folder_code() -> None:
    op.create_table(
        "folder_code",
        sa.Column("folder_key", KEY, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["folder_key"],
            ["folder.folder_key"],
        ),
    )
    op.create_index("folder_code_by_folder", "folder_code", ["folder_key"])
