"""``dossier config check`` of the table of communities: every fault at once, each at the key to mend."""

import json

import pytest

from tests.certificates import issue

HOME = "urn:oid:1.2.250.1"
PATIENT = "SECRET-7"
FAULTY = f"""
[affinity_domain]
home_community_id = "1.2.3.4"

[[gateway.repositories]]
unique_id = "1.2.3"
url = "http://repository.example/repository"
[[gateway.repositories]]
unique_id = "1.2.3"
url = "http://127.0.0.1:8020/repository"

[[gateway.communities]]
home_community_id = "{HOME}"
query_url = "http://gateway.example/responding"
retrieve_url = "https://gateway.example/responding"
transactions = ["ITI-38", "ITI-18"]
patient_id = "discover"
[[gateway.communities]]
home_community_id = "1.2.250.1"
query_url = "http://127.0.0.1:9000/responding"
certificate = "/no/such/file.pem"
subjects = ["CN=gateway.example,O=x", "no subject"]
[[gateway.communities]]
home_community_id = "urn:oid:1.2.3.4"
query_url = "http://[::1]:9000/responding"
patient_id = "table"
subjects = ["CN=gateway.example, O=x"]
[[gateway.communities]]
home_community_id = "here"
[[gateway.communities]]
query_url = "gateway.example"
patients = {{ "{PATIENT}" = "8^^^&1.2&ISO" }}
deadline = 3
"""
EXPECTED = [
    "gateway.communities.0.transactions.1: input should be 'ITI-38', 'ITI-39', 'ITI-55' or 'ITI-92'",
    "gateway.communities.0: patient_id = discover asks ITI-55 of the community: it needs discovery_url",
    "gateway.communities.0: patient_id = discover asks ITI-55 of the community: transactions has to list it",
    "gateway.communities.0.query_url: would be called in the clear; needs https:// or gateway.tls.allow_plaintext",
    "gateway.communities.0.retrieve_url: https:// needs certificate, key and ca in tls, gateway.tls, or the community",
    "gateway.communities.1.certificate: there is no file /no/such/file.pem",
    "gateway.communities.1: certificate and key belong together",
    "gateway.communities.1.subjects.1: 'no subject' is neither sha256:<fingerprint> nor an RFC 4514 subject",
    "gateway.communities.2: patient_id = table needs patients, our identifiers with theirs",
    "gateway.communities.2.home_community_id: is our own home community",
    "gateway.communities.3.home_community_id: 'here' is no OID",
    "gateway.communities.3: names neither an address to ask (query_url) nor subjects that may ask us",
    "gateway.communities.4.home_community_id: field required",
    "gateway.communities.4.query_url: should be an address like https://host.example:8010/path",
    "gateway.communities.4.patients: row 1 should be two identifiers like 7^^^&1.2.3&ISO, ours = theirs",
    "gateway.communities.4: patients is of use only with patient_id = table",
    "gateway.communities.4.deadline: no such setting",
    "gateway.repositories.0.url: would be called in the clear",
    "gateway: listed more than once: 1.2.3, urn:oid:1.2.250.1",
    "gateway: named as subject of more than one community: CN=gateway.example,O=x",
]


@pytest.fixture
def checked(run_command, tmp_path):
    def check(text):
        path = tmp_path / "dossier.toml"
        path.write_text(text)
        status, out, err = run_command("config", "check", "--config", str(path), "--data", str(tmp_path), "--json")
        return status, json.loads(out), err

    return check


def test_every_fault_of_the_table_at_once(checked):
    status, told, err = checked(FAULTY)
    assert status == 2
    missing = [wanted for wanted in EXPECTED if not any(fault.startswith(wanted) for fault in told["faults"])]
    assert missing == [], told["faults"]
    assert len(told["faults"]) == len(EXPECTED), told["faults"]
    assert [line.removeprefix("dossier: settings: ") for line in err.splitlines()] == told["faults"]
    assert PATIENT not in err  # nobody who mends settings has to see patients


def test_a_table_that_is_right(checked, tmp_path):
    folder = issue(tmp_path)
    own = f'certificate = "{folder}/client.crt"\nkey = "{folder}/client.key"\nca = "{folder}/ca.crt"\n'
    table = (
        f'[gateway]\ncallers = "listed"\n[[gateway.communities]]\nhome_community_id = "{HOME}"\n'
        f'query_url = "https://gateway.example/responding"\nsubjects = ["CN=gateway.example"]\n{own}'
        '[[gateway.communities]]\nhome_community_id = "1.2.250.2"\nsubjects = ["CN=who only asks"]\n'
    )
    status, told, err = checked(table)
    assert (status, told["faults"], err) == (0, [], "")
    rows = {row["service"]: row["speaks"] for row in told["endpoints"]}
    assert {"responding gateway", "initiating gateway", "gateway admin"} <= set(rows)
    first, second = told["communities"]
    assert (first["home_community_id"], first["patient_id"], first["deadline_s"]) == (HOME, "same", 15)
    assert (second["query_url"], second["subjects"]) == (None, ["CN=who only asks"])
    files = {(one["file"], one["days"] >= 4) for one in told["certificates"] if one["tls"] == "gateway.communities.0"}
    assert files == {("certificate", True), ("ca", True)}


