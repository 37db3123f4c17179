"""Schema versions: from the one a database has to the one its program needs, one migration for each step.

``schema_of``  which version a database has, and which one the program needs
``upgrade``    runs what lies between them, in order

A migration is a module of Alembic, named by its number (``versions/0002_….py`` leads from 1 to 2), whose ``upgrade``
uses ``alembic.op``. Each runs in one transaction together with the new number in ``schema_version``, so a failure
leaves tables, rows and number as they were, on SQLite too. One runner at a time: on PostgreSQL the row of
``schema_version`` is locked, on SQLite the database. Alembic's own table of versions is not used: one truth is enough,
and programs of every version look into ``schema_version`` before they touch anything.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, event, make_url, select, update
from sqlalchemy.exc import DBAPIError

from atna.store.engine import (
    DatabaseRefused,
    begin_write,
    is_locked,
    known_version,
    new_engine,
    open_engine,
    reading,
    schema_version,
)

__all__ = ["Schema", "schema_of", "upgrade"]

_one_at_a_time: Final = threading.Lock()
"""``alembic.op`` is one for the whole process."""


@dataclass(frozen=True, slots=True)
class Schema:
    """``found`` is the version of the database (None: nothing in it, or not there), ``needed`` the program's."""

    found: int | None
    needed: int


def schema_of(url: str, metadata: MetaData) -> Schema:
    """What is there, without making anything. Raises DatabaseRefused, and SQLAlchemy's errors when nothing answers."""
    needed = int(metadata.info["version"])
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).is_file():
        return Schema(None, needed)
    engine = new_engine(url, read_only=True)
    try:
        with reading(engine) as connection:
            return Schema(known_version(connection, metadata.info["room"]), needed)
    finally:
        engine.dispose()


def upgrade(url: str, metadata: MetaData, migrations: Path) -> Schema:
    """Create the schema where there is none, else migrate it to the version of ``metadata``; gives what was there.

    ``migrations`` is the folder that holds ``versions``. Raises DatabaseRefused: newer than the program, of another
    room, in use by somebody else, or a migration failed; then the schema has the version of the last that did not.
    """
    engine = _rebuilding_engine(url)
    try:
        with reading(engine) as connection:
            before = Schema(known_version(connection, metadata.info["room"]), int(metadata.info["version"]))
        if before.found is not None:
            _migrate(engine, metadata, before, migrations)
    finally:
        engine.dispose()
    # Makes the tables of an empty database; refuses one that is newer.
    open_engine(url, metadata).dispose()
    return before


def _migrate(engine: Engine, metadata: MetaData, schema: Schema, migrations: Path) -> None:
    assert schema.found is not None
    scripts = ScriptDirectory(str(migrations), version_locations=[str(migrations / "versions")])
    for number in range(schema.found + 1, schema.needed + 1):
        try:
            _step(engine, metadata.info["room"], number, scripts)
        except DatabaseRefused:
            raise
        except Exception as error:
            raise DatabaseRefused(_refusal(engine, number, error)) from error


def _refusal(engine: Engine, number: int, error: Exception) -> str:
    where = f"database {engine.url.render_as_string()}"
    if isinstance(error, DBAPIError) and is_locked(error):
        return (
            f"{where}: in use, by its services or by another upgrade; stop them and run it again (nothing was changed)"
        )
    name = type(error.orig if isinstance(error, DBAPIError) and error.orig else error).__name__
    return f"{where}: the step to version {number} failed ({name}); it is as it was at version {number - 1}"


def _step(engine: Engine, room: str, number: int, scripts: ScriptDirectory) -> None:
    """Run one migration, unless another runner has done so while we waited for it."""
    script = scripts.get_revision(f"{number:04d}")
    assert script is not None
    row = schema_version.c
    with _one_at_a_time, begin_write(engine) as connection:
        held = connection.execute(select(row.version).where(row.room == room).with_for_update()).scalar_one()
        if held >= number:
            return
        context = MigrationContext.configure(connection, opts={"render_as_batch": True})
        module: Any = script.module
        with Operations.context(context):
            module.upgrade()
        connection.execute(update(schema_version).where(row.room == room).values(version=number))
        _check_references(connection)


def _rebuilding_engine(url: str) -> Engine:
    """Foreign keys that do not act, where a table is changed by copying it and dropping the old one (SQLite).

    They can be switched off only before a transaction begins; ``_check_references`` looks before it ends.
    """
    engine = new_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA foreign_keys=OFF")

    return engine


def _check_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise DatabaseRefused("a migration left a reference to nothing; nothing was changed")
