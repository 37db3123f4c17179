"""A stored object as it is shown: what is in its row goes into the holes of its bytes."""

from typing import Any

from sqlalchemy import Connection, Table, select

from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects
from ihe.registry_objects import RegistryObject
from registry.store import codes as c
from registry.store import tables as t
from registry.store.fragments import Codec, Filling, filled
from schemas import parse_xml

__all__ = ["filling", "read_codec", "whole_object"]


def read_codec(connection: Connection) -> Codec:
    """Compression with the dictionaries of this database."""
    rows = connection.execute(select(t.dictionary.c.number, t.dictionary.c.bytes))
    return Codec({row.number: row.bytes for row in rows})


def filling(table: Table, row: Any, patient_id: str) -> Filling:
    """What a row puts into the holes; ``patient_id`` is the CX text to show."""
    return Filling(
        status=c.STATUS_OF[row.status].value,
        version=getattr(row, "version", 1),
        logical_id=getattr(row, "logical_id", row.entry_uuid),
        patient_id=patient_id,
        home=getattr(row, "home", None),
        last_update_time=row.last_update_time if table is t.folder else None,
        availability=_offline(row.availability) if table is t.entry else None,
    )


def _offline(number: int) -> str | None:
    """Online is what is taken for granted."""
    word = c.AVAILABILITY_OF[number]
    return None if word == v.AVAILABLE_ONLINE else word


def whole_object(codec: Codec, table: Table, row: Any, patient_id: str = "") -> RegistryObject:
    """A row with all its columns as the object it is, read again; ``patient_id`` may be empty for an association."""
    text = filled(codec.decompressed(row.fragment, row.dictionary), filling(table, row, patient_id))
    listed = b'<rim:RegistryObjectList xmlns:rim="%s">%s</rim:RegistryObjectList>' % (v.RIM.encode(), text)
    return read_submitted_objects(parse_xml(listed)).objects[0]
