"""The WSDL and XSD as served: a plain SOAP stack loads them and builds messages every schema accepts."""

import base64
import threading
import time
from urllib.parse import urlsplit

import pytest
import zeep
from lxml import etree
from zeep.transports import Transport

from schemas import loader, parse_xml, strict_violations, violations, wsdl, xsd

REGISTRY, REPOSITORY = "http://127.0.0.1:8010/registry", "https://repository.example/b"
RESPONDING, INITIATING = "https://gateway.example/responding", "http://127.0.0.1:8030/initiating"
WSDL = "{http://schemas.xmlsoap.org/wsdl/}"
SOAP12 = "{http://schemas.xmlsoap.org/wsdl/soap12/}"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"


class Served(Transport):
    """Answers zeep's downloads the way an endpoint does, without a socket."""

    def __init__(self, actor, address):
        super().__init__()
        self.actor, self.address = actor, address

    def load(self, url):
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == self.address
        if parts.query == "wsdl":
            return wsdl(self.actor, self.address)
        return xsd(parts.query.removeprefix("xsd="), self.address)


@pytest.fixture(scope="module")
def registry():
    return zeep.Client(f"{REGISTRY}?wsdl", transport=Served("registry", REGISTRY))


@pytest.fixture(scope="module")
def repository():
    return zeep.Client(f"{REPOSITORY}?wsdl", transport=Served("repository", REPOSITORY))


@pytest.fixture(scope="module")
def responding():
    return zeep.Client(f"{RESPONDING}?wsdl", transport=Served("responding_gateway", RESPONDING))


@pytest.fixture(scope="module")
def initiating():
    return zeep.Client(f"{INITIATING}?wsdl", transport=Served("initiating_gateway", INITIATING))


def built(client, operation, **parts):
    """The body element zeep builds, read again from bytes as a server would, and its wsa:Action."""
    envelope = parse_xml(etree.tostring(client.create_message(client.service, operation, **parts)))
    action = envelope.findtext(".//{http://www.w3.org/2005/08/addressing}Action")
    return envelope.find("{http://www.w3.org/2003/05/soap-envelope}Body")[0], action


def name(text):
    return {"LocalizedString": [{"lang": "de-DE", "value": text}]}


def slot(key, *values):
    return {"name": key, "ValueList": {"Value": list(values)}}


def coded(parent, scheme, code):
    return {
        "id": f"c-{scheme}",
        "classificationScheme": f"urn:uuid:{scheme}",
        "classifiedObject": parent,
        "nodeRepresentation": code,
        "Slot": [slot("codingScheme", "S")],
        "Name": name("Anzeige"),
    }


def identified(parent, scheme, label, value):
    return {
        "id": f"i-{scheme}",
        "identificationScheme": f"urn:uuid:{scheme}",
        "registryObject": parent,
        "value": value,
        "Name": name(label),
    }


def objects():
    """One DocumentEntry, its SubmissionSet and the HasMember between them, as zeep wants the repeated choice."""
    entry = {
        "id": "Document01",
        "objectType": "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1",
        "mimeType": "application/pdf",
        "Slot": [slot("creationTime", "20260101"), slot("sourcePatientInfo", "PID-5|Müller^Ä", "PID-8|F")],
        "Name": name("Befund"),
        "Classification": [coded("Document01", "f0306f51-975f-434e-a61c-c59651d33983", "T1")],
        "ExternalIdentifier": [
            identified("Document01", "2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId", "1.2.3")
        ],
    }
    marker = {
        "id": "m",
        "classifiedObject": "Set01",
        "classificationNode": "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd",
    }
    submission_set = {
        "id": "Set01",
        "Slot": [slot("submissionTime", "20260101120000")],
        "Classification": [marker],
        "ExternalIdentifier": [
            identified("Set01", "96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId", "1.2.4")
        ],
    }
    member = {
        "id": "a",
        "associationType": "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember",
        "sourceObject": "Set01",
        "targetObject": "Document01",
        "Slot": [slot("SubmissionSetStatus", "Original")],
    }
    return {"_value_1": [{"ExtrinsicObject": entry}, {"RegistryPackage": submission_set}, {"Association": member}]}


