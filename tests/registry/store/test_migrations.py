"""The registry's migrations, and those of the other rooms: same schema as a new database, same answers as before."""

import re

import pytest
from sqlalchemy import MetaData, bindparam, create_engine, insert, inspect, select, text

import atna.record_repository.store.migrations as audit_migrations
import gateway.store.migrations as gateway_migrations
import registry.store.migrations as registry_migrations
import repository.store.migrations as repository_migrations
from atna.record_repository.store import tables as audit_tables
from atna.store.engine import DatabaseRefused, begin_write, new_engine, open_engine, reading, schema_version
from atna.store.migrating import Schema, upgrade
from gateway.store import tables as gateway_tables
from ihe import vocabulary as v
from registry.criteria import Query
from registry.store import tables
from repository.store import tables as repository_tables
from tests.builders import PATIENT, submission, with_slot
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from tests.registry.rooms import APPROVED, DEPRECATED, GET_DOCUMENTS, RegistryRoom
from tests.registry.test_iti18_sets_folders_relations import ask

ROOMS = {
    "registry": (tables.metadata, registry_migrations.FOLDER),
    "repository": (repository_tables.metadata, repository_migrations.FOLDER),
    "gateway": (gateway_tables.metadata, gateway_migrations.FOLDER),
    "audit": (audit_tables.metadata, audit_migrations.FOLDER),
}


@pytest.fixture(params=["sqlite", "postgresql"])
def two_urls(request, tmp_path):
    """Two empty databases of one kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/created.db", f"sqlite:///{tmp_path}/migrated.db"
    server, first = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_url")
    name = re.search(r"/(dossier_\w+)", first)[1]
    server.psql(f"CREATE DATABASE {name}_b TEMPLATE template0 ENCODING 'UTF8'")
    return first, first.replace(name, f"{name}_b")


def migrated(url, room, version=None):
    """Build a schema by migrations alone, from nothing."""
    metadata, folder = ROOMS[room]
    engine = new_engine(url)
    with begin_write(engine) as connection:
        schema_version.create(connection)
        connection.execute(insert(schema_version).values(room=room, version=0))
    engine.dispose()
    wanted = MetaData(info={"room": room, "version": version or metadata.info["version"]})
    upgrade(url, wanted, folder)


def described(url):
    """Everything the database knows of its tables, in its own words and in SQLAlchemy's; order of columns apart."""
    engine = create_engine(url)
    with engine.connect() as connection:
        look = inspect(connection)
        found = {}
        for table in look.get_table_names():
            columns = {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in look.get_columns(table)
            }
            found[table] = {
                "columns": columns,
                "primary key": look.get_pk_constraint(table)["constrained_columns"],
                "foreign keys": sorted(
                    (key["constrained_columns"], key["referred_table"], key["referred_columns"], str(key["options"]))
                    for key in look.get_foreign_keys(table)
                ),
                "unique": sorted(
                    (one["column_names"], one["name"] or "") for one in look.get_unique_constraints(table)
                ),
            }
        ask = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        options = "SELECT name, sql LIKE '%AUTOINCREMENT%' OR sql LIKE '%WITHOUT ROWID%' FROM sqlite_master"
        if engine.dialect.name == "postgresql":
            ask = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            options = "SELECT conrelid::regclass::text || conname, pg_get_constraintdef(oid) FROM pg_constraint"
        found["indexes"] = {name: made.replace('"', "") for name, made in connection.execute(text(ask))}
        found["options"] = dict(connection.execute(text(options)).all())
    engine.dispose()
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_migrated_and_created_are_the_same(two_urls, room):
    created, by_steps = two_urls
    open_engine(created, ROOMS[room][0]).dispose()
    migrated(by_steps, room)
    assert described(by_steps) == described(created)


@pytest.mark.parametrize("room", ROOMS)
def test_the_last_migration_leads_to_the_version_of_the_tables(room):
    metadata, folder = ROOMS[room]
    numbers = sorted(int(path.name[:4]) for path in (folder / "versions").glob("[0-9]*.py"))
    assert numbers == list(range(1, metadata.info["version"] + 1))


# ------------------------------------------------------------------------------------- data of version 1

