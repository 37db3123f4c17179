"""What ITI-81 shows of a record: the AuditEvent as it came, an audit message mapped to one, or that it is damaged."""

import logging
from typing import Any, Final

from atna.fhir_audit_event import audit_event, instant
from atna.fhir_reading import Form, ResourceRefused, form_of, read_resource
from atna.iti20_record_audit_event import SyslogError
from atna.message import UnreadableError
from atna.record_repository.indexing import read
from atna.record_repository.store.protocol import Stored

__all__ = ["VERSION", "resource_of"]

OWN_SYSTEM: Final = "urn:dossier:audit"
VERSION: Final = "1"
"""versionId of every AuditEvent: records never change."""

_log = logging.getLogger(__name__)


def resource_of(stored: Stored) -> dict[str, Any]:
    """The AuditEvent of a record. One that came as FHIR keeps everything but its id and meta's version and time."""
    if stored.readable:
        try:
            return _readable(stored)
        except (SyslogError, UnreadableError, ResourceRefused):  # readable when it came; a verify tells what happened
            _log.warning("record %d cannot be read any more", stored.number)
        except Exception as error:  # noqa: BLE001 - one record, whatever it holds, must not keep all others from being shown
            # The words of the error may be those of the record.
            _log.error("record %d cannot be shown (%s)", stored.number, type(error).__name__)
    return _with_meta(stored, unreadable(stored.number, stored.event_at, stored.received_at))


def _readable(stored: Stored) -> dict[str, Any]:
    if form_of(stored.message) is not Form.SYSLOG:
        return _as_it_came(stored, read_resource(stored.message))
    # One that says no time is found by when it came, and has to be shown so.
    happened_at = stored.event_at or stored.received_at
    return _with_meta(stored, audit_event(stored.number, happened_at, read(stored.message)))


def unreadable(number: int, event_at: int, received_at: int) -> dict[str, Any]:
    """What can be said of a record that cannot be read: type ``unreadable``, found by its time alone."""
    return {
        "resourceType": "AuditEvent",
        "id": str(number),
        "type": {"system": OWN_SYSTEM, "code": "unreadable", "display": "Record kept as received; it cannot be read"},
        "recorded": instant(event_at or received_at),
        "agent": [{"who": {"display": "unknown"}, "requestor": False}],
        "source": {"observer": {"display": "unknown"}},
    }


def _as_it_came(stored: Stored, resource: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in resource.items() if key not in {"resourceType", "id", "_id"}}
    return _with_meta(stored, {"resourceType": "AuditEvent", "id": str(stored.number), **own})


def _with_meta(stored: Stored, resource: dict[str, Any]) -> dict[str, Any]:
    meta = {key: value for key, value in resource.get("meta", {}).items() if key not in {"_versionId", "_lastUpdated"}}
    meta |= {"versionId": VERSION, "lastUpdated": instant(stored.received_at)}
    head = {"resourceType": resource["resourceType"], "id": resource["id"], "meta": meta}
    return head | {key: value for key, value in resource.items() if key not in head}
