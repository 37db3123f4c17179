"""Plain zeep, from the WSDL of a running registry, registers, updates and removes metadata."""

import hashlib

import pytest
import zeep

from ihe import vocabulary as v
from tests.builders import (
    AUTHORITY,
    CONFIDENTIALITY,
    having,
    submission,
    text,
    with_code,
    without_slot,
)
from tests.updates import new_status, new_version, update
from tests.zeep_objects import object_list


@pytest.fixture(scope="module")
def service(dossier_server):
    return zeep.Client(f"http://127.0.0.1:{dossier_server.base_port + 10}/registry?wsdl").service


@pytest.fixture
def patient(dossier_server, request):
    name = hashlib.sha1(request.node.nodeid.encode()).hexdigest()[:10]
    identifier = f"{name}^^^&{AUTHORITY}&ISO"
    dossier_server.run("feed", "--patient", identifier)
    return identifier


def send(service, operation, objects):
    return service[operation](RegistryObjectList=object_list(objects))


def accepted(service, operation, objects):
    answer = send(service, operation, objects)
    assert answer.status.endswith("Success"), answer.RegistryErrorList


def found(dossier_server, patient, *more):
    return dossier_server.run("find", "--patient", patient, *more)


def registered(service, dossier_server, objects, patient, operation="DocumentRegistry_RegisterDocumentSet-b"):
    accepted(service, operation, objects)
    (entry,) = found(dossier_server, patient)
    sent = next(one for one in objects.objects if one.kind == "DocumentEntry")
    return having(id=entry["entry_uuid"], lid=entry["entry_uuid"], version_name="1")(sent)


def test_a_document_is_updated(service, dossier_server, patient):
    entry = registered(service, dossier_server, submission(patient=patient), patient)
    objects = new_version(entry, having(name=text("Corrected")), patient=patient)
    accepted(service, "DocumentRegistry_UpdateDocumentSet", objects)
    (latest,) = found(dossier_server, patient)
    assert latest["title"] == "Corrected"
    again = send(service, "DocumentRegistry_UpdateDocumentSet", new_version(entry, patient=patient))
    assert [one.errorCode for one in again.RegistryErrorList.RegistryError] == ["XDSMetadataVersionError"]


def test_a_document_is_deprecated(service, dossier_server, patient):
    entry = registered(service, dossier_server, submission(patient=patient), patient)
    accepted(service, "DocumentRegistry_UpdateDocumentSet", update(new_status(entry.id), patient=patient))
    assert found(dossier_server, patient) == []
    assert [one["status"] for one in found(dossier_server, patient, "--status", "deprecated")] == ["deprecated"]


def test_a_code_is_restricted(service, dossier_server, patient):
    entry = registered(service, dossier_server, submission(patient=patient), patient)
    change = with_code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY)
    accepted(service, "UpdateResponder_RestrictedUpdateDocumentSet", new_version(entry, change, patient=patient))
    (latest,) = found(dossier_server, patient)
    assert latest["entry_uuid"] != entry.id


def test_an_on_demand_document_is_registered(service, dossier_server, patient):
    changes = (having(object_type=v.ON_DEMAND), *map(without_slot, ("creationTime", "hash", "size")))
    objects = submission(patient=patient, entry=changes)
    accepted(service, "DocumentRegistry_RegisterOnDemandDocumentEntry", objects)


def test_an_unknown_object_is_not_removed(service):
    strange = "urn:uuid:00000000-0000-4000-8000-000000000000"
    answer = service["DocumentRegistry_DeleteDocumentSet"](ObjectRefList={"ObjectRef": [{"id": strange}]})
    assert [one.errorCode for one in answer.RegistryErrorList.RegistryError] == ["UnresolvedReferenceException"]


def test_a_submission_is_removed(service, dossier_server, patient):
    registered(service, dossier_server, submission(patient=patient), patient)
    status = "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')"
    query = {
        "id": "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3",
        "Slot": [
            {"name": "$patientId", "ValueList": {"Value": [f"'{patient}'"]}},
            *(
                {"name": f"$XDS{kind}Status", "ValueList": {"Value": [status]}}
                for kind in ("DocumentEntry", "SubmissionSet", "Folder")
            ),
        ],
    }
    option = {"returnType": "ObjectRef", "returnComposedObjects": True}
    listed = service["DocumentRegistry_RegistryStoredQuery"](ResponseOption=option, AdhocQuery=query)
    refs = [{"id": row["ObjectRef"].id} for row in listed.RegistryObjectList._value_1]
    assert len(refs) == 3
    answer = service["DocumentRegistry_DeleteDocumentSet"](ObjectRefList={"ObjectRef": refs})
    assert answer.status.endswith("Success")
    assert found(dossier_server, patient) == []
