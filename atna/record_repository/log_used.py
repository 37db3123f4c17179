"""Each reading of the log is on record before it is answered (DICOM PS3.15 A.5.3.2 Audit Log Used)."""

from atna.message import Outcome
from atna.node_events import audit_log_used
from atna.participants import serving
from atna.record_repository.indexing import index
from atna.record_repository.store.protocol import Records
from atna.recorder import Recorder
from wire.rest import RestRequest

__all__ = ["record_use"]


def record_use(
    records: Records,
    recorder: Recorder,
    request: RestRequest,
    outcome: Outcome,
    *,
    search: str | None = None,
    reason: str | None = None,
    decision: str | None = None,
) -> None:
    """Keep what ``request`` did to the log: ``search`` what it asked for, ``reason`` why it was refused.

    ``decision`` is the rule of the access policy. Raises StoreUnavailable.
    """
    message = audit_log_used(
        serving(request.caller, request.url, recorder.process_id),
        log_uri=request.url,
        outcome=outcome,
        search=search,
        reason=reason,
        decision=decision,
    )
    records.keep([index(recorder.record(message))])
