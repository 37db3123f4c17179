"""The registry's tables: one typed row per object, side tables for what is multi-valued and queried.

Rows keep the patient key they came with for ever. ``*_key`` columns are integers of this database and never leave it.
An object is kept as ``fragment``: its normalised XML with holes for what changes (see ``registry.store.fragments``),
compressed with the dictionary numbered in ``dictionary``. Times are text of 14 digits, UTC: ``*_low`` and ``*_high``
bound the precision of the DTM that was sent, so both engines compare them alike.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from atna.store.outbox import outbox_table

metadata: Final = MetaData(info={"room": "registry", "version": 3})

# SQLite numbers rows by itself only where the type is exactly INTEGER.
Key: Final = BigInteger().with_variant(Integer, "sqlite")


def _key(name: str) -> "Column[int]":
    return Column(name, Key, primary_key=True, autoincrement=True)


def _patient() -> "Column[int]":
    return Column("patient_key", Key, ForeignKey("patient.patient_key"), nullable=False)


def _of(table: str, name: str) -> "Column[int]":
    return Column(name, Key, ForeignKey(f"{table}.{name}"), nullable=False)


def _brought_by() -> "Column[int | None]":
    """The SubmissionSet an object came with; none once that set was removed (ITI-62)."""
    return Column("submission_set_key", Key, ForeignKey("submission_set.submission_set_key"))


patient: Final = Table(
    "patient",
    metadata,
    _key("patient_key"),
    Column("id", Text, nullable=False),
    Column("authority", Text, nullable=False),
    Column("family", Text),
    Column("given", Text),
    Column("birth", Text),
    Column("sex", Text),
    # Folded family and given name and day of birth (ihe.demographics); none where one of them is not known
    Column("name_and_birth", Text),
    # Who is left of a chain of merges; none where nothing was merged
    Column("survivor_key", Key, ForeignKey("patient.patient_key")),
    Column("known_since", Text, nullable=False),
    Column("changed_at", Text, nullable=False),
    UniqueConstraint("authority", "id", name="patient_identity"),
)

_merged: Final = patient.c.survivor_key.is_not(None)
Index("patient_by_survivor", patient.c.survivor_key, sqlite_where=_merged, postgresql_where=_merged)

_findable: Final = patient.c.name_and_birth.is_not(None)
Index("patient_by_name_and_birth", patient.c.name_and_birth, sqlite_where=_findable, postgresql_where=_findable)

# Who was merged into whom. A merge that was undone stays as history; of the others at most one for each subsumed id.
patient_merge: Final = Table(
    "patient_merge",
    metadata,
    _key("merge_key"),
    Column("subsumed_key", Key, ForeignKey("patient.patient_key"), nullable=False),
    Column("surviving_key", Key, ForeignKey("patient.patient_key"), nullable=False),
    Column("merged_at", String(14), nullable=False),
    Column("undone_at", String(14)),
)
_active: Final = patient_merge.c.undone_at.is_(None)
Index(
    "patient_merge_subsumed",
    patient_merge.c.subsumed_key,
    unique=True,
    sqlite_where=_active,
    postgresql_where=_active,
)
Index("patient_merge_surviving", patient_merge.c.surviving_key, sqlite_where=_active, postgresql_where=_active)

# A repeated MSH-10 with the same bytes gets the same answer (ITI TF-2: 3.8; HL7 2.3.1: 2.15.9.10).
feed_message: Final = Table(
    "feed_message",
    metadata,
    Column("sender", Text, primary_key=True),
    Column("control_id", Text, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("received_at", Text, nullable=False),
)
Index("feed_message_by_age", feed_message.c.received_at)

submission_set: Final = Table(
    "submission_set",
    metadata,
    _key("submission_set_key"),
    _patient(),
    Column("entry_uuid", String(64), nullable=False, unique=True),
    Column("unique_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("source_id", Text, nullable=False),
    Column("submission_low", String(14), nullable=False),
    Column("submission_high", String(14), nullable=False),
    Column("content_type_code", Text, nullable=False),
    Column("content_type_scheme", Text, nullable=False),
    Column("home", Text),
    Column("registered_at", String(20), nullable=False),
    Column("depositor_node", Text),
    Column("depositor_organisation", Text),
    Column("depositor_person", Text),
    Column("dictionary", SmallInteger, nullable=False),
    Column("fragment", LargeBinary, nullable=False),
)
Index("submission_set_by_patient", submission_set.c.patient_key, submission_set.c.submission_low)
Index("submission_set_by_unique_id", submission_set.c.unique_id)

entry: Final = Table(
    "entry",
    metadata,
    _key("entry_key"),
    _patient(),
    _brought_by(),
    Column("entry_uuid", String(64), nullable=False, unique=True),
    Column("logical_id", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    # 1: a later version of the same logical object exists
    Column("superseded", SmallInteger, nullable=False, server_default="0"),
    Column("unique_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("object_type", SmallInteger, nullable=False),
    Column("class_code", Text, nullable=False),
    Column("class_scheme", Text, nullable=False),
    Column("type_code", Text, nullable=False),
    Column("type_scheme", Text, nullable=False),
    Column("format_code", Text, nullable=False),
    Column("format_scheme", Text, nullable=False),
    Column("facility_code", Text, nullable=False),
    Column("facility_scheme", Text, nullable=False),
    Column("practice_code", Text, nullable=False),
    Column("practice_scheme", Text, nullable=False),
    Column("level", String(1), nullable=False),
    Column("creation_low", String(14)),
    Column("creation_high", String(14)),
    Column("service_start_low", String(14)),
    Column("service_start_high", String(14)),
    Column("service_stop_low", String(14)),
    Column("service_stop_high", String(14)),
    Column("availability", SmallInteger, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("source_patient_id", Text),
    Column("hash", String(40)),
    Column("size", BigInteger),
    Column("repository_unique_id", Text, nullable=False),
    Column("home", Text),
    Column("registered_at", String(20), nullable=False),
    Column("depositor_node", Text),
    Column("depositor_organisation", Text),
    Column("depositor_person", Text),
    Column("dictionary", SmallInteger, nullable=False),
    Column("fragment", LargeBinary, nullable=False),
)
Index("entry_by_patient", entry.c.patient_key, entry.c.status, entry.c.creation_low)
Index("entry_by_unique_id", entry.c.unique_id)
# Of two updates of one version the second loses here.
Index("entry_by_logical_id", entry.c.logical_id, entry.c.version, unique=True)
Index("entry_by_submission_set", entry.c.submission_set_key)
# ITI-51 asks by code for entries of any patient.
Index("entry_by_class", entry.c.class_code, entry.c.class_scheme)
Index("entry_by_facility", entry.c.facility_code, entry.c.facility_scheme)

entry_code: Final = Table(
    "entry_code",
    metadata,
    _of("entry", "entry_key"),
    Column("attribute", SmallInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("scheme", Text, nullable=False),
)
Index("entry_code_by_entry", entry_code.c.entry_key, entry_code.c.attribute)
# Event codes alone: every entry has a confidentiality code, nearly always the same, and nobody asks by it alone.
IS_EVENT: Final = entry_code.c.attribute == literal_column("1")
Index("entry_code_by_event", entry_code.c.code, entry_code.c.scheme, sqlite_where=IS_EVENT, postgresql_where=IS_EVENT)

entry_author: Final = Table("entry_author", metadata, _of("entry", "entry_key"), Column("person", Text, nullable=False))
Index("entry_author_by_entry", entry_author.c.entry_key)

entry_reference: Final = Table(
    "entry_reference", metadata, _of("entry", "entry_key"), Column("reference", Text, nullable=False)
)
Index("entry_reference_by_entry", entry_reference.c.entry_key)

submission_set_author: Final = Table(
    "submission_set_author",
    metadata,
    _of("submission_set", "submission_set_key"),
    Column("person", Text, nullable=False),
)
Index("submission_set_author_by_set", submission_set_author.c.submission_set_key)

folder: Final = Table(
    "folder",
    metadata,
    _key("folder_key"),
    _patient(),
    _brought_by(),
    Column("entry_uuid", String(64), nullable=False, unique=True),
    Column("logical_id", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    # 1: a later version of the same logical object exists
    Column("superseded", SmallInteger, nullable=False, server_default="0"),
    Column("unique_id", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("last_update_time", String(14), nullable=False),
    Column("home", Text),
    Column("dictionary", SmallInteger, nullable=False),
    Column("fragment", LargeBinary, nullable=False),
)
Index("folder_by_patient", folder.c.patient_key, folder.c.status, folder.c.last_update_time)
Index("folder_by_unique_id", folder.c.unique_id)
Index("folder_by_logical_id", folder.c.logical_id, folder.c.version, unique=True)

folder_code: Final = Table(
    "folder_code",
    metadata,
    _of("folder", "folder_key"),
    Column("code", Text, nullable=False),
    Column("scheme", Text, nullable=False),
)
Index("folder_code_by_folder", folder_code.c.folder_key)
Index("folder_code_by_code", folder_code.c.code, folder_code.c.scheme)

association: Final = Table(
    "association",
    metadata,
    _key("association_key"),
    _patient(),
    _brought_by(),
    Column("entry_uuid", String(64), nullable=False, unique=True),
    Column("type", SmallInteger, nullable=False),
    Column("source", String(64), nullable=False),
    Column("target", String(64), nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("dictionary", SmallInteger, nullable=False),
    Column("fragment", LargeBinary, nullable=False),
)
Index("association_by_source", association.c.source, association.c.type)
Index("association_by_target", association.c.target, association.c.type)
# What a removed SubmissionSet brought is found without reading the table.
Index("association_by_submission_set", association.c.submission_set_key)
Index("folder_by_submission_set", folder.c.submission_set_key)

# The key table: no entry_uuid twice, over all kinds of object, and the way from an id to its patient.
object_key: Final = Table(
    "object_key",
    metadata,
    Column("entry_uuid", String(64), primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    _patient(),
)

# One row per uniqueId in use: a second set or folder with it loses here, a second entry must have these bytes.
unique_id_key: Final = Table(
    "unique_id_key",
    metadata,
    Column("unique_id", Text, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("object_type", SmallInteger),
    Column("hash", String(40)),
    Column("size", BigInteger),
)

# Compression dictionaries: append-only, numbered per row that uses them.
dictionary: Final = Table(
    "dictionary",
    metadata,
    Column("number", SmallInteger, primary_key=True),
    Column("bytes", LargeBinary, nullable=False),
)

# What strictness "warn" let pass, and who sent it.
defect: Final = Table(
    "defect",
    metadata,
    _key("defect_key"),
    Column("found_at", String(20), nullable=False),
    Column("partner", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("context", Text, nullable=False),
)

outbox: Final = outbox_table(metadata)
