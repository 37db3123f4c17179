"""What lies there after a soak, read straight from the databases and the folder, or the bucket, of documents.

The services are stopped meanwhile. Each check yields one line for each thing that should not be.
"""

import os
import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from atna.message import parse
from atna.record_repository.store import tables as audit_tables
from atna.record_repository.store.records import RecordStore
from atna.store.engine import open_engine, reading
from registry.store import codes
from registry.store import tables as registry_tables
from repository.store import tables as repository_tables
from repository.store.vault import sealed_size
from tests.builders import REPOSITORY

__all__ = ["Trail", "answered_faults", "audit_faults", "backlog", "oldest_waiting", "store_faults", "waiting"]

_CREATED = re.compile(rb'CreationTimeFrom".*?(\d{14})', re.DOTALL)
_KEY = re.compile(r"[0-9a-f]{32}")


@contextmanager
def _asking(url, metadata):
    engine = open_engine(url, metadata, read_only=True)
    try:
        with reading(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def backlog(urls):
    """Audit records that still wait in an outbox."""
    rows = 0
    for name, tables in (("registry", registry_tables), ("repository", repository_tables)):
        with _asking(urls[name], tables.metadata) as connection:
            rows += connection.execute(select(func.count()).select_from(tables.outbox)).scalar_one()
    return rows


def oldest_waiting(urls):
    """The id of the first row of each outbox; while a sender delivers they grow."""
    found = []
    for name, tables in (("registry", registry_tables), ("repository", repository_tables)):
        with _asking(urls[name], tables.metadata) as connection:
            found.append(connection.execute(select(func.min(tables.outbox.c.id))).scalar_one())
    return found


def waiting(urls):
    """Rows of the repository whose outcome is not settled: submissions and documents."""
    tables = repository_tables
    with _asking(urls["repository"], tables.metadata) as connection:
        return sum(
            connection.execute(select(func.count()).select_from(table).where(table.c.state != "available")).scalar_one()
            for table in (tables.submissions, tables.documents)
        )


def store_faults(urls, where, ledger):
    """Entries, rows and objects against each other, and against what was acknowledged.

    ``where``: the folder of documents, or ``tests.object_store.Place`` in a bucket.
    """
    rows = _document_rows(urls)
    entries = _entries(urls)
    yield from _row_faults(rows)
    yield from _object_faults(rows, where)
    yield from _entry_faults(rows, entries)
    yield from _ledger_faults(entries, ledger)


def _document_rows(urls):
    with _asking(urls["repository"], repository_tables.metadata) as connection:
        return connection.execute(select(repository_tables.documents)).all()


def _entries(urls):
    with _asking(urls["registry"], registry_tables.metadata) as connection:
        e, s = registry_tables.entry.c, registry_tables.submission_set.c
        joined = registry_tables.entry.join(registry_tables.submission_set)
        return connection.execute(
            select(
                e.unique_id, e.entry_uuid, e.hash, e.size, e.status, e.repository_unique_id, s.unique_id.label("set_id")
            ).select_from(joined)
        ).all()


def _row_faults(rows):
    for row in rows:
        if row.state != "available":
            yield f"repository: document row {row.object_key} is still {row.state}"
    for unique_id, count in Counter(row.unique_id for row in rows if row.state == "available").items():
        if count > 1:
            yield f"repository: document {unique_id} is available {count} times"


def _object_faults(rows, where):
    lying = _in_folder(where) if isinstance(where, Path) else where.lying()
    stored = {}
    for name, size, complete in lying:
        if not _KEY.fullmatch(name):
            yield f"store: foreign file {name}"
        elif not complete:
            yield f"store: unfinished upload {name}"
        else:
            stored[name] = size
    known = {row.object_key: row.size if row.kek is None else sealed_size(row.size) for row in rows}
    for key in stored.keys() - known.keys():
        yield f"store: object {key} has no row"
    for key in known.keys() - stored.keys():
        yield f"store: row {key} has no object"
    for key in known.keys() & stored.keys():
        if known[key] != stored[key]:
            yield f"store: object {key} has {stored[key]} bytes, its row says {known[key]}"


def _in_folder(folder):
    for at, _folders, files in os.walk(folder):
        for name in files:
            yield name, (Path(at) / name).stat().st_size, Path(at).name != "incoming"


def _entry_faults(rows, entries):
    for unique_id, count in Counter(entry.unique_id for entry in entries).items():
        if count > 1:
            yield f"registry: uniqueId {unique_id} stands in {count} entries"
    here = {entry.unique_id: entry for entry in entries if entry.repository_unique_id == REPOSITORY}
    lies = {row.unique_id: row for row in rows if row.state == "available"}
    for unique_id in here.keys() - lies.keys():
        yield f"registry: entry of document {unique_id} has no object"
    for unique_id in lies.keys() - here.keys():
        yield f"repository: document {unique_id} has no entry"
    for unique_id in lies.keys() & here.keys():
        if (lies[unique_id].hash, lies[unique_id].size) != (here[unique_id].hash, here[unique_id].size):
            yield f"document {unique_id}: entry and row differ in hash or size"


def _ledger_faults(entries, ledger):
    by_id = {entry.unique_id: entry for entry in entries}
    for document in ledger.documents.values():
        entry = by_id.get(document.unique_id)
        if entry is None:
            yield f"registry: document {document.unique_id} was acknowledged and has no entry"
            continue
        wanted = codes.DEPRECATED if document.replaced else codes.APPROVED
        if (entry.hash, entry.size, entry.set_id) != (document.sha1, document.size, document.submission_set):
            yield f"registry: entry of document {document.unique_id} is not the one that was acknowledged"
        if entry.status != wanted:
            yield f"registry: document {document.unique_id} is {'not ' if document.replaced else ''}deprecated"


# ---------------------------------------------------------------------------------------------------- audit


class Trail:
    """Counts of successful records: who wrote it, which transaction, about what."""

    def __init__(self):
        self.feeds = Counter()
        self.imported = Counter()
        self.exported = Counter()
        self.provided = Counter()
        self.queries = Counter()
        self.retrieved = Counter()
        self.records = 0
        self.distinct = 0

    @classmethod
    def read(cls, urls):
        trail, digests = cls(), set()
        record = audit_tables.record.c
        with _asking(urls["audit"], audit_tables.metadata) as connection:
            for row in connection.execute(select(record.message, record.sha256)):
                trail.records += 1
                digests.add(bytes(row.sha256))
                message = bytes(row.message)
                trail._count(parse(message[message.index(b"<AuditMessage") :]))
        trail.distinct = len(digests)
        return trail

    def _count(self, message):
        event = message.event
        if event.outcome != 0 or not event.type_codes:
            return
        code, by_registry = event.type_codes[0].code, message.source.source_id.startswith("registry")
        ids = [one.id for one in message.objects if one.role != 1]
        if code == "ITI-8":
            self.feeds.update(d.value.decode() for o in message.objects for d in o.details if d.type == "MSH-10")
        elif code == "ITI-42":
            (self.imported if by_registry else self.exported).update(ids)
        elif code == "ITI-41":
            self.provided.update(ids)
        elif code == "ITI-43":
            self.retrieved.update(ids)
        elif code == "ITI-18" and by_registry:
            found = [_CREATED.search(one.query) for one in message.objects if one.query]
            self.queries.update(match.group(1).decode() for match in found if match)


def audit_faults(urls, ledger):
    """Every acknowledged request has its records, what happens once has one, what never was has none; the chain holds."""
    store = RecordStore.open(urls["audit"])
    fault = store.verify_chain().fault
    store.close()
    if fault:
        yield f"audit: the chain is broken: {fault}"
    trail = Trail.read(urls)
    if trail.records != trail.distinct:
        yield f"audit: {trail.records - trail.distinct} records stand twice in the index"
    for control_id in ledger.feeds:
        if trail.feeds[control_id] != 1:
            yield f"audit: ITI-8 {control_id} has {trail.feeds[control_id]} records"
    for one in ledger.sets.values():
        if trail.imported[one.unique_id] != 1:
            yield f"audit: registry's ITI-42 of {one.unique_id} has {trail.imported[one.unique_id]} records"
        if one.provided and not trail.exported[one.unique_id]:
            yield f"audit: repository's ITI-42 of {one.unique_id} has no record"
        if one.provided and not trail.provided[one.unique_id]:
            yield f"audit: ITI-41 of {one.unique_id} has no record"
    for marker, sent in ledger.queries.items():
        if not (marker in ledger.answered) <= trail.queries[marker] <= sent:
            yield f"audit: ITI-18 sent {sent} times has {trail.queries[marker]} records"
    for unique_id, asked in ledger.asked.items():
        if not ledger.retrieved[unique_id] <= trail.retrieved[unique_id] <= asked:
            records = trail.retrieved[unique_id]
            yield f"audit: ITI-43 of {unique_id}: {ledger.retrieved[unique_id]} answered, {asked} sent, {records} records"


def answered_faults(urls, answers):
    """``answers``: how often each (transaction, "Success" or codes) was given by the registry; each left one record."""
    told = Counter()
    for (transaction, code), count in answers.items():
        told[transaction, code == "Success"] += count
    kept = Counter()
    record = audit_tables.record.c
    with _asking(urls["audit"], audit_tables.metadata) as connection:
        for message in connection.execute(select(record.message)).scalars():
            event = parse(bytes(message)[bytes(message).index(b"<AuditMessage") :]).event
            if event.type_codes:
                kept[event.type_codes[0].code, event.outcome == 0] += 1
    for (transaction, success), count in told.items():
        if kept[transaction, success] != count:
            what = "successes" if success else "refusals"
            yield f"audit: {count} {what} of {transaction} were answered, {kept[transaction, success]} have records"
