"""ITI-51 on the wire: a plain SOAP client built from the served WSDL, two patients, one answer; and a long answer."""

import http.client
import time
from urllib.parse import urlsplit

import zeep

from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response
from ihe.transactions import ITI_18, ITI_51
from registry.criteria import Query
from registry.stored_queries import STORED_QUERIES
from schemas import parse_xml
from tests.builders import AUTHORITY, PATIENT, submission
from tests.registry.rooms import FIND_DOCUMENTS
from tests.repository.stand import envelope

OTHER, CROWDED, LONELY = (f"P-{name}^^^&{AUTHORITY}&ISO" for name in ("multi", "crowded", "lonely"))
MPQ = next(row.id for row in STORED_QUERIES if row.query is Query.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS)
E = "$XDSDocumentEntry"


def slot(name, value):
    return {"name": name, "ValueList": {"Value": [value]}}


def registered(strict, patient, entries=1):
    strict.feed(patient)
    answer = strict.register(submission(patient=patient, entries=entries))
    assert answer.status == "Success", answer.errors


def test_a_plain_soap_client_asks_over_two_patients(strict, dossier_server):
    for patient in (PATIENT, OTHER):
        registered(strict, patient)
    client = zeep.Client(f"{dossier_server.registry}?wsdl")
    with client.settings(raw_response=True):
        answer = client.service["DocumentRegistry_MultiPatientStoredQuery"](
            ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
            AdhocQuery={
                "id": MPQ,
                "Slot": [
                    slot(f"{E}PatientId", f"('{PATIENT}','{OTHER}')"),
                    slot(f"{E}Status", f"('{v.APPROVED}')"),
                ],
            },
        )
    envelope_read = parse_xml(answer.content)
    assert envelope_read.findtext(f".//{{{v.WSA}}}Action") == ITI_51.response_action
    found = read_adhoc_query_response(envelope_read.find(f"{{{v.SOAP12}}}Body")[0]).objects
    assert {o.identifier(v.ENTRY_PATIENT_ID) for o in found} == {PATIENT, OTHER}


def test_each_patient_has_a_record_in_the_audit_service(strict, dossier_server):
    registered(strict, OTHER)
    parameters = {f"{E}PatientId": f"('{LONELY}','{OTHER}')", f"{E}Status": f"('{v.APPROVED}')"}
    assert strict.ask(adhoc_query_request(MPQ, parameters), ITI_51).status == "Success"
    assert strict.ask(adhoc_query_request(MPQ, parameters), ITI_18).status == "Failure"
    for patient in (LONELY, OTHER):
        assert "ITI-51" in str(found_in_audit(dossier_server, patient))


def found_in_audit(server, patient):
    """Records of a patient once they have arrived."""
    for _ in range(60):
        records = server.run("audit", "--patient", patient)
        if "ITI-51" in str(records):
            return records
        time.sleep(0.25)
    return records


def test_a_long_answer_begins_before_it_is_read_and_ends_whole(strict, dossier_server):
    registered(strict, CROWDED, entries=450)
    parameters = {f"{E}PatientId": f"'{CROWDED}'", f"{E}Status": f"('{v.APPROVED}')"}
    place = urlsplit(dossier_server.registry)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    body = envelope(ITI_18.request_action, adhoc_query_request(FIND_DOCUMENTS, parameters))
    connection.request("POST", place.path, body, {"Content-Type": "application/soap+xml; charset=UTF-8"})
    answer = connection.getresponse()
    assert answer.getheader("transfer-encoding") == "chunked"
    first = answer.read(1000)
    # While one peer reads slowly another is answered.
    assert len(strict.query(FIND_DOCUMENTS, parameters, "ObjectRef").object_refs) == 450
    data = first + answer.read()
    connection.close()
    found = read_adhoc_query_response(parse_xml(data).find(f"{{{v.SOAP12}}}Body")[0]).objects
    assert len({o.id for o in found}) == len(found) == 450
