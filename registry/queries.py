"""How a stored query is answered: read, selected in one snapshot, recorded, then sent piece by piece."""

from itertools import chain, islice

import structlog

from atna import events
from ihe.errors import Rejected
from registry import iti18_registry_stored_query as iti18
from registry.asked import QueryAsked
from registry.desk import Desk
from registry.iti18_registry_stored_query import refusal
from registry.store.protocol import StoreUnavailable
from wire.messages import Reply, Request

__all__ = ["answer", "refusal"]

_log = structlog.get_logger(__name__)


def answer(desk: Desk, request: Request) -> Reply:
    """Success with 0..n objects, or Failure with every error (ITI TF-2: 3.18.4.1.3)."""
    asked = QueryAsked(desk, request)
    try:
        asked.admit()
        query = _read(asked)
        found = iti18.answer(
            query,
            desk.store,
            asked.decision.visibility,
            max_leaf_results=desk.settings.max_leaf_results,
            unknown_patient_is_error=desk.agreed.unknown_patient == "error",
        )
        pieces = iti18.response(query, found)
        # The first piece is made before the record, so that an object that cannot be read fails as an error.
        first = list(islice(pieces, 1))
        desk.store.record_alone(asked.records())
        _note(query, request)
    except (Rejected, StoreUnavailable) as refused:
        return Reply([refusal(asked.refused(refused))])
    return Reply(chain(first, pieces))


def _read(asked: QueryAsked) -> iti18.StoredQuery:
    """Understand the query; its id and patient are known for the record even when the rest is wrong."""
    desk = asked.desk
    request, query = iti18.read_request(
        asked.request.body, lenient=desk.is_lenient(asked.request), max_values=desk.settings.max_query_values
    )
    asked.query_id, asked.home = request.query_id or events.UNKNOWN, request.home or None
    if isinstance(query, tuple):
        raise Rejected(query)
    if query.understood.criteria.patient is not None:
        asked.patient_ids = ("{}^^^&{}&ISO".format(*query.understood.criteria.patient),)
    return query


def _note(query: iti18.StoredQuery, request: Request) -> None:
    """Leave a trace of leniency; a query changes nothing, so its defects go to the log alone."""
    for defect in iti18.defects_of(query):
        _log.info("defect let pass", partner=request.caller.partner, code=defect.code, defect=defect.context)