@pytest.fixture(params=["submission", "query", "provide", "retrieve", "remove"])
def message(request, registry, repository):
    if request.param == "submission":
        return built(registry, "DocumentRegistry_RegisterDocumentSet-b", RegistryObjectList=objects())
    if request.param == "query":
        return built(
            registry,
            "DocumentRegistry_RegistryStoredQuery",
            ResponseOption={"returnType": "LeafClass", "returnComposedObjects": True},
            AdhocQuery={
                "id": "urn:uuid:14d4debf-8f97-4251-9a74-b7016b0af2f3",
                "Slot": [slot("$XDSDocumentEntryPatientId", "'P1^^^&1.2.3&ISO'")],
            },
        )
    if request.param == "provide":
        return built(
            repository,
            "DocumentRepository_ProvideAndRegisterDocumentSet-b",
            SubmitObjectsRequest={"RegistryObjectList": objects()},
            Document=[{"id": "Document01", "_value_1": b"%PDF-1.7 \0\xff"}],
        )
    wanted = {"RepositoryUniqueId": "1.2", "DocumentUniqueId": "1.2.3"}
    operation = {"retrieve": "RetrieveDocumentSet", "remove": "RemoveDocuments"}[request.param]
    # The published rmd.xsd has one document in a request; the supplement, and ours, any number.
    several = [wanted] if request.param == "remove" else [wanted, wanted]
    return built(repository, f"DocumentRepository_{operation}", DocumentRequest=several)


def test_what_plain_zeep_builds_is_right(message):
    body, action = message
    assert (violations(body), strict_violations(body)) == ((), ())
    assert action.startswith(("urn:ihe:iti:2007:", "urn:ihe:iti:2017:RemoveDocuments"))


def test_what_plain_zeep_builds_is_right_by_the_published_schemas(message, published):
    assert published(message[0]) == []


HOME = "urn:oid:1.2.40.0.13"


@pytest.fixture(
    params=[
        ("responding", "RespondingGateway_CrossGatewayQuery", "urn:ihe:iti:2007:CrossGatewayQuery"),
        ("responding", "RespondingGateway_CrossGatewayRetrieve", "urn:ihe:iti:2007:CrossGatewayRetrieve"),
        ("initiating", "InitiatingGateway_RegistryStoredQuery", "urn:ihe:iti:2007:RegistryStoredQuery"),
        ("initiating", "InitiatingGateway_RetrieveDocumentSet", "urn:ihe:iti:2007:RetrieveDocumentSet"),
    ],
    ids=lambda row: row[1],
)
def gateway_message(request):
    """Body, wsa:Action it has, and the one it should have; the community it goes to is named in each."""
    side, operation, action = request.param
    client = request.getfixturevalue(side)
    if operation.endswith("Query"):
        by_id = {"id": "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", "home": HOME}
        query = by_id | {"Slot": [slot("$XDSDocumentEntryEntryUUID", "('urn:uuid:1')")]}
        option = {"returnType": "LeafClass", "returnComposedObjects": True}
        return *built(client, operation, ResponseOption=option, AdhocQuery=query), action
    wanted = {"HomeCommunityId": HOME, "RepositoryUniqueId": "1.2", "DocumentUniqueId": "1.2.3"}
    return *built(client, operation, DocumentRequest=[wanted, wanted]), action


def test_what_plain_zeep_builds_for_a_gateway_is_right(gateway_message):
    body, sent, expected = gateway_message
    assert (violations(body), strict_violations(body), sent) == ((), (), expected)
    assert HOME in {*body.xpath("//@home"), *body.xpath("//*[local-name()='HomeCommunityId']/text()")}


def test_what_plain_zeep_builds_for_a_gateway_is_right_by_the_published_schemas(gateway_message, published):
    assert published(gateway_message[0]) == []


