"""What the end of a merge parts: associations that were made while two patients were one. Functions take a connection.

A folder holds documents of one patient, and a relationship is between documents of one (ITI TF-3: 4.2.2.1.3). Whatever
follows such a link, as a replacement and a new version do, would else carry one patient's documents to the other.
"""

from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, Table, select

from ihe import vocabulary as v
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import set_values

__all__ = ["part"]

_MEMBERSHIP: Final = [c.ASSOCIATION[v.HAS_MEMBER]]
_RELATIONSHIPS: Final = [c.ASSOCIATION[one] for one in (v.APND, v.XFRM, v.SIGNS, v.IS_SNAPSHOT_OF)]
"""A replacement stays what it was: it says why its target is Deprecated, and nothing follows it any further."""


def part(connection: Connection, keys: Collection[int], now: str) -> None:
    """Deprecate Approved associations with one end among these patients and the other end elsewhere.

    Folders that lose a member so get ``now`` as lastUpdateTime; what a SubmissionSet refers to stays.
    """
    crossing: dict[str, str] = {}
    for table, types in ((t.folder, _MEMBERSHIP), (t.entry, _RELATIONSHIPS)):
        crossing |= _crossing(connection, table, types, keys)
    set_values(connection, t.association, crossing, {"status": c.DEPRECATED})
    set_values(connection, t.folder, set(crossing.values()), {"last_update_time": now})


def _crossing(connection: Connection, sources: Table, types: list[int], keys: Collection[int]) -> dict[str, str]:
    """EntryUUID of each such association to that of its source, which is in this table."""
    source, target, link = sources.alias("source"), t.entry.alias("target"), t.association.c
    found: dict[str, str] = {}
    # Two statements, each led by the rows of the patients; an OR of both would read every association.
    for inside, outside in ((source, target), (target, source)):
        statement = (
            select(link.entry_uuid, link.source)
            .join(source, source.c.entry_uuid == link.source)
            .join(target, target.c.entry_uuid == link.target)
            .where(
                inside.c.patient_key.in_(sorted(keys)),
                outside.c.patient_key.not_in(sorted(keys)),
                link.type.in_(types),
                link.status == c.APPROVED,
            )
        )
        found |= {row.entry_uuid: row.source for row in connection.execute(statement)}
    return found
