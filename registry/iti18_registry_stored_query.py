"""ITI-18 Registry Stored Query, Document Registry side (ITI TF-2: 3.18).

Request  query:AdhocQueryRequest: a query id and its parameters (``registry.stored_queries``), LeafClass or ObjectRef
Reply    query:AdhocQueryResponse: Success with 0..n objects, or Failure with every error and an empty list
Errors   XDSUnknownStoredQuery, XDSStoredQueryMissingParam, XDSStoredQueryParamNumber, XDSResultNotSinglePatient,
         XDSTooManyResults, XDSUnknownPatientId (where the affinity domain says so), XDSRegistryError
Order    SubmissionSets, DocumentEntries, Folders, Associations; each in the order of registration
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from consent.policy import Visibility
from ihe import vocabulary as v
from ihe.ebrs import QueryRequest, adhoc_query_frame, adhoc_query_response, object_ref, read_adhoc_query_request
from ihe.errors import ErrorCode, RegistryError, Rejected
from registry.store.protocol import Defect, Found, RegistryStore
from registry.stored_queries import MAX_VALUES, Understood, read_query

# Objects that are joined before a piece of a long answer is handed on.
_BLOCK: Final = 64


class ReturnType(StrEnum):
    """ResponseOption/@returnType, compared without regard to case."""

    LEAF_CLASS = "LeafClass"
    OBJECT_REF = "ObjectRef"


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """A request that was understood."""

    understood: Understood
    return_type: ReturnType


def read_request(
    body: Any, *, lenient: bool, max_values: int = MAX_VALUES
) -> tuple[QueryRequest, StoredQuery | tuple[RegistryError, ...]]:
    """Read a request; the second value holds every error when it cannot be answered."""
    request = read_adhoc_query_request(body)
    return_type = next((r for r in ReturnType if r.lower() == request.return_type.lower()), None)
    if return_type is None:
        text = "ResponseOption/@returnType must be LeafClass or ObjectRef"
        return request, (RegistryError(ErrorCode.REGISTRY_ERROR, text),)
    understood = read_query(request, lenient=lenient, max_values=max_values)
    if isinstance(understood, tuple):
        return request, understood
    return request, StoredQuery(understood, return_type)


def answer(
    query: StoredQuery,
    store: RegistryStore,
    visibility: Visibility,
    *,
    max_leaf_results: int,
    unknown_patient_is_error: bool,
) -> Found:
    """Select what the query asks for, or raise Rejected; no byte of the answer is made before all checks passed."""
    criteria, leaf = query.understood.criteria, query.return_type is ReturnType.LEAF_CLASS
    if unknown_patient_is_error and criteria.patient is not None and not store.knows_patient(criteria.patient):
        sent = f"{criteria.patient[0]}^^^&{criteria.patient[1]}&ISO"
        text = f"{sent} was never announced by a patient identity feed, or is merged into another patient id"
        raise Rejected((RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, text),))
    found = store.find(criteria, visibility, max_leaf_results if leaf else None)
    if not leaf:
        return found
    if len(found.entry_uuids) > max_leaf_results:
        text = f"more than {max_leaf_results} objects match; ask for ObjectRef and fetch them in groups, or narrow it"
        raise Rejected((RegistryError(ErrorCode.TOO_MANY_RESULTS, text),))
    if query.understood.row.single_patient and len(found.patient_ids) > 1:
        text = f"{criteria.query} selects objects of {len(found.patient_ids)} patients; ask for ObjectRef, or for fewer"
        raise Rejected((RegistryError(ErrorCode.RESULT_NOT_SINGLE_PATIENT, text),))
    return found


def response(query: StoredQuery, found: Found) -> Iterator[bytes]:
    """The answer piece by piece; objects are unpacked as they are sent."""
    if query.return_type is ReturnType.OBJECT_REF:
        yield adhoc_query_response(v.SUCCESS, (), (object_ref(uuid) for uuid in found.entry_uuids))
        return
    head, tail = adhoc_query_frame(v.SUCCESS)
    block = [head]
    for item in found.objects:
        block.append(item)
        if len(block) >= _BLOCK:
            yield b"".join(block)
            block.clear()
    block.append(tail)
    yield b"".join(block)


def refusal(errors: tuple[RegistryError, ...]) -> bytes:
    """The answer that refuses."""
    return adhoc_query_response(v.FAILURE, errors, ())


def defects_of(query: StoredQuery) -> tuple[Defect, ...]:
    """What ``warn`` let pass."""
    return query.understood.defects