FILLED = (
    "patient", "dictionary", "submission_set", "entry", "entry_code", "entry_author", "entry_reference", "folder",
    "folder_code", "submission_set_author", "association", "object_key", "unique_id_key",
)  # fmt: skip
ODD = "8<9>7^^^&1.3.4.5&ISO"


def submit_some(room):
    """A document with an odd source patient id, a folder of two, a replacement, one without source patient id."""
    room.know()
    room.accept(submission(entry=with_slot("sourcePatientId", ODD)))
    room.accept(submission(entries=2, folders=1))
    old = room.find(return_type="ObjectRef").object_refs[0]
    room.accept(submission(relations=((v.RPLC, old),)))
    return old


def as_version_1(room, url):
    """What the room holds in a database of version 1: the tables of then, filled by what they have columns for."""
    migrated(url, "registry", 1)
    engine = new_engine(url)
    with reading(room.engine) as source, begin_write(engine) as connection:
        for name in FILLED:
            known = {column["name"] for column in inspect(connection).get_columns(name)}
            kept = [column for column in tables.metadata.tables[name].c if column.name in known]
            rows = [dict(row) for row in source.execute(select(*kept)).mappings()]
            if rows:
                target = tables.metadata.tables[name]
                connection.execute(insert(target).values({c.name: bindparam(c.name) for c in kept}), rows)
    engine.dispose()


def answers(room, old):
    """What some queries of every kind answer: objects, one by one."""
    asked = [
        room.find(),
        room.find(status=f"({DEPRECATED})"),
        room.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{old}')"),
    ]
    assert [answer.status for answer in asked] == [v.SUCCESS] * len(asked)
    statuses = {f"XDS{kind}Status": f"({APPROVED})" for kind in ("DocumentEntry", "SubmissionSet", "Folder")}
    related = {"XDSDocumentEntryEntryUUID": f"'{old}'", "AssociationTypes": f"('{v.RPLC}')"}
    return [
        *(answer.objects for answer in asked),
        ask(room, Query.GET_ALL, patientId=f"'{PATIENT}'", **statuses),
        ask(room, Query.GET_RELATED_DOCUMENTS, **related),
    ]


def test_patients_of_version_2_are_found_by_name(two_urls):
    _source, url = two_urls
    migrated(url, "registry", 2)
    engine = new_engine(url)
    told = {"authority": "1.2.3", "known_since": "20260101", "changed_at": "20260101"}
    whole = {"family": "Müller", "given": "Änne", "birth": "19700101", **told}
    with begin_write(engine) as connection:
        rows = [{**whole, "id": f"P{number}"} for number in range(3)]
        columns = {name: bindparam(name) for name in rows[0]}
        connection.execute(insert(tables.patient).values(columns), [*rows, {**whole, "id": "Q", "birth": "1970"}])
    engine.dispose()
    upgrade(url, *ROOMS["registry"])
    engine = new_engine(url)
    with reading(engine) as connection:
        patient = tables.patient.c
        found = connection.execute(select(patient.id, patient.name_and_birth).order_by(patient.id)).all()
    engine.dispose()
    assert found == [*((f"P{number}", "muller|anne|19700101") for number in range(3)), ("Q", None)]


def test_submissions_of_version_1_answer_as_before(two_urls):
    source, url = two_urls
    room = RegistryRoom(source)
    old = submit_some(room)
    as_version_1(room, url)
    with pytest.raises(DatabaseRefused, match="dossier db upgrade"):
        RegistryRoom(url)
    assert upgrade(url, *ROOMS["registry"]) == Schema(1, tables.metadata.info["version"])
    after = RegistryRoom(url)
    assert all(answers(room, old))
    assert answers(after, old) == answers(room, old)
    entry = tables.entry.c
    with reading(room.engine) as before, reading(after.engine) as now:
        columns = select(entry.entry_uuid, entry.version, entry.superseded, entry.source_patient_id)
        rows = {tuple(row) for row in now.execute(columns)}
        assert rows == {tuple(row) for row in before.execute(columns)}
    assert ODD in {row[3] for row in rows}
    after.accept(submission())
    for one in (room, after):
        one.close()
