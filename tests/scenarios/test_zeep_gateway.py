"""Plain zeep, from the WSDL of a running gateway: ITI-38 as a partner's gateway sends it, ITI-18 as a consumer does."""

import pytest
import zeep

from ihe import vocabulary as v
from tests.builders import AUTHORITY

PATIENT = f"across^^^&{AUTHORITY}&ISO"
HOME = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.9999"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"


@pytest.fixture(scope="module")
def services(dossier_server):
    """The two services by the side they are of; each was built from its own WSDL, with its own address in it."""
    found = {}
    for side in ("responding", "initiating"):
        address = getattr(dossier_server, side)
        client = zeep.Client(f"{address}?wsdl")
        (service,) = client.wsdl.services.values()
        (port,) = service.ports.values()
        assert port.binding_options["address"] == address
        found[side] = client.service
    return found


@pytest.fixture(scope="module")
def submitted(dossier_server, tmp_path_factory):
    """The unique id of a document of the patient."""
    dossier_server.run("feed", "--patient", PATIENT)
    file = tmp_path_factory.mktemp("zeep") / "report.txt"
    file.write_text("a report")
    words = ("--patient", PATIENT, "--type", "11502-2")
    return dossier_server.run("submit", str(file), *words)["documents"][0]["unique_id"]


def slot(name, value):
    return {"name": name, "ValueList": {"Value": [value]}}


def ask(operation, query_id, *slots, return_type="LeafClass", **more):
    option = {"returnType": return_type, "returnComposedObjects": True}
    return operation(ResponseOption=option, AdhocQuery={"id": query_id, "Slot": list(slots), **more})


def find(operation, **more):
    status = slot("$XDSDocumentEntryStatus", f"('{v.APPROVED}')")
    return ask(operation, FIND_DOCUMENTS, slot("$XDSDocumentEntryPatientId", f"'{PATIENT}'"), status, **more)


OPERATIONS = [
    ("responding", "RespondingGateway_CrossGatewayQuery"),
    ("initiating", "InitiatingGateway_RegistryStoredQuery"),
]


@pytest.mark.parametrize(("side", "name"), OPERATIONS)
def test_a_query_by_patient(services, submitted, side, name):
    answer = find(services[side][name])
    assert answer.status == v.SUCCESS
    (row,) = answer.RegistryObjectList._value_1
    entry = row["ExtrinsicObject"]
    assert entry.home == HOME
    assert submitted in [one.value for one in entry.ExternalIdentifier]
    refs = find(services[side][name], return_type="ObjectRef").RegistryObjectList._value_1
    assert [(one["ObjectRef"].id, one["ObjectRef"].home) for one in refs] == [(entry.id, HOME)]


@pytest.mark.parametrize(("side", "name"), OPERATIONS)
@pytest.mark.parametrize(
    ("home", "codes"),
    [(HOME, None), (None, ["XDSMissingHomeCommunityId"]), ("urn:oid:1.2.3", ["XDSUnknownCommunity"])],
    ids=["ours", "none", "unknown"],
)
def test_a_query_by_id_needs_its_home(services, submitted, side, name, home, codes):
    wanted = slot("$XDSDocumentEntryUniqueId", f"('{submitted}')")
    answer = ask(services[side][name], GET_DOCUMENTS, wanted, **({"home": home} if home else {}))
    if codes is None:
        assert (answer.status, len(answer.RegistryObjectList._value_1)) == (v.SUCCESS, 1)
    else:
        assert answer.status == v.FAILURE
        errors = answer.RegistryErrorList.RegistryError
        assert [one.errorCode for one in errors] == codes
        assert {one.location for one in errors} == {HOME}


def test_the_command_line_across_communities(dossier_server, submitted, tmp_path):
    (row,) = dossier_server.run("find", "--across", "--patient", PATIENT)
    assert (row["unique_id"], row["home"]) == (submitted, HOME)
    assert [one["home"] for one in dossier_server.run("find", "--patient", PATIENT)] == [None]
    home = HOME.removeprefix("urn:oid:")
    (fetched,) = dossier_server.run("fetch", submitted, "--home", home, "--out", str(tmp_path))
    assert fetched["checked"] is True
