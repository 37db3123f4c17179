"""Opening a database the one way every room needs it: SQLite or PostgreSQL, the same SQLAlchemy Core code on both.

``open_engine``   engine with the pragmas and pool that make an acknowledged commit a durable one; creates the tables
``new_engine``    the same engine with no look at what is in the database
``begin_write``   one transaction that may write; SQLite: BEGIN IMMEDIATE, a writer waits at its start, never half-way
``reading``       one transaction that only reads, one snapshot for all its statements
``write``         runs a unit of work, and again when it lost a race
``is_lost_race``, ``is_locked``, ``is_disk_full``, ``is_unavailable``   what an error means to the caller

Addresses: ``sqlite:///PATH`` (three slashes relative, four absolute; a file on a local disk),
``postgresql+psycopg://…``. One schema per database: ``MetaData(info={"room": "registry", "version": 1})`` is written
into table ``schema_version`` at the first opening and compared at each later one; ``atna.store.migrating`` leads from
an older version to the one a program needs. No advisory locks, triggers or server-side code.
"""

import os
import random
import select as select_module
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Engine is among the public names so that a room can hand one on without knowing SQLAlchemy.
__all__ = [
    "DRIVER_ERRORS",
    "DatabaseRefused",
    "Engine",
    "begin_write",
    "has_something_to_say",
    "is_disk_full",
    "is_locked",
    "is_lost_race",
    "is_unavailable",
    "known_version",
    "new_engine",
    "open_engine",
    "reading",
    "schema_version",
    "write",
]

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 5.0
"""How long a SQLite writer waits for the writer before it."""

IDLE_PING_S: Final = 5.0
"""A PostgreSQL connection unused for longer is asked whether it still lives before it is lent out."""

ATTEMPTS: Final = 5
"""How often ``write`` runs a unit of work that keeps losing races."""

DRIVER_ERRORS: Final = (SQLAlchemyError, psycopg.Error, sqlite3.Error)
"""What a database can raise here, wrapped by SQLAlchemy or bare where a statement went straight through the driver."""

