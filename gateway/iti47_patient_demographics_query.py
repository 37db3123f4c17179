"""ITI-47 Patient Demographics Query HL7 v3, consumer (ITI TF-2: 3.47): what the gateway asks its own registry.

Asked    by identifier, or by name, birth and sex, as ``ihe.hl7v3_query.PatientParameters``
Told     the registry's answer, whatever it says; ``Silent`` when there is none that can be read
Records  one for each patient told, or one of the question; to be written by who asked
"""

import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from atna.message import Outcome
from atna.participants import UNKNOWN, Parties
from gateway.records import Records
from gateway.settings import GatewaySettings
from ihe.datatypes import CX, print_cx
from ihe.hl7v2 import Identifier
from ihe.hl7v3_answer import FoundPatient, PatientAnswer, read_patient_answer
from ihe.hl7v3_parts import InstanceIdentifier
from ihe.hl7v3_query import MAX_QUERY_BYTES, PatientParameters, PatientQuery, print_patient_query, read_patient_query
from ihe.transactions import ITI_47, Transaction
from schemas import parse_xml
from wire.client import NotSent, OutcomeUnknown, PeerFault, SoapClient, for_log

__all__ = ["Asked", "RegistryPatients", "Silent", "cx_of", "hl7_now", "new_query", "record_of", "told_ids"]

_log = logging.getLogger(__name__)

MOST_REGISTRY_PATIENTS: Final = 1_000
"""Of an answer of our own registry, which has a bound of its own; more is nonsense."""


class Silent(Exception):  # noqa: N818 - says what happened
    """No answer that can be used; ``record`` is the audit record of the question. The reason names no patient."""

    def __init__(self, reason: str, record: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.record = record


@dataclass(frozen=True, slots=True)
class Asked:
    """What was answered, and the audit records of the question, to be written before anything of it is used."""

    answer: PatientAnswer
    records: tuple[bytes, ...]


def hl7_now() -> str:
    """Now, as HL7 TS, UTC."""
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%d%H%M%S") + "+0000"


def new_query(parameters: PatientParameters, *, device: str, to: str, **more: str | None) -> tuple[bytes, PatientQuery]:
    """A new question with ids of its own: the message, and as its receiver reads it. ``more`` as it is printed."""
    body = print_patient_query(
        message_id=str(uuid.uuid4()),
        query_id=InstanceIdentifier(str(uuid.uuid4())),
        time=hl7_now(),
        device=device,
        to=to,
        parameters=parameters,
        **more,
    )
    return body, read_patient_query(parse_xml(body))


class RegistryPatients:
    """The registry of this community as it is asked for patients. ``home`` is our home community id."""

    def __init__(self, settings: GatewaySettings, home: str, client: SoapClient, records: Records) -> None:
        self._settings = settings
        self._oid = home.removeprefix("urn:oid:")
        self._client = client
        self._records = records

    def find(self, parameters: PatientParameters, *, deadline: float, security: bytes = b"") -> Asked:
        """Ask; ``deadline`` as of ``time.monotonic``, ``security`` the caller's own header. Raises Silent."""
        url = self._settings.registry_url
        body, query = new_query(parameters, device=self._oid, to=self._oid)
        parties = self._records.sent(url)
        try:
            with self._client.call(
                url,
                ITI_47,
                body,
                extra_headers=security,
                deadline=deadline,
                max_bytes=self._settings.max_answer_bytes,
            ) as answered:
                answer = read_patient_answer(answered.body)
        except (NotSent, OutcomeUnknown, PeerFault) as error:
            _log.warning("the registry gave no answer to a query for patients: %s", for_log(error))
            record = record_of(self._records, parties, ITI_47, query, None, Outcome.MAJOR_FAILURE, type(error).__name__)
            raise Silent("the registry of this community gave no answer", record) from error
        ids = told_ids(answer.patients[:MOST_REGISTRY_PATIENTS])
        outcome, reason = (Outcome.SERIOUS_FAILURE, "AE") if answer.refused else (Outcome.SUCCESS, None)
        made = (record_of(self._records, parties, ITI_47, query, one, outcome, reason) for one in ids or (None,))
        return Asked(answer, tuple(made))


def record_of(  # noqa: PLR0917 - the parts of a record
    records: Records,
    parties: Parties,
    transaction: Transaction,
    query: PatientQuery,
    patient_id: str | None,
    outcome: Outcome,
    reason: str | None = None,
    home: str | None = None,
    decision: str | None = None,
) -> bytes:
    """The record of a question for patients, about one of those that were told or none."""
    return records.discovered(
        parties,
        patient_ids=() if patient_id is None else (patient_id,),
        transaction=transaction,
        query_id=str(query.query_id or UNKNOWN),
        request=query.text[:MAX_QUERY_BYTES],
        outcome=outcome,
        reason=reason,
        decision=decision,
        home_community_id=home,
    )


def cx_of(identifier: Identifier) -> str:
    """As metadata and audit records have it."""
    return print_cx(CX(identifier.id, identifier.universal_id or ""))


def told_ids(patients: Iterable[FoundPatient]) -> list[str]:
    """The first id of each patient: the one that is good for further questions."""
    return list(dict.fromkeys(_first_ids(patients)))


def _first_ids(patients: Iterable[FoundPatient]) -> Iterator[str]:
    for patient in patients:
        if patient.identifiers:
            yield cx_of(patient.identifiers[0])
