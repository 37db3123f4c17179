"""ITI-18 Registry Stored Query and ITI-51 Multi-Patient Stored Query, Document Registry side (ITI TF-2: 3.18, 3.51).

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
from ihe.transactions import ITI_18, ITI_51, Transaction
from registry.store.protocol import Defect, Found, RegistryStore, TooManyFound
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
    body: Any, transaction: Transaction = ITI_18, *, lenient: bool, max_values: int = MAX_VALUES
) -> tuple[QueryRequest, StoredQuery | tuple[RegistryError, ...]]:
    """Read a request; the second value holds every error when it cannot be answered."""
    request = read_adhoc_query_request(body)
    return_type = next((r for r in ReturnType if r.lower() == request.return_type.lower()), None)
    if return_type is None:
        text = "ResponseOption/@returnType must be LeafClass or ObjectRef"
        return request, (RegistryError(ErrorCode.REGISTRY_ERROR, text),)
    understood = read_query(request, transaction, lenient=lenient, max_values=max_values)
    if isinstance(understood, tuple):
        return request, understood
    return request, StoredQuery(understood, return_type)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many objects an answer may hold in full or as references, and of how many patients (ITI-51)."""

    leaf_results: int
    object_refs: int
    patients: int


def check_patients(query: StoredQuery, bounds: Bounds, store: RegistryStore, *, unknown_is_error: bool) -> None:
    """Raise Rejected for too many patients, and for those nobody knows where that is an error."""
    patients = query.understood.criteria.patients
    if len(patients) > bounds.patients:
        text = (
            f"the query names {len(patients)} patients; allowed are at most {bounds.patients}: ask in several requests"
        )
        raise Rejected((RegistryError(ErrorCode.REGISTRY_ERROR, text),))
    if unknown_is_error:
        unknown = [patient for patient in patients if not store.knows_patient(patient)]
        more = "was never announced by a patient identity feed, or is merged into another patient id"
        if unknown:
            raise Rejected(
                RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, "{}^^^&{}&ISO {}".format(*patient, more))
                for patient in unknown
            )


def answer(query: StoredQuery, store: RegistryStore, visibility: Visibility, bounds: Bounds) -> Found:
    """Select what the query asks for, or raise Rejected; no byte of the answer is made before all checks passed."""
    row, leaf = query.understood.row, query.return_type is ReturnType.LEAF_CLASS
    limit = bounds.leaf_results if leaf else bounds.object_refs
    try:
        found = store.find(query.understood.criteria, visibility, limit, full=leaf)
    except TooManyFound as many:
        instead = "ask for ObjectRef and fetch them in groups, or narrow it" if leaf else "narrow it"
        text = f"more than {many.limit} objects match; {instead}"
        raise Rejected((RegistryError(ErrorCode.TOO_MANY_RESULTS, text),)) from many
    if leaf and row.single_patient and len(found.patient_ids) > 1:
        text = f"{row.query} selects objects of {len(found.patient_ids)} patients; ask for ObjectRef, or for fewer"
        raise Rejected((RegistryError(ErrorCode.RESULT_NOT_SINGLE_PATIENT, text),))
    if row.transaction is ITI_51 and len(found.patient_ids) > bounds.patients:
        text = f"objects of more than {bounds.patients} patients match; narrow it"
        raise Rejected((RegistryError(ErrorCode.TOO_MANY_RESULTS, text),))
    return found


def response(query: StoredQuery, found: Found) -> Iterator[bytes]:
    """The answer piece by piece; objects are unpacked as they are sent."""
    leaf = query.return_type is ReturnType.LEAF_CLASS
    objects = found.objects if leaf else (object_ref(uuid) for uuid in found.entry_uuids)
    head, tail = adhoc_query_frame(v.SUCCESS)
    block = [head]
    for item in objects:
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
