"""No query reads a whole table: what each one really asks of the database, explained by PostgreSQL and by SQLite.

The statements are taken from the driver while requests run through the actor, so none can be forgotten: every row of
``STORED_QUERIES`` with each of its parameters, and registrations that replace, append and fill folders.
"""

import os
import re

import pytest
from sqlalchemy import event, select

from atna.store import quick
from atna.store.engine import reading
from bench import bulk
from bench.messages import patient_id
from ihe import ebrs
from ihe import vocabulary as v
from ihe.transactions import ITI_57, ITI_62
from registry import query_parameters as coding
from registry.store import tables
from registry.store.opening import open_registry
from registry.store.patients import SqlPatientStore
from registry.stored_queries import STORED_QUERIES
from tests.builders import PATIENT, has_member, submission
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from tests.registry.rooms import APPROVED, GET_DOCUMENTS, GET_SET_AND_CONTENTS, RegistryRoom
from tests.updates import new_association, new_status, new_version, update

BLOCKS = 2
BIG = {
    "entry", "entry_code", "entry_author", "entry_reference", "submission_set", "submission_set_author", "folder",
    "folder_code", "association", "object_key", "unique_id_key", "patient",
}  # fmt: skip


@pytest.fixture(scope="module")
def filled_url(postgres_server):  # noqa: F811
    """A database with some ten thousand entries and statistics."""
    name = f"dossier_plans_{os.getpid()}"
    postgres_server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    url = postgres_server.get_uri(database=name).replace("postgresql://", "postgresql+psycopg://", 1)
    open_registry(url)[0].dispose()
    bulk.load(url, BLOCKS, print)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def room(request, tmp_path):
    if request.param == "sqlite":
        room = RegistryRoom(f"sqlite:///{tmp_path}/registry.db")
        room.know()
        room.accept(submission(entries=2, folders=1))
        room.accept(submission(entries=2, folders=1))
    else:
        room = RegistryRoom(request.getfixturevalue("filled_url"))
    yield room
    room.close()


@pytest.fixture
def asked(room, monkeypatch):
    """(statement, parameters) as the driver gets them; sets of rows to insert apart."""
    statements = []
    real = quick._selected

    @event.listens_for(room.engine, "before_cursor_execute")
    def _execute(_connection, _cursor, statement, parameters, _context, many):
        if not many:
            statements.append((statement, parameters))

    def selected(connection, statement, values):
        statements.append((statement.sql, statement.bound(values)))
        return real(connection, statement, values)

    monkeypatch.setattr(quick, "_selected", selected)
    return statements


def whole_tables(room, statement, parameters):
    """The big tables that this statement would read from end to end."""
    if not re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)\b", statement):
        return []
    with room.engine.connect() as connection:
        driver = connection.connection.driver_connection
        if room.engine.dialect.name == "sqlite":
            rows = driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            return [row[3] for row in rows if (m := re.match(r"SCAN (\w+)", row[3])) and m[1] in BIG]
        (plan,) = driver.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchone()
        connection.rollback()
    return [found for node in nodes(plan[0]["Plan"]) if (found := whole(node))]


def nodes(plan):
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def whole(node):
    kind, table = node["Node Type"], node.get("Relation Name")
    if table in BIG and (kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in node)):
        return f"{kind} on {table}"
    return None


def ids(room, table, column):
    with reading(room.engine) as connection:
        return connection.execute(select(tables.metadata.tables[table].c[column]).limit(3)).scalars().all()


def listed(values):
    return "(" + ",".join(f"'{value}'" for value in values) + ")"


def sample(room, parameter, patient, *, alone):
    """A value that selects something, by how the parameter is read; ``alone``: without a patient beside it.

    A code that nearly every entry has is found best by reading them all, and the bound on results ends that.
    """
    if alone and parameter.read is coding.codes:
        return "('X^^1.2')"
    about = (
        "folder" if "Folder" in parameter.name else "submission_set" if "SubmissionSet" in parameter.name else "entry"
    )
    reader = parameter.read
    if reader in (coding.entry_uuids, coding.one_entry_uuid):
        column = "logical_id" if "Logical" in parameter.name else "entry_uuid"
        found = ids(room, about, column)
        return listed(found) if reader is coding.entry_uuids else f"'{found[0]}'"
    if "UniqueId" in parameter.name:
        found = ids(room, about, "unique_id")
        return f"'{found[0]}'" if reader in (coding.one_oid, coding.one_identifier) else listed(found)
    return {
        coding.patient: f"'{patient}'",
        coding.many_patients: f"('{patient}')",
        coding.statuses: f"({APPROVED})",
        coding.codes: "('11502-2^^2.16.840.1.113883.6.1','X^^1.2')",
        coding.time: "'20200101'",
        coding.many_patterns: "('%Weber%','12%')",
        coding.one_pattern: "'%Weber%'",
        coding.entry_types: f"('{v.STABLE}','{v.ON_DEMAND}')",
        coding.availabilities: f"('{v.AVAILABLE_ONLINE}')",
        coding.metadata_level: "2",
        coding.many_oids: "('1.2.3')",
        coding.association_types: f"('{v.RPLC}','{v.HAS_MEMBER}')",
    }[reader]