@pytest.mark.parametrize(
    ("granted", "exchanged", "missing"),
    [
        ("", "", ["ITI-47"]),
        ('"ITI-47"', "", []),
        ('"ITI-47"', '"ITI-38", "ITI-92"', ["ITI-92"]),
        ("", '"ITI-38", "ITI-55", "ITI-92"', ["ITI-47", "ITI-92"]),
        ("", '"ITI-38", "ITI-39"', []),
    ],
)
def test_what_the_registry_does_not_let_the_gateway_do_is_advised(checked, tmp_path, granted, exchanged, missing):
    folder = issue(tmp_path)
    subject = "CN=client,O=Hospital A"
    table = (
        f'[tls]\ncertificate = "{folder}/client.crt"\nkey = "{folder}/client.key"\nca = "{folder}/ca.crt"\n'
        f'[affinity_domain.partners."{subject}"]\ntransactions = [{granted}]\n'
        f'[[gateway.communities]]\nhome_community_id = "{HOME}"\nsubjects = ["CN=who asks"]\n'
    )
    status, told, err = checked(table + (f"transactions = [{exchanged}]\n" if exchanged else ""))
    assert (status, told["faults"], err) == (0, [], "")
    assert [line.partition("no partner with ")[2].partition(":")[0] for line in told["advice"]] == missing
    assert all(f'"{subject}"' in line for line in told["advice"])


def test_a_listener_that_asks_nobody_who_he_is_is_advised_against(checked, tmp_path):
    folder = issue(tmp_path)
    tls = f'[tls]\ncertificate = "{folder}/client.crt"\nkey = "{folder}/client.key"\nca = "{folder}/ca.crt"\n'
    status, told, _err = checked(f"{tls}[registry.tls]\nrequire_client_certificate = false\n")
    assert (status, {line.partition(":")[0] for line in told["advice"]}) == (0, {"registry.tls"})
    assert checked(tls)[1]["advice"] == []


def test_in_the_clear_the_gateway_may_all(checked):
    table = f'[[gateway.communities]]\nhome_community_id = "{HOME}"\nsubjects = ["CN=who asks"]\n'
    status, told, _err = checked(table)
    assert (status, told["advice"]) == (0, [])


def test_certificates_of_a_community_that_do_not_load(checked, tmp_path):
    folder = issue(tmp_path)
    (folder / "empty.crt").write_text("nothing")
    row = '[[gateway.communities]]\nhome_community_id = "{}"\nquery_url = "https://gateway.example/responding"\n'
    own = 'certificate = "{0}/client.crt"\nkey = "{0}/{1}.key"\nca = "{0}/{2}.crt"\n'
    rows = [
        row.format("1.2.1") + own.format(folder, "server", "ca"),
        row.format("1.2.2") + own.format(folder, "client", "empty"),
    ]
    status, told, _ = checked("".join(rows))
    assert status == 2
    assert [fault.partition(": ")[0] for fault in told["faults"]] == ["gateway.communities.0", "gateway.communities.1"]
    assert "do not belong together" in told["faults"][0]
    assert "empty.crt holds nothing that can be used" in told["faults"][1]


def test_plain_http_where_the_network_is_secured_otherwise(checked):
    row = f'[[gateway.communities]]\nhome_community_id = "{HOME}"\nquery_url = "http://gateway.example/responding"\n'
    status, told, _ = checked(row)
    assert (status, len(told["faults"])) == (2, 1)
    assert checked(f"[gateway.tls]\nallow_plaintext = true\n{row}")[0] == 0


@pytest.mark.parametrize("pair", [f'"{PATIENT}" = "8^^^&1.2&ISO"', f'"8^^^&1.2&ISO" = "{PATIENT}"', f'"{PATIENT}" = 8'])
def test_a_table_of_patients_is_checked_without_being_told(checked, pair):
    row = f'[[gateway.communities]]\nhome_community_id = "{HOME}"\nquery_url = "http://localhost/responding"\n'
    status, told, _ = checked(row + f'patient_id = "table"\npatients = {{ {pair} }}\n')
    assert (status, len(told["faults"])) == (2, 1)
    assert "row 1 should be two identifiers" in told["faults"][0]
    assert PATIENT not in told["faults"][0]
