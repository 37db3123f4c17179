"""The CapabilityStatement of the audit service: made of the tables that are searched by, so that it cannot say more."""

from typing import Any, Final

from atna.fhir_audit_event import instant
from atna.record_repository.search_parameters import PARAMETERS

__all__ = ["capability_statement"]

_R4: Final = "http://hl7.org/fhir/SearchParameter/AuditEvent-"
_STANDARD: Final = frozenset(
    {
        "action", "address", "agent", "agent-name", "agent-role", "altid", "date", "entity", "entity-name",
        "entity-role", "entity-type", "outcome", "patient", "policy", "site", "source", "subtype", "type",
    }
)  # fmt: skip
"""Those that FHIR R4 defines."""

_ROLES: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"


def capability_statement(since: int) -> dict[str, Any]:
    """``since``: when the service started, microseconds since 1970."""
    resource = {
        "type": "AuditEvent",
        "documentation": "Records never change: version 1 is the only one. A record that came by syslog is shown in the"
        " mapping of RESTful ATNA; one that came as an AuditEvent as it came, with id and meta of this server.",
        "interaction": [
            {"code": "read"},
            {"code": "search-type", "documentation": "ITI-81; date is required"},
            {"code": "create", "documentation": "ITI-20; equal bytes are one record and get its address again"},
        ],
        "versioning": "no-version",
        "readHistory": False,
        "updateCreate": False,
        "conditionalCreate": False,
        "searchParam": [
            {"name": "_id", "definition": "http://hl7.org/fhir/SearchParameter/Resource-id", "type": "token"},
            *(_parameter(name) for name in PARAMETERS if name != "_id" and ":" not in name),
        ],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(since),
        "kind": "instance",
        "software": {"name": "Dossier"},
        "implementation": {
            "description": "Audit Record Repository: ITI-81 Retrieve ATNA Audit Event, ITI-20 Record Audit Event (FHIR)"
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
        "rest": [
            {
                "mode": "server",
                "documentation": "Commas mean or, repeated parameters and; unknown parameters and modifiers are refused"
                " (Prefer: handling=lenient ignores them and says so). Also _count, _sort (date, -date), _total,"
                " _summary (count, false), _format, _pretty; pages by their links first, previous, next.",
                "security": {
                    "cors": False,
                    "service": [{"coding": [{"system": _ROLES, "code": "Certificates"}]}],
                    "description": "Mutual TLS (ITI-19), plain HTTP on loopback. Any trusted node may create; reading"
                    " is for partners whose settings list ITI-81. Every reading is recorded.",
                },
                "resource": [resource],
                "interaction": [
                    {"code": "batch", "documentation": "POST of AuditEvents alone, one by one"},
                    {"code": "transaction", "documentation": "POST of AuditEvents alone, all or none"},
                ],
            }
        ],
    }


def _parameter(name: str) -> dict[str, Any]:
    parameter = PARAMETERS[name]
    found = {"name": name, "type": parameter.type, "documentation": parameter.documentation}
    return {**found, "definition": _R4 + name} if name in _STANDARD else found
