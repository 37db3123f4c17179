"""Runs stored queries and turns the rows that answer into the objects to show (ITI TF-2: 3.18.4.1.3)."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, literal_column

from atna.store.prepared import Prepared
from atna.store.quick import Quick
from consent.policy import Visibility
from ihe.datatypes import CX, print_cx
from ihe.metadata import AvailabilityStatus
from registry.criteria import Attribute as At
from registry.criteria import Criteria, Query
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.fragments import Codec, filled
from registry.store.hits import Hit, Look, base, kept_bytes
from registry.store.merges import keys_of, survivors
from registry.store.plans import PLANS
from registry.store.protocol import Found, TooManyFound
from registry.store.shown import filling

_e = t.entry.c


SMALL: Final = 200
"""So many objects are read with their bytes in the snapshot that selects them; the bytes of more follow in blocks."""

KeptBytes = list[tuple[int, bytes]]
"""(dictionary, bytes) of each object of a block."""


class Selector:
    """Runs the SQL of each query and turns rows into ``Found``; ``read_later`` reads the bytes of further blocks.

    Which objects answer, their status and version are those of one snapshot. Their bytes never change, so it does not
    matter when they are read: a peer that reads slowly holds neither a connection nor an old snapshot.
    """

    def __init__(self, codec: Codec, read_later: Callable[[Sequence[Hit]], KeptBytes]) -> None:
        self._codec = codec
        self._read_later = read_later
        self._plain: dict[Any, Prepared] = {}

    def __call__(self, look: Look, visibility: Visibility) -> Found:
        """Select in one snapshot; a ``visibility`` that hides something cannot be applied yet. Raises TooManyFound."""
        if not visibility.everything:
            raise ValueError("this store can show everything or nothing")
        hits = look.within(PLANS[look.criteria.query](look))
        keys = {hit.row.patient_key for hit in hits if hit.table is not t.association}
        patients = _patient_ids(look.connection, keys)
        return self._found(hits, patients, kept_bytes(look.connection, hits[:SMALL]) if look.full else None)

    def plain(
        self, quick: Quick, criteria: Criteria, visibility: Visibility, limit: int, *, full: bool
    ) -> Found | None:
        """FindDocuments by patient, status and type, which nearly every query of the field is: one quick statement.

        None when more than ``SMALL`` objects are wanted in full. Raises TooManyFound.
        """
        if not visibility.everything or len(criteria.patients) != 1:
            raise ValueError("this query is not plain")
        most = min(limit, SMALL) if full else limit
        # One text for each choice of status and type; what the sender chose is ours by now, never its own words.
        chosen = frozenset(criteria.any_of(At.STATUS)), frozenset(criteria.any_of(At.ENTRY_TYPE)), criteria.all_versions
        shape = (*chosen, most, full)
        statement = self._plain.get(shape)
        if statement is None:
            statement = self._plain[shape] = Prepared(_plain_statement(criteria, most, full=full), quick.dialect)
        identifier, authority = criteria.patients[0]
        rows = quick.select(statement, {"patient_id": identifier, "patient_authority": authority})
        if len(rows) > limit:
            raise TooManyFound(limit)
        if len(rows) > most:
            return None
        hits = [Hit(t.entry, _EntryRow(*row)) for row in rows]
        patients = dict.fromkeys((hit.row.patient_key for hit in hits), print_cx(CX(identifier, authority)))
        return self._found(hits, patients, [(hit.row.dictionary, hit.row.fragment) for hit in hits] if full else None)

    def _found(self, hits: list[Hit], patients: dict[int, str], first: KeptBytes | None) -> Found:
        return Found(
            entry_uuids=[hit.row.entry_uuid for hit in hits],
            patient_ids=frozenset(patients.values()),
            objects=iter(()) if first is None else self._objects(hits, patients, first),
        )

    def _objects(self, hits: list[Hit], patients: dict[int, str], kept: KeptBytes) -> Iterator[bytes]:
        for at in range(0, len(hits), SMALL):
            block = hits[at : at + SMALL]
            for hit, (dictionary, fragment) in zip(block, kept if at == 0 else self._read_later(block), strict=True):
                shown = filling(hit.table, hit.row, patients.get(hit.row.patient_key, ""))
                yield filled(self._codec.decompressed(fragment, dictionary), shown)


_PLAIN: Final = frozenset({At.STATUS, At.ENTRY_TYPE, At.METADATA_LEVEL})


@dataclass(slots=True)
class _EntryRow:
    """A row of ``_plain_statement``, as the driver gave it; the columns after the third only where it is full."""

    key: int
    entry_uuid: str
    patient_key: int
    status: int = 0
    home: str | None = None
    logical_id: str = ""
    version: int = 0
    availability: int = 0
    dictionary: int = 0
    fragment: bytes = b""


def is_plain(criteria: Criteria) -> bool:
    """Whether ``Selector.plain`` can answer."""
    return criteria.query is Query.FIND_DOCUMENTS and criteria.values.keys() <= _PLAIN


def _plain_statement(criteria: Criteria, limit: int, *, full: bool) -> Select[Any]:
    # The merges are followed in the same statement: a round trip of their own would cost more than they do.
    keys = keys_of(bindparam("patient_id"), bindparam("patient_authority"))
    wanted = base(t.entry, full=full).where(_e.patient_key.in_(keys)).order_by(_e.entry_key)
    if full:
        wanted = wanted.add_columns(_e.dictionary, _e.fragment)
    if not criteria.all_versions and set(criteria.any_of(At.STATUS)) != {AvailabilityStatus.APPROVED}:
        # An old version is never Approved.
        wanted = wanted.where(_e.superseded == literal_column("0"))
    for attribute, column, numbers in ((At.STATUS, _e.status, c.STATUS), (At.ENTRY_TYPE, _e.object_type, c.ENTRY_TYPE)):
        if attribute in criteria.values:
            known: dict[Any, int] = dict(numbers)
            chosen: Any = [
                literal_column(str(known[word])) for word in sorted(set(criteria.any_of(attribute)), key=str)
            ]
            wanted = wanted.where(column.in_(chosen))
    return wanted.limit(literal_column(str(limit + 1)))


def _patient_ids(connection: Connection, keys: Collection[int]) -> dict[int, str]:
    """CX text of each patient key: that of the patient who survives of it."""
    found: dict[int, str] = {}
    for block in blocks(keys):
        found.update((key, print_cx(CX(*who))) for key, (_, who) in survivors(connection, block).items())
    return found
