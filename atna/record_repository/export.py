"""A partition of the log handed over as a file (``dossier audit export``): on record before its first octet."""

from collections.abc import Callable
from dataclasses import dataclass

from atna.message import Outcome
from atna.node_events import audit_log_exported
from atna.participants import Parties, Writer
from atna.record_repository.indexing import index
from atna.record_repository.store.protocol import LogPartition
from atna.record_repository.store.records import RecordStore
from atna.recorder import Recorder

__all__ = ["Export"]


@dataclass(frozen=True, slots=True)
class Export:
    """Every call raises StoreUnavailable."""

    store: RecordStore
    recorder: Recorder

    def write(self, partition: str, operator: str, put: Callable[[bytes], object]) -> int:
        """Hand a partition to ``put``, bit by bit; the number of records. ``operator``: an account of this host.

        No record, no export; that of the open partition holds its own. Raises NotExported, with nothing on record,
        where there is nothing to hand over.
        """
        found = self.store.exportable(partition)
        self.store.keep([index(self._record(found, operator))])
        return self.store.export(partition, put)

    def _record(self, one: LogPartition, operator: str) -> bytes:
        host = self.recorder.host
        parties = Parties(Writer.RESPONDER, operator, host, "audit", host, self.recorder.process_id)
        numbers = (one.first, one.last)
        return self.recorder.record(
            audit_log_exported(parties, partition=one.name, records=numbers, outcome=Outcome.SUCCESS)
        )
