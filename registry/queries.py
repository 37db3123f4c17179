"""How a stored query is answered: read, selected in one snapshot, recorded, then sent piece by piece."""

from itertools import chain, islice

from atna import participants
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.transactions import ITI_51
from registry import iti18_registry_stored_query as iti18
from registry.asked import QueryAsked
from registry.desk import Desk
from registry.iti18_registry_stored_query import Bounds, refusal
from registry.store.protocol import Found, StoreUnavailable
from wire.messages import Reply, Request

__all__ = ["answer", "refusal"]


def answer(desk: Desk, request: Request) -> Reply:
    """Success with 0..n objects, or Failure with every error (ITI TF-2: 3.18.4.1.3)."""
    asked = QueryAsked(desk, request)
    try:
        asked.admit()
        query = _read(asked)
        found = _found(asked, query)
        pieces = iti18.response(query, found)
        # The first piece is made before the record, so that an object that cannot be read fails as an error.
        first = list(islice(pieces, 1))
        desk.store.record_alone(asked.records(), asked.let_pass(iti18.defects_of(query)))
    except (Rejected, StoreUnavailable) as refused:
        return Reply([refusal(asked.refused(refused))])
    return Reply(chain(first, pieces))


def _read(asked: QueryAsked) -> iti18.StoredQuery:
    """Understand the query; its id and home are known for the record even when the rest is wrong."""
    desk, request = asked.desk, asked.request
    read, query = iti18.read_request(
        request.body,
        request.transaction,
        lenient=desk.is_lenient(request),
        max_values=desk.settings.max_query_values,
    )
    asked.query_id, asked.home = read.query_id or participants.UNKNOWN, read.home or None
    if isinstance(query, tuple):
        raise Rejected(query)
    return query


def _found(asked: QueryAsked, query: iti18.StoredQuery) -> Found:
    """Select; whose objects were asked for and found is known for the record."""
    desk, settings = asked.desk, asked.desk.settings
    bounds = Bounds(settings.max_leaf_results, settings.max_object_refs, settings.max_query_patients)
    named = ["{}^^^&{}&ISO".format(*patient) for patient in query.understood.criteria.patients]
    if asked.recordable(named, bounds.patients):
        asked.patient_ids = named
    iti18.check_patients(query, bounds, desk.store, unknown_is_error=desk.agreed.unknown_patient == "error")
    found = iti18.answer(query, desk.store, asked.decision.visibility, bounds)
    if asked.request.transaction is ITI_51:
        everyone = list(dict.fromkeys((*named, *sorted(found.patient_ids))))
        if not asked.recordable(everyone, 2 * bounds.patients):
            text = f"objects of {len(everyone)} patients match, too many to record for a query of this size; narrow it"
            raise Rejected((RegistryError(ErrorCode.TOO_MANY_RESULTS, text),))
        asked.patient_ids = everyone
    elif not named and asked.recordable(ids := sorted(found.patient_ids), bounds.patients):
        # Asked by an id of an object: whose it is tells the answer, and who looked is found by the patient.
        asked.patient_ids = ids
    return found
