"""Patients and feed messages in SQL, SQLite and PostgreSQL alike. Functions take a connection and commit nothing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from atna.store.engine import begin_write, reading
from atna.store.outbox import GroupCommit, Outbox, OutboxUnavailable, add
from atna.store.prepared import insert_rows
from ihe.demographics import name_and_birth
from registry.store import merges
from registry.store.keys import KeyMaker
from registry.store.moves import movable
from registry.store.patient_protocol import FeedMessageKey, KnownPatient, Movable, Move
from registry.store.protocol import Defect, PatientId, Registration, StoreUnavailable
from registry.store.rows import defect_rows
from registry.store.shown import read_codec
from registry.store.sql import named_failures
from registry.store.tables import defect, feed_message, outbox, patient
from registry.store.writing import change, new_rows

__all__ = ["SqlPatientStore", "answer_to", "forget_answers", "like", "make_known", "note", "remember", "with_ids"]

ROWS_AT_ONCE: Final = 100
"""Patients of one name and birth that are held at a time, however many there are."""


def make_known(connection: Connection, patients: Sequence[PatientId], told: Mapping[str, str | None], now: str) -> int:
    """See ``FeedUnitOfWork.make_known``. Two who add the same id at once: one loses, at the unique constraint."""
    wanted = list(dict.fromkeys(patients))
    p = patient.c
    alternatives = (and_(p.authority == authority, p.id == identifier) for identifier, authority in wanted)
    chosen = select(p.patient_key, p.id, p.authority, p.family, p.given, p.birth).where(or_(*alternatives))
    if told:
        # Of two messages at once that tell a part each, the second has to see what the first told: both parts are in
        # name_and_birth. The lock is the one that the update takes anyway, always in the same order.
        chosen = chosen.order_by(p.patient_key).with_for_update(key_share=True)
    known = {(row.id, row.authority): row for row in connection.execute(chosen)}
    new = [one for one in wanted if one not in known]
    if new:
        blank = {**dict.fromkeys(("family", "given", "birth", "sex")), **told, "name_and_birth": _found_by(told)}
        connection.execute(
            insert(patient),
            [
                {**blank, "id": identifier, "authority": authority, "known_since": now, "changed_at": now}
                for identifier, authority in new
            ],
        )
    if told:
        _tell(connection, list(known.values()), told, now)
    return len(new)


def _tell(connection: Connection, rows: Sequence[Any], told: Mapping[str, str | None], now: str) -> None:
    """One statement for all that are found alike afterwards: nearly always all of them."""
    alike: dict[str | None, list[int]] = {}
    for row in rows:
        kept = {"family": row.family, "given": row.given, "birth": row.birth}
        alike.setdefault(_found_by({**kept, **told}), []).append(row.patient_key)
    for found_by, keys in alike.items():
        changed = update(patient).where(patient.c.patient_key.in_(keys))
        connection.execute(changed.values(**told, name_and_birth=found_by, changed_at=now))


def _found_by(told: Mapping[str, str | None]) -> str | None:
    return name_and_birth(told.get("family"), told.get("given"), told.get("birth"))


def with_ids(connection: Connection, ids: Collection[PatientId]) -> tuple[KnownPatient, ...]:
    """See ``PatientStore.with_ids``."""
    p = patient.c
    return _standing(connection, or_(*(and_(p.authority == authority, p.id == one) for one, authority in ids)))


def like(connection: Connection, keys: Collection[str], sexes: Collection[str], limit: int) -> tuple[KnownPatient, ...]:
    """See ``PatientStore.like``."""
    survivor = patient.alias("survivor")
    p, left = patient.c, survivor.c
    alike = p.name_and_birth.in_(sorted(keys))
    of_sex = func.upper(p.sex).in_(sorted(sexes))
    rows = connection.execute(
        select(p.family, p.given, p.birth, left.patient_key, *_whom(left))
        .join_from(patient, survivor, left.patient_key == func.coalesce(p.survivor_key, p.patient_key))
        .where(and_(alike, of_sex) if sexes else alike)
        .order_by(left.patient_key),
        execution_options={"yield_per": ROWS_AT_ONCE},
    )
    found: dict[int, KnownPatient] = {}
    with rows:
        for family, given, birth, key, identifier, authority, *known in rows:
            # A program older than the column tells another name and leaves the column as it was.
            if name_and_birth(family, given, birth) in keys:
                found[key] = KnownPatient((identifier, authority), *known)
            if len(found) == limit:
                break
    return tuple(found.values())


def _standing(connection: Connection, condition: ColumnElement[bool]) -> tuple[KnownPatient, ...]:
    """The one that stands for each row that fits, once."""
    left = patient.alias("survivor").c
    fitting = select(func.coalesce(patient.c.survivor_key, patient.c.patient_key)).where(condition)
    rows = connection.execute(select(*_whom(left)).where(left.patient_key.in_(fitting)).order_by(left.patient_key))
    return tuple(KnownPatient((row[0], row[1]), *row[2:]) for row in rows)


def _whom(of: Any) -> tuple[Any, ...]:
    """What KnownPatient holds."""
    return of.id, of.authority, of.family, of.given, of.birth, of.sex


def answer_to(connection: Connection, message: FeedMessageKey) -> bytes | None:
    """See ``FeedUnitOfWork.answer_to``."""
    same = and_(_of(message), feed_message.c.sha256 == message.sha256)
    answer = connection.execute(select(feed_message.c.answer).where(same)).scalar_one_or_none()
    return bytes(answer) if answer is not None else None


def remember(connection: Connection, message: FeedMessageKey, answer: bytes, now: str) -> None:
    """See ``FeedUnitOfWork.remember``."""
    values = {"sha256": message.sha256, "answer": answer, "received_at": now}
    if not connection.execute(update(feed_message).where(_of(message)).values(**values)).rowcount:
        key = {"sender": message.sender, "control_id": message.control_id}
        connection.execute(insert(feed_message).values(**key, **values))


def note(connection: Connection, partner: str, defects: Sequence[Defect], now: str) -> None:
    """See ``FeedUnitOfWork.note``."""
    insert_rows(connection, [(defect, defect_rows(partner, now, defects))])


def forget_answers(connection: Connection, before: str) -> int:
    """See ``PatientStore.forget_answers``."""
    return connection.execute(delete(feed_message).where(feed_message.c.received_at < before)).rowcount


def _of(message: FeedMessageKey) -> ColumnElement[bool]:
    return and_(feed_message.c.sender == message.sender, feed_message.c.control_id == message.control_id)


class SqlPatientStore:
    """PatientStore over the registry's database."""

    def __init__(self, engine: Engine, audit: Outbox) -> None:
        self._engine = engine
        self._audit = audit
        self._keys = KeyMaker()
        self._group_commit = GroupCommit(engine, outbox, audit.sinks)

    @contextmanager
    def unit_of_work(self) -> "Iterator[SqlFeedUnitOfWork]":
        """One transaction; LostRace and StoreUnavailable leave nothing written."""
        with _failures(), begin_write(self._engine) as connection:
            yield SqlFeedUnitOfWork(connection, self._keys, self._audit.sinks)

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records of a message that changes nothing."""
        with _failures():
            self._group_commit.commit(messages)

    def forget_answers(self, before: str) -> int:
        """Drop answers to messages received before ``before``."""
        with _failures(), begin_write(self._engine) as connection:
            return forget_answers(connection, before)

    def with_ids(self, ids: Collection[PatientId]) -> tuple[KnownPatient, ...]:
        """Who has these ids, or survives of them."""
        with _failures(), reading(self._engine) as connection:
            return with_ids(connection, ids) if ids else ()

    def like(self, keys: Collection[str], sexes: Collection[str], limit: int) -> tuple[KnownPatient, ...]:
        """Who is of one of these names and births."""
        with _failures(), reading(self._engine) as connection:
            return like(connection, keys, sexes, limit) if keys else ()

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound."""
        with _failures():
            return self._audit.full()