def test_zeep_puts_everything_where_it_belongs(repository):
    body, action = built(
        repository,
        "DocumentRepository_ProvideAndRegisterDocumentSet-b",
        SubmitObjectsRequest={"RegistryObjectList": objects()},
        Document=[{"id": "Document01", "_value_1": b"%PDF-1.7 \0\xff"}],
    )
    assert action == "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
    listed = body.find(f".//{{{RIM}}}RegistryObjectList")
    assert [etree.QName(child).localname for child in listed] == ["ExtrinsicObject", "RegistryPackage", "Association"]
    assert [v.text for v in listed[0].iter(f"{{{RIM}}}Value")][:3] == ["20260101", "PID-5|Müller^Ä", "PID-8|F"]
    assert base64.b64decode(body.findtext("{*}Document")) == b"%PDF-1.7 \0\xff"


def test_zeep_reads_our_answers(registry):
    operation = registry.service._binding.get("DocumentRegistry_RegistryStoredQuery")
    answer = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>'
        '<q:AdhocQueryResponse xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"'
        ' status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success">'
        f'<RegistryObjectList xmlns="{RIM}"><ObjectRef id="urn:uuid:1"/><ObjectRef id="urn:uuid:2"/></RegistryObjectList>'
        "</q:AdhocQueryResponse></s:Body></s:Envelope>"
    )
    read = operation.process_reply(etree.fromstring(answer))
    assert read.status.endswith("Success")
    assert [row["ObjectRef"].id for row in read.RegistryObjectList._value_1] == ["urn:uuid:1", "urn:uuid:2"]


# Not Response behind the request's action, as all others.
ANSWERS = {
    "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry": "urn:ihe:iti:2010:RegisterOnDemandDocumentResponse",
    "urn:hl7-org:v3:PRPA_IN201305UV02": "urn:hl7-org:v3:PRPA_IN201306UV02",
    "urn:hl7-org:v3:PRPA_IN201305UV02:CrossGatewayPatientDiscovery": (
        "urn:hl7-org:v3:PRPA_IN201306UV02:CrossGatewayPatientDiscovery"
    ),
}


