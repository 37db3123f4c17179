"""AuditEvents as other systems send them: IHE BALP patterns, plain and with everything, and bytes that are none."""

import base64

from atna.fhir_writing import as_json

DCM = "http://dicom.nema.org/resources/ontology/DCM"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESTFUL = "http://hl7.org/fhir/restful-interaction"


def balp(*, patient="17", **changes):
    """A read of a patient's record by a user, in the pattern PatientRead of IHE BALP."""
    return {
        "resourceType": "AuditEvent",
        "meta": {"profile": ["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"]},
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest",
            "display": "RESTful Operation",
        },
        "subtype": [{"system": RESTFUL, "code": "read", "display": "read"}],
        "action": "R",
        "recorded": "2026-03-01T10:00:00.250Z",
        "outcome": "0",
        "agent": [
            {
                "type": {"coding": [{"system": DCM, "code": "110153", "display": "Source Role ID"}]},
                "who": {"identifier": {"value": "https://client.example.org"}},
                "requestor": False,
                "network": {"address": "10.1.2.3", "type": "2"},
            },
            {
                "type": {"coding": [{"system": DCM, "code": "110152", "display": "Destination Role ID"}]},
                "who": {"identifier": {"value": "https://server.example.org/fhir"}},
                "requestor": False,
                "network": {"address": "Server.Example.org", "type": "1"},
            },
            {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleClass", "code": "IRCP"}]},
                "who": {"identifier": {"system": "https://idp.example.org", "value": "u-4711"}, "display": "Dr. Weber"},
                "requestor": True,
                "policy": ["urn:uuid:0b6a4dd5-8ac7-4f4f-8f5b-c7d4a8a70a4f"],
                "purposeOfUse": [{"coding": [{"system": ACT_REASON, "code": "BTG", "display": "break the glass"}]}],
            },
        ],
        "source": {
            "site": "Ward 7", "observer": {"reference": "Device/gateway"},
            "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4"}],
        },
        "entity": [
            {
                "what": {"reference": f"Patient/{patient}"},
                "type": {"system": ENTITY_TYPE, "code": "1"},
                "role": {"system": OBJECT_ROLE, "code": "1", "display": "Patient"},
            },
            {
                "what": {"reference": "DocumentReference/99"},
                "type": {"system": ENTITY_TYPE, "code": "2"},
                "role": {"system": OBJECT_ROLE, "code": "3"},
                "name": "Blood Count",
            },
        ],
        **changes,
    }  # fmt: skip


