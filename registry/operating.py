"""What an operator does to the patients of a registry by command: looks at merges, and ends one.

Acts on the registry's database, also while the registry serves. What is changed is on the audit trail in the same
transaction, with the operator's name as the system knows it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from atna import events
from atna.message import AuditMessage, Outcome
from atna.recorder import Recorder
from atna.settings import AuditSettings
from atna.store.outbox import Outbox
from ihe.datatypes import CX, print_cx
from registry.settings import RegistrySettings
from registry.store.merges import ListedMerge, read_merges
from registry.store.opening import open_registry
from registry.store.patient_protocol import MergeRefused
from registry.store.patients import SqlPatientStore
from registry.store.protocol import LostRace, PatientId
from registry.store.tables import outbox

__all__ = ["Operator", "merges"]

_ATTEMPTS: Final = 5


def merges(registry: RegistrySettings, *, undone: bool) -> tuple[ListedMerge, ...]:
    """The merges that hold, oldest first; with ``undone`` those that were ended as well."""
    return read_merges(registry.database_url, undone=undone)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts: ``name`` is the account, on the host of ``recorder``; ``now`` gives seconds since 1970."""

    name: str
    recorder: Recorder
    now: Callable[[], float] = time.time

    def unmerge(self, registry: RegistrySettings, audit: AuditSettings, subsumed: PatientId) -> PatientId:
        """End the merge of an id; gives the one that had survived. Raises MergeRefused and StoreUnavailable."""
        engine, _reader = open_registry(registry.database_url)
        try:
            store = SqlPatientStore(engine, Outbox(engine, outbox, audit.sinks, audit.max_outbox_rows))
            try:
                return self._unmerged(store, subsumed)
            except MergeRefused as refused:
                failed = self._audited(subsumed, Outcome.SERIOUS_FAILURE, refused.reason)
                store.record_alone([self.recorder.record(failed)])
                raise
        finally:
            engine.dispose()

    def _unmerged(self, store: SqlPatientStore, subsumed: PatientId) -> PatientId:
        now = datetime.fromtimestamp(self.now(), UTC).strftime("%Y%m%d%H%M%S")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with store.unit_of_work() as work:
                    pair = work.unmerge(subsumed, None, now)
                    work.record([self.recorder.record(self._audited(one, Outcome.SUCCESS, None)) for one in pair])
            except LostRace:
                if attempt == _ATTEMPTS:
                    raise
                continue
            break
        return pair[1]

    def _audited(self, patient: PatientId, outcome: Outcome, reason: str | None) -> AuditMessage:
        host = self.recorder.host
        return events.patient_changed_by_operator(
            participants.Parties(
                participants.Writer.RESPONDER, self.name, host, "registry", host, self.recorder.process_id
            ),
            patient_id=print_cx(CX(*patient)),
            operation="unmerge",
            outcome=outcome,
            reason=reason,
        )
