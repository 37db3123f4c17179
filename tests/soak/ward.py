"""One patient whose few objects many writers change at once, and what must be true of them in the end.

A ward has ``chains`` (documents that are replaced again and again), ``papers`` (entries that get new versions) and one
``folder`` that holds them all and gets members and new versions itself. Every acknowledgement is noted here; what two
writers were both told, or what was acknowledged and is not there, is a violation.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field

from ihe import vocabulary as v
from ihe.registry_objects import Kind

__all__ = ["Line", "Ward"]


@dataclass
class Line:
    """A logical object, or a chain of replacements: the entryUUID and number that were acknowledged last."""

    name: str
    unique_id: str
    current: str
    number: int = 1
    acknowledged: Counter = field(default_factory=Counter)


@dataclass
class Ward:
    """``members`` and ``appended`` are entries that were acknowledged in the folder and as addenda of a paper."""

    patient: str
    chains: list = field(default_factory=list)
    papers: list = field(default_factory=list)
    folder: Line | None = None
    sets: dict = field(default_factory=dict)
    plain: dict = field(default_factory=dict)
    filed: dict = field(default_factory=dict)
    appended: dict = field(default_factory=dict)
    gone: Counter = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def succeed(self, line, number, uuid):
        """Version or replacement ``number`` of a line was acknowledged."""
        with self.lock:
            line.acknowledged[number] += 1
            if number > line.number:
                line.number, line.current = number, uuid

    def seen(self, line):
        with self.lock:
            return line.current, line.number

    def take(self, pool, rng, *, keep):
        """One item of a pool; ``keep``: leave it there, so that others try the same."""
        with self.lock:
            if not pool:
                return None
            key = rng.choice(list(pool))
            return key, (pool[key] if keep else pool.pop(key))

    # -------------------------------------------------------------------------------------------------- verdict

    def faults(self, objects):
        """What is wrong with everything the registry holds of this patient, all versions, all statuses."""
        by_id = {one.id: one for one in objects}
        links = [one for one in objects if one.kind is Kind.ASSOCIATION]
        entries = {o.id: o for o in objects if o.kind is Kind.DOCUMENT_ENTRY}
        yield from self._line_faults(objects)
        yield from self._chain_faults(entries)
        yield from self._set_faults(objects)
        for one in links:
            for end in (one.source, one.target):
                if end not in by_id:
                    yield f"association {one.id} ({one.type.rpartition(':')[2]}) leads to {end}, which is not there"
        yield from self._link_faults(by_id, links)

    def _line_faults(self, objects):
        for line in (*self.papers, self.folder):
            versions = sorted((int(o.version_name), o.status) for o in objects if o.lid == line.name)
            last = len(line.acknowledged) + 1
            wanted = [(n, v.APPROVED if n == last else v.DEPRECATED) for n in range(1, last + 1)]
            if versions != wanted:
                yield f"{line.name}: {last - 1} updates were acknowledged, the versions are {versions}"

    def _chain_faults(self, entries):
        for line in (*self.chains, *self.papers, self.folder):
            for number, count in line.acknowledged.items():
                if count > 1:
                    yield f"{line.name}: {count} writers were told that theirs is number {number}"
        for line in self.chains:
            chain = [o for o in entries.values() if o.identifier(v.ENTRY_UNIQUE_ID).startswith(line.unique_id + ".")]
            approved = [o.id for o in chain if o.status == v.APPROVED]
            if len(chain) != len(line.acknowledged) + 1 or approved != [line.current]:
                yield f"chain {line.unique_id}: {len(chain)} documents, approved {approved}, last is {line.current}"

    def _set_faults(self, objects):
        found = Counter(o.identifier(v.SUBMISSION_SET_UNIQUE_ID) for o in objects if o.kind is Kind.SUBMISSION_SET)
        for unique_id, uuid in self.sets.items():
            if found[unique_id] != (0 if self.gone[uuid] else 1):
                yield f"SubmissionSet {unique_id} is there {found[unique_id]} times, removed {self.gone[uuid]} times"
        for unique_id in found.keys() - self.sets.keys():
            yield f"SubmissionSet {unique_id} was refused and is there"
        for uuid, times in self.gone.items():
            if times > 1:
                yield f"{times} writers were told that they removed {uuid}"
        entries = Counter((o.identifier(v.ENTRY_UNIQUE_ID), o.lid) for o in objects if o.kind is Kind.DOCUMENT_ENTRY)
        for unique_id, lids in Counter(unique_id for unique_id, _ in entries).items():
            if lids > 1:
                yield f"uniqueId {unique_id} stands in {lids} entries"

    def _link_faults(self, by_id, links):
        """Every member that was acknowledged is in the folder of today, every addendum at the paper of today."""
        joined = {(o.type, o.source, o.target) for o in links if o.status == v.APPROVED}
        today = self.folder.current
        members = [*(one.current for one in (*self.chains, *self.papers)), *self.filed]
        for one in members:
            if one in by_id and (v.HAS_MEMBER, today, one) not in joined:
                yield f"entry {one} is not in the folder's version {self.folder.number}"
        for one, paper in self.appended.items():
            if (v.APND, one, paper.current) not in joined:
                yield f"addendum {one} is not at version {paper.number} of {paper.name}"
        for (_, source, target), count in Counter(
            (o.type, o.source, o.target) for o in links if o.status == v.APPROVED
        ).items():
            if count > 1:
                yield f"{count} approved associations of one kind join {source} and {target}"
