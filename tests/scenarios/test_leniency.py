"""Strictness ``warn``: a deviation is accepted, and the operator is told whose it was."""

import json

from dossier.demo import serving
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request
from tests.builders import PATIENT
from tests.registry.rooms import FIND_DOCUMENTS

ENTRY = "$XDSDocumentEntry"


def test_what_was_let_pass_is_listed_by_partner(tmp_path, run_command):
    config = tmp_path / "dossier.toml"
    config.write_text('[affinity_domain]\nstrictness = "warn"\n')
    narrow = tmp_path / "narrow.csv"
    # The sender's code file knows a type that the domain has not agreed on.
    narrow.write_text(
        "attribute,code,scheme,display_name,valid_from,valid_to\ntypeCode,X-1,1.2.3.9,Local type,,\n"
        "classCode,REPORTS,1.3.6.1.4.1.19376.1.2.6.1,Reports,,\nformatCode,urn:ihe:iti:xds:2017:mimeTypeSufficient,"
        "1.3.6.1.4.1.19376.1.2.3,x,,\nconfidentialityCode,N,2.16.840.1.113883.5.25,normal,,\n"
        "healthcareFacilityTypeCode,22232009,2.16.840.1.113883.6.96,Hospital,,\n"
        "practiceSettingCode,394802001,2.16.840.1.113883.6.96,General,,\n"
        "contentTypeCode,22232009,2.16.840.1.113883.6.96,Hospital,,\n"
    )
    sender = tmp_path / "sender.toml"
    sender.write_text(f'[affinity_domain]\ncodes = "{narrow}"\n')
    document = tmp_path / "a.txt"
    document.write_text("x")
    patient = "L1^^^&1.2.3&ISO"
    data = tmp_path / "data"
    data.mkdir()
    with serving(data, config=config) as running:
        port = ["--base-port", str(running.base_port)]
        assert run_command("feed", "--patient", patient, *port)[0] == 0
        words = ["submit", str(document), "--patient", patient, "--type", "X-1", "--class", "REPORTS"]
        status, _out, err = run_command(*words, "--config", str(sender), *port)
        assert status == 0, err
        status, out, _err = run_command("defects", "--data", str(data), *port, "--json")
    rows = json.loads(out)
    assert status == 0
    assert [row["partner"] for row in rows] == ["127.0.0.1"]
    assert rows[0]["count"] == 1
    assert "typeCode" in rows[0]["context"]
    assert run_command("defects", "--partner", "CN=other", "--data", str(data))[1] == ""
    assert run_command("defects", "--data", str(tmp_path / "none"))[0] == 2


def test_deviations_of_queries_are_listed_too(lenient, run_command):
    body = adhoc_query_request(FIND_DOCUMENTS, {f"{ENTRY}PatientId": PATIENT, f"{ENTRY}Status": f"('{v.APPROVED}')"})
    assert lenient.ask(body).status == "Success"
    assert lenient.ask_without_action(body).status == "Success"
    status, out, err = run_command("defects", "--data", str(lenient.data), "--json")
    assert status == 0, err
    found = {row["context"]: row["count"] for row in json.loads(out) if row["partner"] == "127.0.0.1"}
    assert found[f"{ENTRY}PatientId: quotes or parentheses are missing"] >= 2
    assert found["the header wsa:Action is missing"] >= 1


def test_without_action_nothing_is_answered_where_strict(strict):
    body = adhoc_query_request(
        FIND_DOCUMENTS, {f"{ENTRY}PatientId": f"'{PATIENT}'", f"{ENTRY}Status": f"('{v.APPROVED}')"}
    )
    assert strict.ask_without_action(body).body.tag.endswith("Fault")
