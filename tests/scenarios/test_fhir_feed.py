"""AuditEvents of another system among our own records, in a running Dossier: sent by HTTP, seen on the command line."""

import uuid
from contextlib import closing

import httpx2

from atna.fhir_writing import as_json, as_xml
from tests.atna.fhir_samples import balp


def test_an_audit_event_of_another_system_is_on_the_trail(dossier_server):
    person = uuid.uuid4().hex
    by_reference, by_identifier = balp(patient=person), balp()
    cx = f"{person}^^^&1.2.3&ISO"
    by_identifier["entity"][0]["what"] = {"identifier": {"system": "urn:oid:1.2.3", "value": person}}
    base = f"http://127.0.0.1:{dossier_server.base_port + 40}"
    with closing(httpx2.Client(base_url=base, timeout=20, trust_env=False)) as http:
        for media_type, body in (("json", as_json(by_reference)), ("xml", as_xml(by_identifier))):
            headers = {"content-type": f"application/fhir+{media_type}"}
            assert http.post("/fhir/AuditEvent", content=body, headers=headers).status_code == 201
            assert http.post("/fhir/AuditEvent", content=body, headers=headers).status_code == 200
        parameters = {"date": "2026-03-01", "patient": f"Patient/{person}", "_format": "xml"}
        assert http.get("/fhir/AuditEvent", params=parameters).content.count(b"<entry>") == 1
    (row,) = dossier_server.run("audit", "--patient", cx)
    assert (row["event"], row["patients"], row["source"]) == ("read", [cx], "Device/gateway")
    assert row["users"] == ["https://client.example.org", "https://server.example.org/fhir", "u-4711"]
    assert row["objects"] == ["DocumentReference/99"]
    (row,) = dossier_server.run("audit", "--patient", f"Patient/{person}")
    assert row["patients"] == [f"Patient/{person}"]
