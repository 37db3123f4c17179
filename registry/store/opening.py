"""Opening the registry's database: schema, and the first compression dictionary of a new one."""

import time
from typing import Final

import structlog
from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError

from atna.store.engine import (
    DRIVER_ERRORS,
    DatabaseRefused,
    begin_write,
    is_unavailable,
    new_engine,
    open_engine,
    reading,
)
from registry.store.dictionary import first_dictionary
from registry.store.tables import dictionary, metadata

__all__ = ["open_registry"]

FIRST_COPY_S: Final = 15.0
"""How long a replica may take to get the tables of a database that was made just now."""

_log = structlog.get_logger(__name__)


def open_registry(database_url: str, read_database_url: str | None = None) -> tuple[Engine, Engine]:
    """The engine that writes and the one that answers queries (the same without a replica).

    A replica that does not answer keeps nobody from starting: the primary answers until it is back.
    """
    engine = open_engine(database_url, metadata)
    with reading(engine) as connection:
        new = connection.execute(select(dictionary.c.number)).first() is None
    if new:
        try:
            with begin_write(engine) as connection:
                connection.execute(insert(dictionary).values(number=1, bytes=first_dictionary()))
        except IntegrityError:
            pass  # another process opened it first
    if read_database_url is None:
        return engine, engine
    try:
        return engine, _open_replica(read_database_url, time.monotonic() + (FIRST_COPY_S if new else 0))
    except BaseException:
        engine.dispose()
        raise


def _open_replica(url: str, until: float) -> Engine:
    while True:
        try:
            return open_engine(url, metadata, read_only=True)
        except DatabaseRefused:
            if time.monotonic() > until:
                raise
        except DRIVER_ERRORS as error:
            if not is_unavailable(error):
                raise
            _log.warning("the replica does not answer, the primary does", error=type(error).__name__)
            return new_engine(url, read_only=True)
        time.sleep(0.2)
