"""A registration in SQL: first what changes of what is registered, then the rows of what is new.

The same for whatever brings one: a submission, a metadata update, a link change of a patient feed.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Table, update

from ihe.metadata import AvailabilityStatus
from ihe.registry_objects import Kind
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import set_values
from registry.store.fragments import Codec
from registry.store.keys import KeyMaker
from registry.store.protocol import LostRace, Registration, StatusChange
from registry.store.removal import hold_unique_ids
from registry.store.rows import Rows

__all__ = ["STATUS_TABLES", "change", "changes_something", "new_rows"]

# Where objects are kept that have a status which changes.
STATUS_TABLES: Final = {Kind.DOCUMENT_ENTRY: t.entry, Kind.FOLDER: t.folder, Kind.ASSOCIATION: t.association}


def changes_something(registration: Registration) -> bool:
    """Whether there is anything for ``change`` to do, besides which new rows are written."""
    r = registration
    changed = (r.replaced, r.status_changes, r.bytes_told, r.deprecated, r.touched_folders, _used_again(r))
    return any(changed)


def _used_again(registration: Registration) -> frozenset[str]:
    return registration.known_unique_ids & {entry.unique_id for entry, _ in registration.entries}


def change(connection: Connection, registration: Registration) -> None:
    """Change what is registered; LostRace when something is no longer as it was when it was looked at."""
    replaced = (
        StatusChange(Kind.DOCUMENT_ENTRY, one, AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED)
        for one in registration.replaced
    )
    _change_status(connection, (*replaced, *registration.status_changes))
    key = t.unique_id_key
    for unique_id, (sha1, size) in registration.bytes_told.items():
        connection.execute(update(key).where(key.c.unique_id == unique_id).values(hash=sha1, size=size))
    set_values(connection, t.entry, registration.deprecated, {"status": c.DEPRECATED})
    set_values(connection, t.folder, registration.touched_folders, {"last_update_time": registration.now})
    hold_unique_ids(connection, _used_again(registration))


def _change_status(connection: Connection, changes: Iterable[StatusChange]) -> None:
    alike: dict[tuple[Kind, AvailabilityStatus, AvailabilityStatus, bool], list[str]] = {}
    for one in changes:
        alike.setdefault((one.kind, one.was, one.becomes, one.superseded), []).append(one.entry_uuid)
    for (kind, was, becomes, superseded), uuids in alike.items():
        table = STATUS_TABLES[kind]
        values = {"status": c.STATUS[becomes]}
        conditions = [table.c.status == c.STATUS[was]]
        if kind is not Kind.ASSOCIATION:
            values["superseded"] = int(superseded)
            conditions.append(table.c.superseded == 0)
        if set_values(connection, table, uuids, values, *conditions) != len(uuids):
            raise LostRace


def new_rows(registration: Registration, codec: Codec, keys: KeyMaker) -> list[tuple[Table, list[dict[str, Any]]]]:
    """What is new, in the order in which foreign keys want it."""
    rows = Rows(registration, codec, keys)
    # A DocumentEntry of the same bytes shares the row of its uniqueId; two who are first at once: one loses here.
    fresh = [row for row in rows.unique_ids() if row["unique_id"] not in registration.known_unique_ids]
    return [*rows.all(), (t.unique_id_key, fresh)]
