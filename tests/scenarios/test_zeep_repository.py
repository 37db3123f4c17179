"""Plain zeep, from the WSDL of a running repository, removes documents; the registry beside it is the real one."""

import pytest
import zeep

from ihe import vocabulary as v
from tests.builders import AUTHORITY, REPOSITORY

PATIENT = f"removal^^^&{AUTHORITY}&ISO"
REPORT_CLASS = "11502-2^^2.16.840.1.113883.6.1"


@pytest.fixture(scope="module")
def services(dossier_server):
    dossier_server.run("feed", "--patient", PATIENT)
    addresses = (dossier_server.repository, dossier_server.registry)
    return [zeep.Client(f"{address}?wsdl").service for address in addresses]


@pytest.fixture
def submitted(dossier_server, tmp_path):
    """The unique id of a document of 2020 that is registered."""
    return submit(dossier_server, tmp_path / "report.txt")


def submit(dossier_server, file):
    file.write_text(f"a report in {file}")
    codes = ("--type", "11502-2", "--class", "11502-2", "--created", "20200229")
    return dossier_server.run("submit", str(file), "--patient", PATIENT, *codes)["documents"][0]["unique_id"]


def remove(service, *documents, repository=REPOSITORY):
    asked = [{"RepositoryUniqueId": repository, "DocumentUniqueId": one} for one in documents]
    return service["DocumentRepository_RemoveDocuments"](DocumentRequest=asked)


def codes(answer):
    return [one.errorCode for one in answer.RegistryErrorList.RegistryError] if answer.RegistryErrorList else []


def fetched(dossier_server, run_command, unique_id, folder):
    base = ("--out", str(folder), "--base-port", str(dossier_server.base_port))
    return run_command("fetch", unique_id, *base)[0] == 0


def remove_metadata(registry, unique_id):
    """ITI-62 of the document's whole submission."""
    value = {"Slot": [{"name": "$XDSDocumentEntryUniqueId", "ValueList": {"Value": [f"('{unique_id}')"]}}]}
    option = {"returnType": "LeafClass", "returnComposedObjects": True}
    query = registry["DocumentRegistry_RegistryStoredQuery"]
    found = query(ResponseOption=option, AdhocQuery={"id": "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", **value})
    (row,) = found.RegistryObjectList._value_1
    entry = row["ExtrinsicObject"].id
    refs = {"returnType": "ObjectRef", "returnComposedObjects": True}
    everything = query(ResponseOption=refs, AdhocQuery={"id": "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83", "Slot": [
        {"name": "$XDSSubmissionSetEntryUUID", "ValueList": {"Value": [f"'{submission_of(query, entry)}'"]}}]})  # fmt: skip
    ids = [{"id": row["ObjectRef"].id} for row in everything.RegistryObjectList._value_1]
    answer = registry["DocumentRegistry_DeleteDocumentSet"](ObjectRefList={"ObjectRef": ids})
    assert answer.status == v.SUCCESS, codes(answer)


def submission_of(query, entry):
    """The SubmissionSet an entry came with (GetSubmissionSets)."""
    slot = {"name": "$uuid", "ValueList": {"Value": [f"('{entry}')"]}}
    refs = {"returnType": "LeafClass", "returnComposedObjects": True}
    found = query(
        ResponseOption=refs, AdhocQuery={"id": "urn:uuid:51224314-5390-4169-9b91-b1980040715a", "Slot": [slot]}
    )
    rows = found.RegistryObjectList._value_1
    return next(row["RegistryPackage"].id for row in rows if row.get("RegistryPackage") is not None)


def test_metadata_first_then_the_document(services, dossier_server, run_command, submitted, tmp_path):
    repository, registry = services
    assert fetched(dossier_server, run_command, submitted, tmp_path)
    remove_metadata(registry, submitted)
    answer = remove(repository, submitted)
    assert (answer.status, codes(answer)) == (v.SUCCESS, [])
    assert not fetched(dossier_server, run_command, submitted, tmp_path / "again")
    again = remove(repository, submitted)
    assert (again.status, codes(again)) == (v.FAILURE, ["XDSDocumentUniqueIdError"])


def test_a_document_that_is_still_registered_goes_with_a_warning(
    services, dossier_server, run_command, submitted, tmp_path
):
    answer = remove(services[0], submitted)
    assert (answer.status, codes(answer)) == (v.SUCCESS, ["XDSRemoveDocumentsError"])
    assert answer.RegistryErrorList.RegistryError[0].severity == v.SEVERITY_WARNING
    assert not fetched(dossier_server, run_command, submitted, tmp_path)


def test_partial_success(services, dossier_server, run_command, submitted, tmp_path):
    answer = remove(services[0], "9.9.9", submitted)
    assert answer.status == v.PARTIAL_SUCCESS
    assert "XDSDocumentUniqueIdError" in codes(answer)
    wrong = remove(services[0], submitted, repository="1.2.1.1.1")
    assert (wrong.status, codes(wrong)) == (v.FAILURE, ["XDSUnknownRepositoryId"])


def test_retention_asks_the_registry(services, dossier_server, submitted, run_command, tmp_path):
    """The command beside running services: what is still registered stays, the rest goes."""
    registered, gone = submitted, submit(dossier_server, tmp_path / "another.txt")
    remove_metadata(services[1], gone)
    settings = tmp_path / "dossier.toml"
    settings.write_text(f'[[repository.retention]]\nclass_code = "{REPORT_CLASS}"\ndays = 1000\n')
    data = ("--config", str(settings), "--data", str(dossier_server.data))
    shown = dossier_server.run("store", "retention", "--list", *data)
    assert {gone: "removable", registered: "registered"}.items() <= fates(shown).items()
    assert fetched(dossier_server, run_command, gone, tmp_path)
    done = dossier_server.run("store", "retention", "--remove", "--list", *data)
    assert {gone: "removed", registered: "registered"}.items() <= fates(done).items()
    assert not fetched(dossier_server, run_command, gone, tmp_path / "again")
    assert fetched(dossier_server, run_command, registered, tmp_path / "still")


def fates(report):
    return {row["unique_id"]: row["fate"] for row in report["documents"]}