@pytest.mark.parametrize(
    ("actor", "operations"),
    [
        (
            "registry",
            {
                "DocumentRegistry_RegisterDocumentSet-b": "urn:ihe:iti:2007:RegisterDocumentSet-b",
                "DocumentRegistry_RegistryStoredQuery": "urn:ihe:iti:2007:RegistryStoredQuery",
                "DocumentRegistry_PRPA_IN201301UV02": "urn:hl7-org:v3:PRPA_IN201301UV02",
                "DocumentRegistry_PRPA_IN201302UV02": "urn:hl7-org:v3:PRPA_IN201302UV02",
                "DocumentRegistry_PRPA_IN201304UV02": "urn:hl7-org:v3:PRPA_IN201304UV02",
                "PDSupplier_PRPA_IN201305UV02": "urn:hl7-org:v3:PRPA_IN201305UV02",
                "DocumentRegistry_MultiPatientStoredQuery": "urn:ihe:iti:2009:MultiPatientStoredQuery",
                "DocumentRegistry_UpdateDocumentSet": "urn:ihe:iti:2010:UpdateDocumentSet",
                "DocumentRegistry_RegisterOnDemandDocumentEntry": "urn:ihe:iti:2010:RegisterOnDemandDocumentEntry",
                "DocumentRegistry_DeleteDocumentSet": "urn:ihe:iti:2010:DeleteDocumentSet",
                "UpdateResponder_RestrictedUpdateDocumentSet": "urn:ihe:iti:2018:RestrictedUpdateDocumentSet",
            },
        ),
        (
            "responding_gateway",
            {
                "RespondingGateway_CrossGatewayQuery": "urn:ihe:iti:2007:CrossGatewayQuery",
                "RespondingGateway_CrossGatewayRetrieve": "urn:ihe:iti:2007:CrossGatewayRetrieve",
                "RespondingGateway_PRPA_IN201305UV02": (
                    "urn:hl7-org:v3:PRPA_IN201305UV02:CrossGatewayPatientDiscovery"
                ),
                "UpdateResponder_RestrictedUpdateDocumentSet": "urn:ihe:iti:2018:RestrictedUpdateDocumentSet",
            },
        ),
        (
            "initiating_gateway",
            {
                "InitiatingGateway_RegistryStoredQuery": "urn:ihe:iti:2007:RegistryStoredQuery",
                "InitiatingGateway_RetrieveDocumentSet": "urn:ihe:iti:2007:RetrieveDocumentSet",
            },
        ),
        (
            "repository",
            {
                "DocumentRepository_ProvideAndRegisterDocumentSet-b": "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b",
                "DocumentRepository_RetrieveDocumentSet": "urn:ihe:iti:2007:RetrieveDocumentSet",
                "DocumentRepository_RemoveDocuments": "urn:ihe:iti:2017:RemoveDocuments",
            },
        ),
    ],
)
def test_operations_have_the_names_and_actions_of_the_framework(actor, operations):
    root = parse_xml(wsdl(actor, "http://h/p"))
    assert root.get("targetNamespace") == "urn:ihe:iti:xds-b:2007"
    binding = {
        row.get("name"): row.find(f"{SOAP12}operation").attrib
        for row in root.find(f"{WSDL}binding").findall(f"{WSDL}operation")
    }
    assert {key: row["soapAction"] for key, row in binding.items()} == operations
    assert {row["soapActionRequired"] for row in binding.values()} == {"false"}
    for row in root.find(f"{WSDL}portType").findall(f"{WSDL}operation"):
        action = operations[row.get("name")]
        for addressing in ("2006/05/addressing/wsdl", "2007/05/addressing/metadata"):
            key = f"{{http://www.w3.org/{addressing}}}Action"
            assert row.find(f"{WSDL}input").get(key) == action
            answer = "urn:hl7-org:v3:MCCI_IN000002UV01" if ":PRPA_" in action else f"{action}Response"
            assert row.find(f"{WSDL}output").get(key) == ANSWERS.get(action, answer)


def test_the_address_is_escaped_everywhere():
    hostile = 'http://h/a"><b>&amp;\\1\\g<0>'
    for text in (wsdl("registry", hostile), xsd("query.xsd", hostile)):
        root = parse_xml(text)
        imports = [row.get("schemaLocation") for row in root.iter("{http://www.w3.org/2001/XMLSchema}import")]
        assert all(location.startswith(hostile + "?xsd=") for location in imports)
    assert parse_xml(wsdl("repository", hostile)).find(f".//{SOAP12}address").get("location") == hostile


def test_only_the_published_files_are_served():
    assert xsd("rim.xsd", "http://h") is not None
    for unknown in ("", "all.xsd", "rim", "../lenient/rim.xsd", "strict/rim.xsd", "registry.wsdl", "__init__.py"):
        assert xsd(unknown, "http://h") is None
    with pytest.raises(ValueError, match="portal"):
        wsdl("portal", "http://h")


def test_the_files_can_be_read_where_they_lie():
    import schemas.loader

    for actor in ("registry", "repository", "responding_gateway", "initiating_gateway"):
        path = schemas.loader._FILES / f"{actor}.wsdl"
        operations = parse_xml(path.read_bytes()).find(f"{WSDL}portType").findall(f"{WSDL}operation")
        assert len(zeep.Client(str(path)).service._binding.all()) == len(operations) >= 2


def test_one_thread_compiles_at_a_time(monkeypatch):
    """libxml2's table of built-in types is filled by the first compilation of a process, without a lock of its own."""
    at_work, most = [], []

    class Slow:
        def __init__(self, file):
            at_work.append(file)
            most.append(len(at_work))
            time.sleep(0.01)
            at_work.pop()

    monkeypatch.setattr(loader.etree, "XMLSchema", Slow)
    threads = [threading.Thread(target=loader.compiled, args=("lenient",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (8, 1)
