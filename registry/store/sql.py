"""The registry's store in a relational database, SQLite or PostgreSQL, through SQLAlchemy Core."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, exists, func, select

from atna.store.engine import (
    DRIVER_ERRORS,
    Engine,
    is_disk_full,
    is_lost_race,
    reading,
)
from atna.store.outbox import GroupCommit, NotRecorded, Outbox, OutboxUnavailable, rows_of
from consent.policy import Visibility
from ihe import vocabulary as v
from ihe.registry_objects import Kind
from registry.criteria import Criteria
from registry.store import codes as c
from registry.store import tables as t
from registry.store.first_look import first_look, known_among
from registry.store.fragments import Codec
from registry.store.hits import Hit, Look, kept_bytes
from registry.store.keys import KeyMaker
from registry.store.protocol import (
    Asked,
    Facts,
    Found,
    KnownObject,
    LetPass,
    LostRace,
    PatientId,
    Registration,
    Removable,
    StoreUnavailable,
)
from registry.store.query_sql import KeptBytes, Selector, is_plain
from registry.store.readers import Readers, Source
from registry.store.removal import removable, remove
from registry.store.rows import defect_rows
from registry.store.shown import read_codec
from registry.store.transaction import Transaction
from registry.store.turns import take_turn, take_turn_of
from registry.store.versions import approved_links, latest_versions, used_logical_ids
from registry.store.writing import STATUS_TABLES, change, changes_something, new_rows


@contextmanager
def named_failures() -> Iterator[None]:
    """Turn what a database driver raises into LostRace or StoreUnavailable."""
    try:
        yield
    except DRIVER_ERRORS as error:
        if is_lost_race(error):
            raise LostRace from error
        raise StoreUnavailable(type(error).__name__, full=is_disk_full(error)) from error
    except NotRecorded as error:
        full = error.__cause__ is not None and is_disk_full(error.__cause__)
        raise StoreUnavailable("the audit records were not written", full=full) from error


class SqlRegistryStore:
    """The registry's memory; ``reader`` may be another engine for queries (a replica)."""

    def __init__(
        self, engine: Engine, outbox: Outbox, group_commit: GroupCommit, *, reader: Engine | None = None
    ) -> None:
        self._engine = engine
        self._readers = Readers(engine, reader)
        self._outbox = outbox
        self._group_commit = group_commit
        self._keys = KeyMaker()
        with reading(engine) as connection:
            self._codec = read_codec(connection)
        self._select = Selector(self._codec, self._kept_bytes)

    @contextmanager
    def unit_of_work(self) -> "Iterator[SqlUnitOfWork]":
        """One transaction. LostRace leaves nothing written; so does StoreUnavailable, unless the connection broke while
        the commit was under way: then nobody here knows, and the sender has to ask or send again.
        """
        with named_failures(), Transaction(self._engine, self._readers.primary.quick) as transaction:
            work = SqlUnitOfWork(transaction, self._codec, self._keys, self._outbox.sinks)
            with transaction.lost_when_cut_off():
                yield work
            work.finish()

    def knows_patient(self, patient: PatientId) -> bool:
        """Whether a feed made this patient known and nothing has merged it into another since."""
        # Not at the replica: it may not have heard of the patient yet, and this one is answered with an error.
        ask, dialect = self._readers.primary.quick.select, self._engine.dialect
        with named_failures():
            (found, _merged), _uses = first_look(ask, dialect, {patient}, ())
        return bool(found)

    def find(self, criteria: Criteria, visibility: Visibility, limit: int, *, full: bool) -> Found:
        """Select objects in one snapshot (ITI TF-2: 3.18.4.1.3)."""

        def ask(source: Source) -> Found:
            if is_plain(criteria):
                found = self._select.plain(source.quick, criteria, visibility, limit, full=full)
                if found is not None:
                    return found
            with reading(source.engine) as connection:
                return self._select(Look(connection, criteria, limit, full), visibility)

        with named_failures():
            return self._readers.ask(ask)

    def _kept_bytes(self, block: Sequence[Hit]) -> KeptBytes:
        """The bytes of a further block of an answer, in a short transaction of their own."""

        def ask(source: Source) -> KeptBytes:
            with reading(source.engine) as connection:
                return kept_bytes(connection, block)

        try:
            with named_failures():
                try:
                    return self._readers.ask(ask)
                except LookupError:  # a replica that answers now may be behind the server that selected
                    with reading(self._engine) as connection:
                        return kept_bytes(connection, block)
        except LookupError as gone:
            raise StoreUnavailable("an object was removed while it was to be sent") from gone

    def record_alone(self, messages: Sequence[bytes], let_pass: LetPass | None = None) -> None:
        """Write audit records of a request that changes nothing, together with those of its neighbours in time."""
        with named_failures():
            self._group_commit.commit(messages, [] if let_pass is None else [(t.defect, _defect_rows(let_pass))])

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound."""
        try:
            return self._outbox.full()
        except OutboxUnavailable as error:
            raise StoreUnavailable("the audit outbox does not answer") from error


class SqlUnitOfWork:
    """One transaction of the database."""

    def __init__(self, transaction: Transaction, codec: Codec, keys: KeyMaker, sinks: Sequence[str]) -> None:
        self._transaction = transaction
        self._codec = codec
        self._keys = keys
        self._sinks = sinks
        self._rows: list[tuple[Table, list[dict[str, Any]]]] = []

    def finish(self) -> None:
        """Write the rows that were gathered, and commit with them."""
        self._transaction.write_and_commit(self._rows)

    def facts_about(self, asked: Asked) -> Facts:
        """Answer everything a judge asked; referred entries are locked until the end of this work."""
        ask, dialect = self._transaction.ask, self._transaction.dialect
        (patients, merged), unique_ids = first_look(ask, dialect, asked.patients, asked.unique_ids)
        if asked.builds_on:
            take_turn(self._connection, set(patients.values()), asked.logical_ids)
        elif asked.of_new_alone and not known_among(ask, dialect, asked.entry_uuids | asked.new_uuids):
            return Facts(patients=patients, merged=merged, unique_ids=unique_ids, objects={}, children={}, folders={})
        return Facts(
            patients=patients,
            merged=merged,
            unique_ids=unique_ids,
            objects=self._objects(asked.entry_uuids),
            children=self._children(asked.replaced),
            folders=self._folders(asked.replaced),
            latest=latest_versions(self._connection, asked.logical_ids, self._codec) if asked.logical_ids else {},
            links=approved_links(self._connection, asked.links) if asked.links else frozenset(),
            used_logical_ids=used_logical_ids(self._connection, asked.new_uuids),
        )

    @property
    def _connection(self) -> Connection:
        return self._transaction.connection

    def removable(self, entry_uuids: Sequence[str]) -> Removable:
        """Look at objects that are to be removed, and lock them."""
        take_turn_of(self._connection, entry_uuids)
        return removable(self._connection, entry_uuids)

    def remove(self, objects: Mapping[str, Kind]) -> None:
        """Remove objects for good."""
        remove(self._connection, objects)

    def record(self, messages: Sequence[bytes]) -> None:
        """Put audit records into the outbox, inside this transaction."""
        self._rows.append((t.outbox, rows_of(messages, self._sinks)))

    def note(self, let_pass: LetPass) -> None:
        """Keep what ``warn`` let pass."""
        self._rows.append((t.defect, _defect_rows(let_pass)))

    def _objects(self, wanted: Collection[str]) -> dict[str, KnownObject]:
        if not wanted:
            return {}
        key, who = t.object_key.c, t.patient.c
        rows = self._connection.execute(
            select(key.entry_uuid, key.kind, func.coalesce(who.survivor_key, who.patient_key).label("patient_key"))
            .join(t.patient, who.patient_key == key.patient_key)
            .where(key.entry_uuid.in_(sorted(wanted)))
        ).all()
        by_kind: dict[Kind, list[str]] = {}
        for row in rows:
            by_kind.setdefault(c.KIND_OF[row.kind], []).append(row.entry_uuid)
        patients = {row.entry_uuid: row.patient_key for row in rows}
        found: dict[str, KnownObject] = {}
        for kind, uuids in sorted(by_kind.items(), key=lambda pair: c.KIND[pair[0]]):
            found.update(self._known(kind, uuids, patients))
        return found

    def _known(self, kind: Kind, uuids: list[str], patients: dict[str, int]) -> dict[str, KnownObject]:
        """What is known of objects; one that was removed after its key was read is not known any more."""
        table = STATUS_TABLES.get(kind)
        if table is None:
            return {uuid: KnownObject(kind, patients[uuid], approved=True) for uuid in uuids}
        more: list[Any] = []
        if kind is Kind.ASSOCIATION:
            of_set = exists().where(t.submission_set.c.entry_uuid == table.c.source)
            more = [of_set.label("of_set"), table.c.source, _doubled().label("doubled")]
        elif kind is Kind.DOCUMENT_ENTRY:
            more = [table.c.superseded, table.c.object_type, _transformation().label("transformation")]
        else:
            more = [table.c.superseded]
        rows = self._connection.execute(
            # Locked in one order, so that of two replacements of one document the second waits and then sees the first.
            select(table.c.entry_uuid, table.c.status, *more)
            .where(table.c.entry_uuid.in_(sorted(uuids)))
            .order_by(table.c.entry_uuid)
            .with_for_update(of=table)
        )
        return {
            row.entry_uuid: KnownObject(
                kind,
                patients[row.entry_uuid],
                row.status == c.APPROVED,
                c.ENTRY_TYPE_OF[row.object_type] if kind is Kind.DOCUMENT_ENTRY else None,
                superseded=bool(getattr(row, "superseded", 0)),
                of_set=bool(getattr(row, "of_set", False)),
                source=getattr(row, "source", None),
                doubled=bool(getattr(row, "doubled", False)),
                transformation=bool(getattr(row, "transformation", False)),
            )
            for row in rows
        }

    def _children(self, replaced: Collection[str]) -> dict[str, tuple[str, ...]]:
        if not replaced:
            return {}
        a = t.association.c
        rows = self._connection.execute(
            select(a.target, a.source)
            .where(
                a.target.in_(sorted(replaced)),
                a.type.in_([c.ASSOCIATION[v.APND], c.ASSOCIATION[v.XFRM]]),
                a.status == c.APPROVED,
            )
            .order_by(a.association_key)
        )
        return _grouped((row.target, row.source) for row in rows)

    def _folders(self, replaced: Collection[str]) -> dict[str, tuple[str, ...]]:
        if not replaced:
            return {}
        a, f = t.association.c, t.folder.c
        rows = self._connection.execute(
            select(a.target, a.source)
            .join(t.folder, f.entry_uuid == a.source)
            .where(
                a.target.in_(sorted(replaced)),
                a.type == c.ASSOCIATION[v.HAS_MEMBER],
                a.status == c.APPROVED,
                f.status == c.APPROVED,
            )
            .order_by(a.association_key)
            .with_for_update(of=t.folder)
        )
        return _grouped((row.target, row.source) for row in rows)

    def apply(self, registration: Registration) -> None:
        """Write a registration; LostRace when a replaced entry is no longer Approved or an id was taken meanwhile."""
        if changes_something(registration):
            change(self._connection, registration)
        self._rows += new_rows(registration, self._codec, self._keys)


def _doubled() -> ColumnElement[bool]:
    """Whether another association than the one of a row says the same and is Approved."""
    a, other = t.association.c, t.association.alias("other").c
    alike = (other.source == a.source, other.target == a.target, other.type == a.type)
    return exists().where(*alike, other.entry_uuid != a.entry_uuid, other.status == c.APPROVED)


def _transformation() -> ColumnElement[bool]:
    """Whether the entry of a row was made from another one."""
    a = t.association.c
    made_from = (a.source == t.entry.c.entry_uuid, a.type == c.ASSOCIATION[v.XFRM], a.status == c.APPROVED)
    return exists().where(*made_from)


def _defect_rows(let_pass: LetPass) -> list[dict[str, Any]]:
    return defect_rows(let_pass.partner, let_pass.found_at, let_pass.defects)


def _grouped(pairs: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        found[key] = (*found.get(key, ()), value)
    return found