def everything():
    """An AuditEvent that uses every element of its table, extensions on values and elements too."""
    text = 'ünder <&> "quotes"\nand lines\t'
    return {
        "resourceType": "AuditEvent",
        "id": "sent-by-them",
        "meta": {"versionId": "7", "profile": ["http://example.org/a", "http://example.org/b"], "tag": [{"code": "t"}]},
        "implicitRules": "http://example.org/rules",
        "language": "de",
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>a &amp; <b>b</b></p></div>',
        },
        "extension": [
            {"url": "http://example.org/e", "extension": [{"url": "inner", "valueBoolean": False}]},
            {"url": "http://example.org/i", "valueIdentifier": {"system": "urn:oid:1.2.3", "value": "N"}},
            {"url": "http://example.org/n", "valueInteger": -5},
        ],
        "type": {"system": DCM, "code": "110112", "display": "Query", "userSelected": True},
        "subtype": [{"code": "a"}, {"code": "b", "version": "1"}],
        "action": "E",
        "period": {"start": "2026-03-01", "end": "2026-03-01T10:00:00+01:00"},
        "recorded": "2026-03-01T10:00:00+01:00",
        "_recorded": {"id": "when", "extension": [{"url": "http://example.org/clock", "valueString": text}]},
        "outcome": "8",
        "outcomeDesc": text,
        "purposeOfEvent": [{"coding": [{"system": ACT_REASON, "code": "ETREAT"}], "text": "Emergency"}],
        "agent": [
            {
                "id": "one",
                "type": {"text": "a role without a code"},
                "role": [{"coding": [{"system": "urn:oid:1.2.3.4", "code": "physician"}]}],
                "who": {"reference": "Practitioner/1", "type": "Practitioner", "display": "Dr. Anna Weber"},
                "altId": "weber",
                "name": "Anna Weber",
                "requestor": True,
                "location": {"reference": "Location/1"},
                "policy": ["http://example.org/p1", "http://example.org/p2"],
                "_policy": [None, {"extension": [{"url": "http://example.org/x", "valueCode": "c"}]}],
                "media": {"code": "110010"},
                "network": {"address": "10.0.0.9", "type": "2"},
                "purposeOfUse": [{"coding": [{"code": "TREAT"}]}],
            }
        ],
        "source": {"observer": {"identifier": {"value": "their-server"}}},
        "entity": [
            {
                "what": {"identifier": {"system": "urn:oid:1.2.3", "value": "P-9", "type": {"text": "MR"}}},
                "type": {"system": ENTITY_TYPE, "code": "1"},
                "role": {"system": OBJECT_ROLE, "code": "1"},
                "lifecycle": {"code": "6"},
                "securityLabel": [{"code": "R"}],
                "name": "Patient Nine",
                "description": text,
                "detail": [
                    {"type": "t", "valueString": text},
                    {"type": "u", "valueBase64Binary": base64.b64encode(b"\0\1").decode()},
                ],
            },
            {"what": {"display": "query"}, "role": {"code": "24"}, "query": base64.b64encode(b"<q/>").decode()},
        ],
    }


def as_bytes(resource):
    return as_json(resource)


def hostile():
    """(name, bytes): what no server may fall over."""
    small = as_json(balp())
    xml = b'<AuditEvent xmlns="http://hl7.org/fhir">%b</AuditEvent>'
    return [
        ("deep list", b'{"resourceType":"AuditEvent","type":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("deep object", b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        ("deep extension", b'{"resourceType":"AuditEvent",' + b'"extension":[{"url":"u",' * 40 + b'"valueCode":"c"'
         + b"}]" * 40 + b"}"),
        ("many values", b'{"resourceType":"AuditEvent","subtype":[' + b"{}," * 300_000 + b"{}]}"),
        ("huge number", b'{"resourceType":"AuditEvent","id":' + b"9" * 100_000 + b"}"),
        ("infinity", b'{"resourceType":"AuditEvent","id":Infinity}'),
        ("fraction", b'{"resourceType":"AuditEvent","id":1e999}'),
        ("duplicate key", small.replace(b'"action":"R"', b'"action":"R","action":"C"')),
        ("lone surrogate", small.replace(b"Ward 7", b"\\ud800")),
        ("nul", small.replace(b"Ward 7", b"a\\u0000b")),
        ("invalid utf-8", small.replace(b"Ward 7", b"\xff\xfe")),
        ("utf-16", b"\xff\xfe" + small.decode().encode("utf-16-le")),
        ("truncated", small[:-20]),
        ("null", b'{"resourceType":"AuditEvent","type":null}'),
        ("base64 blanks", small.replace(b'"name":"Blood Count"', b'"query":"' + b"QUJD " * 5000 + b'!"')),
        ("xxe", b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + xml % b"<site>&x;</site>"),
        ("billion laughs", b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>' + xml % b"&b;"),
        ("parameter entity", b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/">%p;]>' + xml % b""),
        ("deep xml", xml % (b"<extension>" * 20_000 + b"</extension>" * 20_000)),
        ("latin-1 xml", b'<?xml version="1.0" encoding="ISO-8859-1"?>' + xml % b'<outcomeDesc value="\xfc"/>'),
        ("no namespace", b"<AuditEvent/>"),
        ("foreign namespace", b'<AuditEvent xmlns="urn:x"/>'),
        ("text", xml % b"text"),
        ("empty element", xml % b"<action/>"),
    ]  # fmt: skip
