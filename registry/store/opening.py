"""Opening the registry's database: schema, and the first compression dictionary of a new one."""

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError

from atna.store.engine import begin_write, open_engine, reading
from registry.store.dictionary import first_dictionary
from registry.store.tables import dictionary, metadata


def open_registry(database_url: str, read_database_url: str | None = None) -> tuple[Engine, Engine]:
    """The engine that writes and the one that answers queries (the same without a replica)."""
    engine = open_engine(database_url, metadata)
    with reading(engine) as connection:
        new = connection.execute(select(dictionary.c.number)).first() is None
    if new:
        try:
            with begin_write(engine) as connection:
                connection.execute(insert(dictionary).values(number=1, bytes=first_dictionary()))
        except IntegrityError:
            pass  # another process opened it first
    reader = engine if read_database_url is None else open_engine(read_database_url, metadata, read_only=True)
    return engine, reader
