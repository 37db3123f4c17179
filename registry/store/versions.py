"""Versions of logical objects in SQL: the latest one, with what a new version takes over."""

from collections.abc import Collection, Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, or_, select

from ihe import vocabulary as v
from ihe.registry_objects import Kind, RegistryObject
from registry.store import codes as c
from registry.store import tables as t
from registry.store.fragments import Codec
from registry.store.merges import survivors
from registry.store.protocol import Depositor, KnownVersion, Link
from registry.store.shown import whole_object

_HAS_MEMBER: Final = c.ASSOCIATION[v.HAS_MEMBER]
_RELATIONSHIPS: Final = [c.ASSOCIATION[one] for one in (v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS, v.IS_SNAPSHOT_OF)]


def latest_versions(connection: Connection, logical_ids: Collection[str], codec: Codec) -> dict[str, KnownVersion]:
    """The latest version of each logical id that exists; locked until the end of the transaction."""
    rows = [
        (kind, row)
        for kind, table in ((Kind.DOCUMENT_ENTRY, t.entry), (Kind.FOLDER, t.folder))
        for row in _latest_rows(connection, table, logical_ids)
    ]
    links = _links(connection, [row.entry_uuid for _, row in rows], codec)
    patients = {key: who[0] for key, who in survivors(connection, {row.patient_key for _, row in rows}).items()}
    return {
        row.logical_id: _known(kind, row, patients[row.patient_key], links.get(row.entry_uuid, ()))
        for kind, row in rows
    }


def used_logical_ids(connection: Connection, wanted: Collection[str]) -> frozenset[str]:
    """Which of these are logical ids; of a removed first version the later ones still have its id."""
    found: set[str] = set()
    for table in (t.entry, t.folder) if wanted else ():
        found |= set(
            connection.execute(select(table.c.logical_id).where(table.c.logical_id.in_(sorted(wanted)))).scalars()
        )
    return frozenset(found)


def _latest_rows(connection: Connection, table: Table, logical_ids: Collection[str]) -> Iterable[Any]:
    if not logical_ids:
        return ()
    wanted = select(table).where(table.c.logical_id.in_(sorted(logical_ids)), table.c.superseded == 0)
    return connection.execute(wanted.order_by(table.c.logical_id).with_for_update()).all()


def _known(kind: Kind, row: Any, patient_key: int, links: Collection[RegistryObject]) -> KnownVersion:
    common = {
        "entry_uuid": row.entry_uuid,
        "kind": kind,
        "patient_key": patient_key,
        "approved": row.status == c.APPROVED,
        "version": row.version,
        "unique_id": row.unique_id,
        "links": tuple(links),
    }
    if kind is Kind.FOLDER:
        return KnownVersion(**common)
    return KnownVersion(
        **common,
        object_type=c.ENTRY_TYPE_OF[row.object_type],
        hash=row.hash,
        size=row.size,
        repository_unique_id=row.repository_unique_id,
        source_patient_id=row.source_patient_id,
        availability=c.AVAILABILITY_OF[row.availability],
        depositor=Depositor(row.depositor_node, row.depositor_organisation, row.depositor_person),
    )


def _links(connection: Connection, uuids: list[str], codec: Codec) -> dict[str, list[RegistryObject]]:
    """Approved relationships and memberships of these objects whose other end is a latest version too."""
    if not uuids:
        return {}
    a = t.association.c
    rows = connection.execute(
        select(a.entry_uuid, a.type, a.source, a.target, a.status, a.dictionary, a.fragment)
        .where(
            or_(a.source.in_(uuids), a.target.in_(uuids)),
            a.status == c.APPROVED,
            a.type.in_([_HAS_MEMBER, *_RELATIONSHIPS]),
        )
        .order_by(a.association_key)
    ).all()
    ends = {end for row in rows for end in (row.source, row.target)}
    entries = _current(connection, t.entry, ends)
    folders = _current(connection, t.folder, ends, t.folder.c.status == c.APPROVED)
    found: dict[str, list[RegistryObject]] = {}
    for row in rows:
        sources = folders | set(uuids) if row.type == _HAS_MEMBER else entries
        if row.source in sources and row.target in entries:
            wire = whole_object(codec, t.association, row)
            for end in {row.source, row.target} & set(uuids):
                found.setdefault(end, []).append(wire)
    return found


def _current(connection: Connection, table: Table, uuids: set[str], *more: ColumnElement[bool]) -> set[str]:
    wanted = select(table.c.entry_uuid).where(table.c.entry_uuid.in_(sorted(uuids)), table.c.superseded == 0, *more)
    return set(connection.execute(wanted).scalars())


def approved_links(connection: Connection, links: Collection[Link]) -> frozenset[Link]:
    """Which of these associations exist and are Approved."""
    if not links:
        return frozenset()
    a = t.association.c
    rows = connection.execute(
        select(a.type, a.source, a.target).where(
            a.source.in_(sorted({source for _, source, _ in links})), a.status == c.APPROVED
        )
    )
    known = {(row.type, row.source, row.target) for row in rows}
    return frozenset(one for one in links if (c.ASSOCIATION.get(one[0]), one[1], one[2]) in known)
