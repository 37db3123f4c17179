"""One record as rows: what goes into ``record`` and into each of the tables it is found by."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Table

from atna.record_repository.indexing import Indexed
from atna.record_repository.store.tables import (
    INDEXED,
    record_object,
    record_participant,
    record_patient,
    record_text,
    record_type,
)

__all__ = ["SIDE_TABLES", "columns_of", "cut", "cut_all", "insert_rows", "record_row", "side_rows"]

SIDE_TABLES: Final = (record_patient, record_participant, record_object, record_type, record_text)


def record_row(item: Indexed, number: int, link: bytes, received_at: int, via: str) -> dict[str, Any]:
    """The row of ``record``."""
    return {
        "number": number,
        "event_at": item.event_at,
        "sha256": item.sha256,
        "chain": link,
        "received_at": received_at,
        "repeats": 0,
        **columns_of(item),
        "via": via,
        "message": item.message,
    }


def columns_of(item: Indexed) -> dict[str, Any]:
    """The columns of ``record`` that a search compares."""
    return {
        "readable": item.readable,
        "event_code": cut(item.event_code),
        "event_system": cut(item.event_system),
        "action": item.action,
        "outcome": item.outcome,
        "source_id": cut(item.source_id),
        "site_id": cut(item.site_id),
        "agent_roles": item.agent_roles,
        "entity_types": item.entity_types,
        "entity_roles": item.entity_roles,
    }


def side_rows(item: Indexed, number: int) -> list[tuple[Any, list[dict[str, Any]]]]:
    """(table, rows) for each of ``SIDE_TABLES``, in that order; keys in the order of the columns."""
    common = {"event_at": item.event_at, "record": number}
    patients = {(cut(patient.id), cut(patient.authority or "")) for patient in item.patients}
    types = {(cut(code), cut(system or "")) for code, system in item.types}
    texts = {(kind, cut(text), cut(system)) for kind, text, system in item.texts}
    return [
        (record_patient, [{"id": id_, "authority": authority, **common} for id_, authority in patients]),
        (record_participant, [{"user_id": user, **common} for user in cut_all(item.users)]),
        (record_object, [{"object_id": object_id, **common} for object_id in cut_all(item.objects)]),
        (record_type, [{"code": code, "system": system, **common} for code, system in types]),
        (record_text, [{"kind": kind, "text": text, "system": system, **common} for kind, text, system in texts]),
    ]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows at once. The values are those of the drivers already, so SQLAlchemy need not look at each of them.

    Raises what SQLAlchemy or, on PostgreSQL, the driver raises.
    """
    if not rows:
        return
    names = tuple(rows[0])
    values = [tuple(row.values()) for row in rows]
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(_copy_statement(table, names)) as copy:
            for row in values:
                copy.write_row(row)
    else:
        connection.exec_driver_sql(_insert_statement(table, names), values)


# Names are our own tables' and columns'.
@cache
def _insert_statement(table: Table, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)})"  # noqa: S608


@cache
def _copy_statement(table: Table, names: tuple[str, ...]) -> str:
    return f"COPY {table.name} ({', '.join(names)}) FROM STDIN"


def cut(text: str | None) -> str | None:
    """A searched text as far as it is kept, without the blanks around it: nobody sees them, and no search has them."""
    return None if text is None else text.strip()[:INDEXED]


def cut_all(texts: frozenset[str]) -> set[str]:
    """Several of them."""
    return {text.strip()[:INDEXED] for text in texts}