POSTGRESQL_OPTIONS: Final = {
    "connect_timeout": 10,
    "application_name": "dossier",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""A server that vanishes without a word holds a thread for seconds, not until the kernel gives up; libpq's names."""

POSTGRESQL_SESSION: Final = ("TIME ZONE 'UTC'", "synchronous_commit = on", "lock_timeout = '10s'")
"""What is SET on every connection."""

_OPTION: Final = "dossier_write"

# SQLite result codes (sqlite.org/rescode.html); their low byte is the primary code.
_SQLITE_BUSY: Final = 5
_SQLITE_LOCKED: Final = 6
_SQLITE_FULL: Final = 13
_SQLITE_CANTOPEN: Final = 14
_SQLITE_IOERR: Final = 10
_SQLITE_NOTADB: Final = 26
_SQLITE_WRITE_FAILED: Final = frozenset({778, 1546, 4874})  # IOERR_WRITE, _TRUNCATE, _SHMSIZE: no room seen another way
_SQLITE_UNIQUE: Final = frozenset({1555, 2067, 2579})  # CONSTRAINT_PRIMARYKEY, _UNIQUE, _ROWID
# PostgreSQL SQLSTATEs (appendix A of its manual).
_PG_LOST_RACE: Final = frozenset({"23505", "40001", "40P01", "55P03"})
_PG_LOCKED: Final = "55P03"
_PG_DISK_FULL: Final = "53100"
_PG_UNAVAILABLE: Final = ("08", "53300", "57P")
_PG_EXISTS: Final = frozenset({"23505", "42P07", "42710", "XX000"})  # two first openings at once

_versions: Final = MetaData()
schema_version: Final = Table(
    "schema_version",
    _versions,
    Column("room", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

_writer_locks: "weakref.WeakKeyDictionary[Engine, threading.Lock]" = weakref.WeakKeyDictionary()
_read_only: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class DatabaseRefused(Exception):  # noqa: N818 - a refusal, worded for whoever wrote the settings
    """A database that can't be used as it is: text for the operator, no password in it."""


def open_engine(
    url: str, metadata: MetaData, *, read_only: bool = False, pool_size: int = 8, max_connections: int = 40
) -> Engine:
    """An engine on ``url`` whose schema is ``metadata``, created where the database is empty.

    ``read_only``: nothing is created or written (a replica). ``pool_size`` connections are kept, at most
    ``max_connections`` are open at once; more callers than that wait 10 s and get an ``is_unavailable`` error.
    Raises DatabaseRefused (address unusable, schema older or newer than this program needs, database of another room)
    and what SQLAlchemy raises when the database does not answer.
    """
    engine = new_engine(url, read_only=read_only, pool_size=pool_size, max_connections=max_connections)
    try:
        _prepare_schema(engine, metadata, read_only=read_only)
    except BaseException:
        engine.dispose()
        raise
    return engine


def new_engine(url: str, *, read_only: bool = False, pool_size: int = 8, max_connections: int = 40) -> Engine:
    """An engine on ``url``, whatever is in the database. Raises DatabaseRefused for an address that cannot be used."""
    address = make_url(url)
    backend = address.get_backend_name()
    if backend == "sqlite":
        engine = _sqlite_engine(address, read_only=read_only, pool_size=pool_size, max_connections=max_connections)
    elif backend == "postgresql":
        engine = _postgresql_engine(address, pool_size=pool_size, max_connections=max_connections)
    else:
        msg = f"database {address.render_as_string()}: only sqlite:/// and postgresql+psycopg:// are supported"
        raise DatabaseRefused(msg)
    if read_only:
        _read_only.add(engine)
    return engine


def _sqlite_engine(address: URL, *, read_only: bool, pool_size: int, max_connections: int) -> Engine:
    if not address.database or address.database == ":memory:":
        msg = "database sqlite://: a file is needed (sqlite:////path/name.db); memory would lose what was acknowledged"
        raise DatabaseRefused(msg)
    if not read_only:
        _create_private(Path(address.database))
    elif not Path(address.database).is_file():
        msg = f"database file {address.database}: it isn't there, and it is opened for reading only"
        raise DatabaseRefused(msg)
    engine = create_engine(
        address,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        pool_size=pool_size,
        max_overflow=max(0, max_connections - pool_size),
        pool_timeout=10,
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see _begin
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "case_sensitive_like=ON"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode != _SQLITE_NOTADB:
                raise
            msg = f"database file {address.database}: it is no SQLite database"
            raise DatabaseRefused(msg) from error
        connection.execute(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
        connection.execute("PRAGMA journal_size_limit=67108864")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_OPTION, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    _writer_locks[engine] = threading.Lock()
    return engine


def _create_private(path: Path) -> None:
    """The file holds patients' data: only its owner reads it. SQLite gives -wal and -shm the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        msg = f"database file {path}: {error.strerror or error}"
        raise DatabaseRefused(msg) from error


def _postgresql_engine(address: URL, *, pool_size: int, max_connections: int) -> Engine:
    engine = create_engine(
        address.set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        # What the address says itself counts: postgresql+psycopg://…/registry?connect_timeout=2
        connect_args={name: value for name, value in POSTGRESQL_OPTIONS.items() if name not in address.query},
        pool_size=pool_size,
        max_overflow=max(0, max_connections - pool_size),
        pool_timeout=10,
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        for setting in POSTGRESQL_SESSION:
            connection.execute(f"SET {setting}")
        connection.commit()

    @event.listens_for(engine, "checkin")
    def _checkin(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: object) -> None:
        # After a restart of the server every pooled connection is dead; a question per request would cost a round trip.
        recently = time.monotonic() - record.info.get("idle_since", time.monotonic()) < IDLE_PING_S
        if recently and not has_something_to_say(connection):
            return
        try:
            connection.execute("SELECT 1")
            connection.rollback()
        except Exception as error:  # whatever the driver says: the pool opens a new connection
            raise DisconnectionError from error

    return engine


def has_something_to_say(connection: psycopg.Connection[Any]) -> bool:
    """Whether bytes, or the end, have come on an idle connection: its server said good-bye. Costs two microseconds."""
    if connection.closed:
        return True
    socket = select_module.poll()
    socket.register(connection.fileno(), select_module.POLLIN)
    return bool(socket.poll(0))


def _prepare_schema(engine: Engine, metadata: MetaData, *, read_only: bool) -> None:
    room, version = str(metadata.info.get("room", "")), int(metadata.info.get("version", 1))
    attempt = 0
    while True:
        try:
            with reading(engine) as connection:
                known = known_version(connection, room)
            if known is None and not read_only:
                _create(engine, metadata, room, version)
                known = version
            break
        except DBAPIError as error:
            attempt += 1
            raced = is_lost_race(error) or _sqlstate(error) in _PG_EXISTS
            if not raced or attempt >= 20:
                raise
            time.sleep(0.05 * attempt)
    if known is None:
        msg = f"database {engine.url.render_as_string()}: no tables of Dossier in it, and it is opened for reading only"
        raise DatabaseRefused(msg)
    if known > version:
        msg = (
            f"database {engine.url.render_as_string()}: its schema has version {known}, this program knows "
            f"{version}; start the newer program, this one would damage the data"
        )
        raise DatabaseRefused(msg)
    if known < version:
        msg = (
            f"database {engine.url.render_as_string()}: its schema has version {known}, this program needs {version}; "
            "stop the services that use it and run: dossier db upgrade"
        )
        raise DatabaseRefused(msg)


def known_version(connection: Connection, room: str) -> int | None:
    """The version of the room's schema in this database, None for an empty one; DatabaseRefused for another room's."""
    if not inspect(connection).has_table("schema_version"):
        return None
    rows = {row.room: int(row.version) for row in connection.execute(select(schema_version))}
    if room in rows or not rows:
        return rows.get(room)
    msg = (
        f"database {connection.engine.url.render_as_string()}: it belongs to {', '.join(sorted(rows))}; "
        f"{room or 'this service'} needs a database of its own"
    )
    raise DatabaseRefused(msg)


def _create(engine: Engine, metadata: MetaData, room: str, version: int) -> None:
    with begin_write(engine) as connection:
        if known_version(connection, room) is not None:
            return
        _versions.create_all(connection)
        metadata.create_all(connection)
        connection.execute(insert(schema_version).values(room=room, version=version))


@contextmanager
def begin_write(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed and durable when the block ends, rolled back when it raises.

    Within a process SQLite's writers queue at a lock, in order and without polling; between processes SQLite's own
    lock decides. Raises what SQLAlchemy raises; ask ``is_lost_race``, ``is_disk_full``, ``is_unavailable``.
    DatabaseRefused for an engine opened for reading only.
    """
    if engine in _read_only:
        msg = f"database {engine.url.render_as_string()}: it was opened for reading only"
        raise DatabaseRefused(msg)
    lock = _writer_locks.get(engine)
    held = lock is not None and lock.acquire(timeout=BUSY_TIMEOUT_S)  # not got: SQLite itself will answer "busy"
    try:
        with engine.connect() as connection:
            connection.execution_options(**{_OPTION: True})
            with connection.begin():
                yield connection
    finally:
        if lock is not None and held:
            lock.release()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One read-only transaction: every statement sees the same state of the data. Nothing can be committed with it."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin() as transaction:
            yield connection
            transaction.rollback()


def write(engine: Engine, work: Callable[[Connection], T]) -> T:
    """``work`` in one transaction, run again from its start when it lost a race (at most ``ATTEMPTS`` times).

    ``work`` must take everything from its connection: what another transaction committed meanwhile is seen next time.
    """
    attempt = 0
    while True:
        try:
            with begin_write(engine) as connection:
                return work(connection)
        except DRIVER_ERRORS as error:
            attempt += 1
            if attempt >= ATTEMPTS or not is_lost_race(error):
                raise
            time.sleep(random.uniform(0.001, 0.02) * attempt)  # noqa: S311 - spreads retries, guards nothing


def is_lost_race(error: BaseException) -> bool:
    """Another transaction was first: a unique constraint, a serialization failure, a deadlock, a busy database."""
    if (state := _sqlstate(error)) is not None:
        return state in _PG_LOST_RACE
    code = _sqlite_code(error)
    return code is not None and (code & 0xFF in {_SQLITE_BUSY, _SQLITE_LOCKED} or code in _SQLITE_UNIQUE)


def is_locked(error: BaseException) -> bool:
    """Somebody else holds what this transaction wanted, for longer than it waits."""
    if (state := _sqlstate(error)) is not None:
        return state == _PG_LOCKED
    code = _sqlite_code(error)
    return code is not None and code & 0xFF in {_SQLITE_BUSY, _SQLITE_LOCKED}


def is_disk_full(error: BaseException) -> bool:
    """The database found no room to write; nothing of the transaction was kept."""
    if (state := _sqlstate(error)) is not None:
        return state == _PG_DISK_FULL
    code = _sqlite_code(error)
    return code is not None and (code & 0xFF == _SQLITE_FULL or code in _SQLITE_WRITE_FAILED)


def is_unavailable(error: BaseException) -> bool:
    """The database does not answer now, or lends no connection: a later attempt may succeed."""
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if (state := _sqlstate(error)) is not None:
        return state.startswith(_PG_UNAVAILABLE)
    code = _sqlite_code(error)
    if code is not None:
        primary = code & 0xFF
        busy = primary in {_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_CANTOPEN}
        return busy or (primary == _SQLITE_IOERR and code not in _SQLITE_WRITE_FAILED)
    # psycopg's connection failures carry no SQLSTATE.
    return isinstance(_of_driver(error), psycopg.OperationalError)


def _of_driver(error: BaseException) -> BaseException | None:
    """The driver's own error, wrapped by SQLAlchemy or not (a pipeline raises it bare)."""
    return error.orig if isinstance(error, DBAPIError) else error


def _sqlstate(error: BaseException) -> str | None:
    state = getattr(_of_driver(error), "sqlstate", None)
    return state if isinstance(state, str) else None


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(_of_driver(error), "sqlite_errorcode", None)
    return code if isinstance(code, int) else None