def requests(room, row):
    """The query with what it needs, then with each further parameter added, then by each other selector."""
    many = room.engine.dialect.name == "postgresql"
    patient = patient_id(bulk.patient_number(0, bulk.TENS[0])) if many else PATIENT
    given = {
        p.attribute: (p.name.removeprefix("$"), sample(room, p, patient, alone=p.attribute in row.some_of))
        for p in row.parameters
    }
    selectors = [attribute for attribute in (*row.one_of, *row.some_of) if attribute in given] or [None]
    always = [p.attribute for p in row.parameters if p.required]
    for selector in selectors:
        yield dict(given[one] for one in (*always, *([selector] if selector else ())))
    base = (*always, *([selectors[0]] if selectors[0] else ()))
    for p in row.parameters:
        if not p.required and p.attribute not in row.one_of:
            yield dict(given[one] for one in (*base, p.attribute))


@pytest.mark.parametrize("row", STORED_QUERIES, ids=[str(row.query) for row in STORED_QUERIES])
def test_stored_queries(room, asked, row):
    faults = set()
    count = 0
    for parameters in requests(room, row):
        for return_type in ("ObjectRef", "LeafClass"):
            asked.clear()
            body = ebrs.adhoc_query_request(
                row.id, {f"${name}": text for name, text in parameters.items()}, return_type
            )
            answer = room.ask(body, row.transaction)
            assert answer.status == v.SUCCESS or {e.code for e in answer.errors} == {"XDSResultNotSinglePatient"}, (
                answer
            )
            count += len(asked)
            faults |= explained(room, asked)
    assert count
    assert faults == set()


def explained(room, asked):
    return {
        f"{found}: {statement}" for statement, values in list(asked) for found in whole_tables(room, statement, values)
    }


def test_registrations(room, asked):
    with reading(room.engine) as connection:
        both = select(tables.folder.c.entry_uuid, tables.entry.c.entry_uuid)
        both = both.where(tables.folder.c.patient_key == tables.entry.c.patient_key)
        folder, entry = connection.execute(both.limit(1)).one()
    patient = owner(room, entry)
    into_folder = (has_member(folder, "Document01", "Link"), has_member("SubmissionSet01", "Link"))
    asked.clear()
    room.accept(submission(patient=patient, relations=((v.APND, entry),)))
    room.accept(submission(patient=patient, extra=into_folder))
    room.accept(submission(patient=patient, relations=((v.RPLC, entry),)))
    changed = {statement.split()[1] for statement, _ in asked if statement.startswith("UPDATE")}
    assert changed == {"entry", "folder"}
    assert explained(room, asked) == set()


def test_changes_and_removals(room, asked):
    """ITI-57: a new version, a status, an association; ITI-62: a whole submission."""
    room.accept(submission(patient=(patient := owner(room, ids(room, "entry", "entry_uuid")[0])), entries=2, folders=1))
    newest = latest(room, tables.entry, 2)
    entry, other = (room.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{uuid}')").objects[0] for uuid in newest)
    room.accept(submission(patient=patient, folders=1))
    (kept,) = latest(room, tables.submission_set, 1)
    doomed = room.query(GET_SET_AND_CONTENTS, "ObjectRef", XDSSubmissionSetEntryUUID=f"'{kept}'").object_refs
    asked.clear()
    room.accept(update(*new_association(v.SIGNS, other.id, entry.id), patient=patient), ITI_57)
    room.accept(new_version(entry, patient=patient), ITI_57)
    room.accept(update(new_status(other.id), patient=patient), ITI_57)
    gone = room.send(ebrs.remove_objects_request(doomed), transaction=ITI_62)
    assert gone.status == v.SUCCESS, gone.errors
    assert {statement.split()[0] for statement, _ in asked} >= {"SELECT", "UPDATE", "DELETE"}
    assert explained(room, asked) == set()


def test_searches_for_patients(room, asked):
    """ITI-47: by ids, by names and births; merged ids look for the one that survives."""
    store = SqlPatientStore(room.engine, room.outbox)
    patient, authority = ids(room, "patient", "id")[0], ids(room, "patient", "authority")[0]
    asked.clear()
    assert store.with_ids([(patient, authority), ("nobody", authority)])
    assert store.like(["muller|anne|19700101", "meier|anne|19700101"], ["F"], 21) == ()
    assert sum(statement.startswith("SELECT") for statement, _ in asked) == 2
    assert explained(room, asked) == set()


def latest(room, table, count):
    key = next(iter(table.primary_key.columns))
    with reading(room.engine) as connection:
        return connection.execute(select(table.c.entry_uuid).order_by(key.desc()).limit(count)).scalars().all()


def owner(room, uuid):
    key, who = tables.object_key.c, tables.patient.c
    with reading(room.engine) as connection:
        found = select(who.id, who.authority).where(key.entry_uuid == uuid, key.patient_key == who.patient_key)
        return "{}^^^&{}&ISO".format(*connection.execute(found).one())
