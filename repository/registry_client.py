"""The registry over the wire: ITI-42 Register Document Set-b, ITI-18 Registry Stored Query (ITI TF-2: 3.42, 3.18)."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from atna.message import Outcome
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid
from ihe.ebrs import (
    QueryResponse,
    RegistryResponse,
    adhoc_query_request,
    read_adhoc_query_response,
    read_registry_response,
)
from ihe.errors import ErrorCode, FaultCode
from ihe.registry_objects import Kind, RegistryObject
from ihe.transactions import ITI_18, ITI_42
from ihe.xua import Caller
from repository.records import Records
from repository.room import AnswerLost, Asked, Refused, Registered, Unreachable
from wire.client import MAX_ENVELOPE_BYTES, NotSent, OutcomeUnknown, PeerFault, SoapClient, for_log
from wire.own_headers import depositor_header, give_up_header

__all__ = ["RegistryClient"]

GET_SUBMISSION_SET_AND_CONTENTS: Final = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
MOST_ASKED: Final = 500
"""Unique ids in one question; each is a value of its own, and their entries come back whole."""
_TOO_MUCH_AT_ONCE: Final = frozenset({ErrorCode.RESULT_NOT_SINGLE_PATIENT, ErrorCode.TOO_MANY_RESULTS})
_CERTAIN: Final = frozenset({FaultCode.SENDER, FaultCode.MUST_UNDERSTAND, FaultCode.VERSION_MISMATCH})
_STATUSES: Final = frozenset({v.SUCCESS, v.FAILURE, v.PARTIAL_SUCCESS})

_log = logging.getLogger(__name__)


class RegistryClient:
    """``repository.room.Registry`` at one address.

    ``max_registration_s`` is the registry's: told with each ITI-42 as a point in time, so that the two clocks have to
    agree to some seconds (as ITI-1 Consistent Time has it); ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        client: SoapClient,
        url: str,
        records: Records,
        *,
        max_registration_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._url = url
        self._records = records
        self._max_registration_s = max_registration_s
        self._clock = clock

    def register(self, submission: bytes, depositor: Caller) -> RegistryResponse:
        """ITI-42. A Receiver fault or an unknown status says nothing about what was stored: AnswerLost."""
        try:
            headers = depositor_header(depositor) + give_up_header(self._clock() + self._max_registration_s)
            with self._client.call(self._url, ITI_42, submission, extra_headers=headers) as answer:
                response = read_registry_response(answer.body)
        except NotSent as error:
            raise Unreachable(str(error)) from error
        except OutcomeUnknown as error:
            raise AnswerLost(for_log(error)) from error
        except PeerFault as error:
            if error.fault.code in _CERTAIN:
                raise Refused(error.fault.reason) from error
            raise AnswerLost(for_log(error)) from error
        if response.status not in _STATUSES:
            raise AnswerLost("the registry's answer has no known status")
        return response

    def ask(self, submission_unique_id: str, patient_id: str | None) -> Asked:
        """ITI-18 GetSubmissionSetAndContents by the submission set's unique id."""
        quoted = submission_unique_id.replace("'", "''")
        request = adhoc_query_request(
            GET_SUBMISSION_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": f"'{quoted}'"}, "LeafClass"
        )
        try:
            # So many bytes may hold so much markup: as much as the submission may have been let in with.
            with self._client.call(self._url, ITI_18, request, max_bytes=MAX_ENVELOPE_BYTES) as answer:
                response = read_adhoc_query_response(answer.body)
        except (NotSent, OutcomeUnknown, PeerFault) as error:
            _log.warning("registry could not be asked about a submission set: %s", for_log(error))
            return Asked(None, self._record(request, patient_id, Outcome.MAJOR_FAILURE))
        if response.status != v.SUCCESS:
            codes = ",".join(sorted({error.code for error in response.errors}))
            _log.warning("registry could not be asked about a submission set: %s", codes)
            return Asked(None, self._record(request, patient_id, Outcome.SERIOUS_FAILURE, codes))
        return Asked(response.objects, self._record(request, patient_id, Outcome.SUCCESS))

    def registered(self, documents: Mapping[str | None, Sequence[str]]) -> Registered:
        """ITI-18 GetDocuments by unique ids; a patient's in one question as far as the registry answers it so."""
        records: list[bytes] = []
        entries: set[tuple[str, str]] = set()
        waiting = [(patient_id, tuple(ids)) for patient_id, ids in documents.items() if ids]
        while waiting:
            patient_id, ids = waiting.pop()
            if len(ids) > MOST_ASKED:
                waiting += [(patient_id, ids[:MOST_ASKED]), (patient_id, ids[MOST_ASKED:])]
                continue
            response, request = self._asked_for_documents(ids)
            codes = None if response is None else ",".join(sorted({str(error.code) for error in response.errors}))
            if response is not None and response.status == v.SUCCESS:
                records.append(self._record(request, patient_id, Outcome.SUCCESS, query_id=GET_DOCUMENTS))
                entries.update(_addresses(response.objects))
                continue
            outcome = Outcome.MAJOR_FAILURE if response is None else Outcome.SERIOUS_FAILURE
            records.append(self._record(request, patient_id, outcome, codes, query_id=GET_DOCUMENTS))
            if codes is None or not _TOO_MUCH_AT_ONCE.intersection(codes.split(",")):
                _log.warning("registry could not be asked about documents: %s", codes or "no answer")
                return Registered(None, tuple(records))
            if len(ids) == 1:  # entries of several patients: registered, whichever repository they name
                entries.add((ids[0], ""))
            else:
                waiting += [(patient_id, ids[: len(ids) // 2]), (patient_id, ids[len(ids) // 2 :])]
        return Registered(frozenset(entries), tuple(records))

    def _asked_for_documents(self, unique_ids: Sequence[str]) -> tuple[QueryResponse | None, bytes]:
        quoted = ["('" + one.replace("'", "''") + "')" for one in unique_ids]
        request = adhoc_query_request(GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": quoted}, "LeafClass")
        try:
            with self._client.call(self._url, ITI_18, request) as answer:
                return read_adhoc_query_response(answer.body), request
        except (NotSent, OutcomeUnknown, PeerFault) as error:
            _log.warning("registry could not be asked about documents: %s", for_log(error))
            return None, request

    def _record(
        self,
        request: bytes,
        patient_id: str | None,
        outcome: Outcome,
        reason: str | None = None,
        *,
        query_id: str = GET_SUBMISSION_SET_AND_CONTENTS,
    ) -> bytes:
        return self._records.asked(
            query_id=query_id,
            request=request,
            patient_id=patient_id,
            outcome=outcome,
            reason=reason,
        )


def _addresses(objects: Sequence[RegistryObject]) -> Iterator[tuple[str, str]]:
    """(uniqueId, repositoryUniqueId) of each DocumentEntry; an entry without the latter may be of any repository."""
    for one in objects:
        if one.kind is Kind.DOCUMENT_ENTRY:
            unique_id = (one.identifier(v.ENTRY_UNIQUE_ID) or "").strip()
            yield unique_id, normalise_oid("".join(one.slot("repositoryUniqueId") or ()))
