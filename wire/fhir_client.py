"""Posts audit records to a FHIR server as AuditEvents (ITI-20 Record Audit Event, RESTful ATNA), one by one.

``POST …/AuditEvent`` with ``application/fhir+json``; 200 or 201 means the server has it. The bytes for a record are the
same each time, so that a server that recognises equal bytes (ours does) keeps a record once whose answer was lost;
another server may then hold it twice.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from atna.fhir_audit_event import audit_event
from atna.iti20_record_audit_event import SyslogError, decode_message
from atna.message import UnreadableError, parse
from atna.sender import BatchRefused
from wire.settings import TlsSettings
from wire.sink_client import SinkClient

__all__ = ["FhirClient", "resource_of"]

MEDIA_TYPE: Final = "application/fhir+json"

_TAKEN: Final = {HTTPStatus.OK, HTTPStatus.CREATED}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FhirClient:
    """Call it with (address of AuditEvent, messages), from any thread; it keeps its connections until ``close``.

    Raises NotDelivered and BatchRefused with the number of those ``taken`` before.
    """

    def __init__(self, tls: TlsSettings | None) -> None:
        self._client = SinkClient(tls)

    def __call__(self, url: str, messages: Sequence[bytes]) -> None:
        for number, message in enumerate(messages):
            try:
                body = resource_of(message)
            except (SyslogError, UnreadableError) as error:
                raise BatchRefused(f"not sent: {error}", taken=number) from error
            self._client.post(url, body, MEDIA_TYPE, _TAKEN, taken=number)

    def close(self) -> None:
        """Close the connections it kept."""
        self._client.close()


def resource_of(message: bytes) -> bytes:
    """The AuditEvent of one of our records. Raises SyslogError, UnreadableError."""
    record = parse(decode_message(message).message)
    try:
        moment = datetime.fromisoformat(record.event.date_time or "")
    except ValueError as error:
        raise UnreadableError("EventDateTime is no time") from error
    resource = audit_event(None, (moment - _EPOCH) // timedelta(microseconds=1), record)
    return json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