class SqlFeedUnitOfWork:
    """FeedUnitOfWork on one connection."""

    def __init__(self, connection: Connection, keys: KeyMaker, sinks: Sequence[str]) -> None:
        self._connection = connection
        self._keys = keys
        self._sinks = sinks

    def answer_to(self, message: FeedMessageKey) -> bytes | None:
        """The answer that the same message got before."""
        return answer_to(self._connection, message)

    def make_known(self, patients: Sequence[PatientId], told: Mapping[str, str | None], now: str) -> int:
        """Add new ids, change what is told of the known ones."""
        return make_known(self._connection, patients, told, now)

    def merge(self, subsumed: PatientId, surviving: PatientId, now: str) -> None:
        """Merge one id into another, or raise MergeRefused."""
        merges.merge(self._connection, subsumed, surviving, now)

    def unmerge(self, one: PatientId, other: PatientId | None, now: str) -> tuple[PatientId, PatientId]:
        """End a merge, or raise MergeRefused."""
        return merges.unmerge(self._connection, one, other, now)

    def movable(self, move: Move) -> Movable:
        """Look at what is to be moved, and lock it."""
        return movable(self._connection, read_codec(self._connection), move)

    def apply(self, registration: Registration) -> None:
        """Write what a move comes to."""
        change(self._connection, registration)
        insert_rows(self._connection, new_rows(registration, read_codec(self._connection), self._keys))

    def remember(self, message: FeedMessageKey, answer: bytes, now: str) -> None:
        """Keep the answer."""
        remember(self._connection, message, answer, now)

    def note(self, partner: str, defects: Sequence[Defect], now: str) -> None:
        """Keep what was let pass."""
        note(self._connection, partner, defects, now)

    def record(self, messages: Sequence[bytes]) -> None:
        """Put audit records into the outbox."""
        add(self._connection, outbox, messages, self._sinks)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        with named_failures():
            yield
    except OutboxUnavailable as error:
        raise StoreUnavailable("the audit outbox does not answer") from error
    except SQLAlchemyError as error:  # no connection became free in time
        raise StoreUnavailable(type(error).__name__) from error
