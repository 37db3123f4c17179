"""Runs stored queries and turns the rows that answer into the objects to show (ITI TF-2: 3.18.4.1.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, literal_column

from atna.store.prepared import Prepared
from atna.store.quick import Quick
from consent.policy import Visibility
from ihe import vocabulary as v
from ihe.datatypes import CX, print_cx
from registry.criteria import Attribute as At
from registry.criteria import Criteria, Query
from registry.store import codes as c
from registry.store import tables as t
from registry.store.fragments import Codec, Filling, filled
from registry.store.hits import Hit, base
from registry.store.merges import keys_of, survivors
from registry.store.plans import PLANS
from registry.store.protocol import Found

_e = t.entry.c


class Selector:
    """Runs the SQL of each query and turns rows into ``Found``."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._plain: dict[Any, Prepared] = {}

    def __call__(self, connection: Connection, criteria: Criteria, visibility: Visibility, limit: int | None) -> Found:
        """Select in the connection's snapshot; a ``visibility`` that hides something cannot be applied yet."""
        if not visibility.everything:
            raise ValueError("this store can show everything or nothing")
        hits = PLANS[criteria.query](connection, criteria, limit)
        patients = _patient_ids(connection, {hit.row.patient_key for hit in hits if hit.table is not t.association})
        return self._found(hits, patients)

    def plain(self, quick: Quick, criteria: Criteria, visibility: Visibility, limit: int | None) -> Found:
        """FindDocuments by patient, status and type, which nearly every query of the field is: one quick statement."""
        if not visibility.everything or criteria.patient is None:
            raise ValueError("this query is not plain")
        # One text for each choice of status and type; what the sender chose is ours by now, never its own words.
        shape = (frozenset(criteria.any_of(At.STATUS)), frozenset(criteria.any_of(At.ENTRY_TYPE)), limit)
        statement = self._plain.get(shape)
        if statement is None:
            statement = self._plain[shape] = Prepared(_plain_statement(criteria, limit), quick.dialect)
        identifier, authority = criteria.patient
        rows = quick.select(statement, {"patient_id": identifier, "patient_authority": authority})
        hits = [Hit(t.entry, _EntryRow(*row)) for row in rows]
        return self._found(
            hits, dict.fromkeys((hit.row.patient_key for hit in hits), print_cx(CX(identifier, authority)))
        )

    def _found(self, hits: list[Hit], patients: dict[int, str]) -> Found:
        return Found(
            entry_uuids=[hit.row.entry_uuid for hit in hits],
            patient_ids=frozenset(patients.values()),
            objects=self._objects(hits, patients),
        )

    def _objects(self, hits: list[Hit], patients: dict[int, str]) -> Iterator[bytes]:
        for table, row in ((hit.table, hit.row) for hit in hits):
            yield filled(
                self._codec.decompressed(row.fragment, row.dictionary),
                Filling(
                    status=c.STATUS_OF[row.status].value,
                    version=getattr(row, "version", 1),
                    logical_id=getattr(row, "logical_id", row.entry_uuid),
                    patient_id=patients.get(row.patient_key, ""),
                    home=getattr(row, "home", None),
                    last_update_time=row.last_update_time if table is t.folder else None,
                    availability=_shown_availability(row) if table is t.entry else None,
                ),
            )


_PLAIN: Final = frozenset({At.STATUS, At.ENTRY_TYPE, At.METADATA_LEVEL})


@dataclass(slots=True)
class _EntryRow:
    """A row of ``hits.COLUMNS[entry]``, in that order, as the driver gave it."""

    entry_uuid: str
    patient_key: int
    status: int
    home: str | None
    dictionary: int
    fragment: bytes
    logical_id: str
    version: int
    availability: int


def is_plain(criteria: Criteria) -> bool:
    """Whether ``Selector.plain`` can answer."""
    return criteria.query is Query.FIND_DOCUMENTS and criteria.values.keys() <= _PLAIN


def _plain_statement(criteria: Criteria, limit: int | None) -> Select[Any]:
    # The merges are followed in the same statement: a round trip of their own would cost more than they do.
    keys = keys_of(bindparam("patient_id"), bindparam("patient_authority"))
    wanted = base(t.entry).where(_e.patient_key.in_(keys)).order_by(_e.entry_key)
    for attribute, column, numbers in ((At.STATUS, _e.status, c.STATUS), (At.ENTRY_TYPE, _e.object_type, c.ENTRY_TYPE)):
        if attribute in criteria.values:
            known: dict[Any, int] = dict(numbers)
            chosen: Any = [
                literal_column(str(known[word])) for word in sorted(set(criteria.any_of(attribute)), key=str)
            ]
            wanted = wanted.where(column.in_(chosen))
    return wanted if limit is None else wanted.limit(literal_column(str(limit + 1)))


def _shown_availability(row: Any) -> str | None:
    word = c.AVAILABILITY_OF[row.availability]
    return None if word == v.AVAILABLE_ONLINE else word


def _patient_ids(connection: Connection, keys: set[int]) -> dict[int, str]:
    """CX text of each patient key: that of the patient who survives of it."""
    return {key: print_cx(CX(*who)) for key, (_, who) in survivors(connection, keys).items()}
