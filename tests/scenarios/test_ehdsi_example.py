"""docs/examples/ehdsi.toml serves as a country of affiliation: what an NCP of another country asks, by class."""

import hashlib
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from gateway.iti47_patient_demographics_query import new_query
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response, read_registry_response, retrieve_request
from ihe.hl7v3_answer import read_patient_answer
from ihe.hl7v3_query import PatientName, PatientParameters
from ihe.transactions import ITI_38, ITI_39, ITI_55
from tests.registry.rooms import FIND_DOCUMENTS
from tests.scenarios import domains
from wire.client import SoapClient

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
SAMPLE = ROOT.parent / "shared" / "samples" / "epsos-ctd-cda.xml"
OWN = ROOT / "dossier" / "samples" / "patient-summary.xml"
"""A patient summary of our own, where the published one is not at hand."""
PATIENT = f"EU-4711^^^&{domains.AUTHORITY}&ISO"
LOINC = "2.16.840.1.113883.6.1"
SUMMARY, PRESCRIPTION, LABORATORY, IMAGING, DISCHARGE = "60591-5", "57833-6", "11502-2", "18748-4", "34105-7"
PIVOT, PDF = "urn:epSOS:ps:ps:2010", "urn:ihe:iti:xds-sd:pdf:2008"


@pytest.fixture(scope="module")
def countries(tmp_path_factory):
    """``lu`` runs with the example; ``de`` is a certificate of another country that the example names."""
    found = domains.make(tmp_path_factory.mktemp("ehdsi"), ("lu", "de"))
    lu, de = found["lu"], found["de"]
    lu.knows = {"de": {}}
    domains.settle(found)
    certs = lu.folder / "certs"
    text = (EXAMPLES / "ehdsi.toml").read_text(encoding="utf-8")
    for name, file in {
        "ehdsi_codes.csv": EXAMPLES / "ehdsi_codes.csv",
        "server.pem": certs / "server.pem",
        "server.key": certs / "server.key",
        "partners.pem": certs / "gateway_ca.pem",
        "ncp_ca.pem": de.folder / "certs" / "ca.pem",
        "ca.pem": certs / "ca.pem",
    }.items():
        assert f"/etc/dossier/{name}" in text
        text = text.replace(f"/etc/dossier/{name}", str(file))
    text = text.replace("0.0.0.0:8030", f"127.0.0.1:{lu.base_port + 30}")
    for named, subject in {"CN=ncp.example.org": "CN=server.de", "CN=gateway.example.org": "CN=server.lu"}.items():
        assert named in text
        text = text.replace(named, subject)
    assert "/etc/dossier" not in text
    (lu.folder / "dossier.toml").write_text(text, encoding="utf-8")
    for who in domains.PEOPLE[1:]:
        client = tomllib.loads(text)["affinity_domain"]
        head = f'[affinity_domain]\nhome_community_id = "{client["home_community_id"]}"\ncodes = "{client["codes"]}"\n'
        (lu.folder / f"{who}.toml").write_text(head + domains.tls_table(lu, who))
    with domains.served({"lu": lu}):
        yield lu, de


@pytest.fixture(scope="module")
def held(countries, tmp_path_factory):
    """By class: unique id and digest of what ``lu`` holds of the patient."""
    lu, _ = countries
    lu.run("feed", "--patient", PATIENT, "--family", "Lëtz", "--given", "Anaïs", "--birth", "19910520", "--sex", "F")
    summary = SAMPLE if SAMPLE.is_file() else OWN
    report = tmp_path_factory.mktemp("reports") / "report.pdf"
    report.write_bytes(b"%PDF-1.4 a report of our own")
    wanted = {SUMMARY: (summary, PIVOT)} | dict.fromkeys((LABORATORY, IMAGING, DISCHARGE), (report, PDF))
    found = {}
    for code, (file, form) in wanted.items():
        words = ("--patient", PATIENT, "--type", code, "--class", code, "--format", form)
        document = lu.run("submit", str(file), *words)["documents"][0]
        found[code] = (document["unique_id"], hashlib.sha256(file.read_bytes()).hexdigest())
    return found


@pytest.mark.slow
def test_what_another_country_asks_by_class(countries, held):
    lu, de = countries
    home = tomllib.loads((EXAMPLES / "ehdsi.toml").read_text())["affinity_domain"]["home_community_id"]
    tls = de.tls("server", ca=lu.folder / "certs" / "ca.pem")
    with closing(SoapClient(tls)) as ncp:
        assert who_is(ncp, lu, de, PatientName("LETZ", "Anais"), home) == [(PATIENT.partition("^")[0], home)]
        assert who_is(ncp, lu, de, PatientName("Letz", "Jean"), home) == []
        for code in (SUMMARY, PRESCRIPTION, LABORATORY, IMAGING, DISCHARGE):
            entries = asked(ncp, lu, code)
            expected = [held[code][0]] if code in held else []
            assert [one.identifier(v.ENTRY_UNIQUE_ID) for one in entries] == expected
            assert {one.home for one in entries} <= {home}
        (summary,) = asked(ncp, lu, SUMMARY)
        (form,) = summary.coded(v.ENTRY_FORMAT)
        assert (form.node_representation, form.slots[0].values) == (PIVOT, ("epSOS formatCodes",))
        body = retrieve_request([(summary.slot("repositoryUniqueId")[0], held[SUMMARY][0])], home)
        with ncp.call(lu.responding, ITI_39, body) as answer:
            response = answer.body.find(f"{{{v.RS}}}RegistryResponse")
            assert read_registry_response(response).status == v.SUCCESS
            (document,) = answer.body.iter(f"{{{v.XDSB}}}Document")
            assert hashlib.sha256(b"".join(answer.part(document))).hexdigest() == held[SUMMARY][1]
    # A certificate of a trusted authority that no country is known by.
    with closing(SoapClient(de.tls("consumer", ca=lu.folder / "certs" / "ca.pem"))) as somebody:
        with somebody.call(lu.responding, ITI_38, question(SUMMARY)) as answer:
            refused = read_adhoc_query_response(answer.body)
        assert (refused.status, refused.objects) == (v.FAILURE, ())
    status, _, err = lu.tried("submit", str(OWN), "--patient", PATIENT, "--type", "57016-8", "--class", "57016-8")
    assert status == 2
    assert "57016-8 is not in the code file" in err


def who_is(ncp, lu, de, name, home):
    """(id, home) of who is found by ITI-55."""
    parameters = PatientParameters(names=(name,), births=("19910520",), sexes=("F",))
    theirs = de.home.removeprefix("urn:oid:")
    body, _ = new_query(parameters, device=theirs, to=home.removeprefix("urn:oid:"), home=theirs)
    with ncp.call(lu.responding, ITI_55, body) as answer:
        found = read_patient_answer(answer.body)
    assert found.acknowledgement == "AA"
    return [(one.identifiers[0].id, f"urn:oid:{one.home}") for one in found.patients]


def question(code):
    classes = f"('{code}^^{LOINC}')"
    parameters = {
        "$XDSDocumentEntryPatientId": f"'{PATIENT}'",
        "$XDSDocumentEntryStatus": f"('{v.APPROVED}')",
        "$XDSDocumentEntryClassCode": classes,
    }
    return adhoc_query_request(FIND_DOCUMENTS, parameters)


def asked(ncp, lu, code):
    with ncp.call(lu.responding, ITI_38, question(code)) as answer:
        response = read_adhoc_query_response(answer.body)
    assert response.status == v.SUCCESS, response.errors
    return response.objects
