"""The command line without a server: wrong usage, settings, certificates, one line each and the right exit status."""

import contextlib
import json
import os
import re
import resource
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from atna.record_repository.store import tables as audit_tables
from dossier.services import sqlite_file
from gateway.store import tables as gateway_tables
from registry.store import tables as registry_tables
from repository.store import tables as repository_tables
from wire.settings import TlsSettings
from wire.tls import client_context, server_context

PATIENT = "P1^^^&1.2.3&ISO"
SCHEMAS = {
    "registry": registry_tables.metadata,
    "repository": repository_tables.metadata,
    "gateway": gateway_tables.metadata,
    "audit": audit_tables.metadata,
}


@pytest.fixture
def nowhere():
    """A base port where nothing listens."""
    from dossier.demo import free_base_port

    return str(free_base_port())


def test_config_check_prints_every_fault_and_ends_with_2(run_command, tmp_path):
    path = tmp_path / "dossier.toml"
    path.write_text('[registry]\nworkerz = 1\n[affinity_domain]\nstrictness = "lax"\n')
    status, out, err = run_command("config", "check", "--config", str(path))
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 2
    assert all(line.startswith("dossier: settings: ") for line in err.splitlines())
    status, out, _err = run_command("config", "check", "--config", str(path), "--json")
    assert status == 2
    assert len(json.loads(out)["faults"]) == 2


def test_config_check_shows_the_endpoints(run_command):
    status, out, _err = run_command("config", "check", "--base-port", "9000", "--json")
    assert status == 0
    rows = {row["service"]: row["address"] for row in json.loads(out)["endpoints"]}
    assert rows["registry"] == "http://127.0.0.1:9010/registry"
    assert rows["patient feed"] == "mllp://127.0.0.1:9011"
    assert rows["repository"] == "http://127.0.0.1:9020/repository"
    assert rows["audit"] == "http://127.0.0.1:9040/fhir/AuditEvent"


def test_a_code_file_with_faults_is_told_line_by_line(run_command, tmp_path):
    codes = tmp_path / "codes.csv"
    codes.write_text("attribute,code,scheme,display_name,valid_from,valid_to\nfoo,1,2,3,,\ntypeCode,,1.2,x,,\n")
    path = tmp_path / "dossier.toml"
    path.write_text(f'[affinity_domain]\ncodes = "{codes}"\n')
    status, _out, err = run_command("config", "check", "--config", str(path))
    assert status == 2
    assert "affinity_domain.codes: line 2" in err
    assert "affinity_domain.codes: line 3" in err


@pytest.mark.parametrize(
    ("settings", "scanner", "without"),
    [
        ("", "none", ": documents are not scanned for malware"),
        ("scanner = 'clamd:///run/c.sock'", "clamd:///run/c.sock", "; a document that cannot be scanned is refused"),
        (
            "scanner = 'icap://av/scan'\nscanner_required = false",
            "icap://av/scan",
            "; a document that cannot be scanned is accepted, logged and counted",
        ),
    ],
)
def test_config_check_says_whether_documents_are_scanned(run_command, tmp_path, settings, scanner, without):
    path = tmp_path / "dossier.toml"
    path.write_text(f"[repository]\n{settings}\n")
    assert f"scanner: {scanner}{without}" in run_command("config", "check", "--config", str(path))[1].splitlines()
    status, out, _err = run_command("config", "check", "--config", str(path), "--json")
    assert (status, json.loads(out)["scanner"]) == (
        0,
        scanner,
    )


@pytest.mark.parametrize(("most", "advised"), [(1000, 0), (2500, 0), (2501, 1)])
def test_config_check_advises_on_submissions_that_could_not_be_asked_about(run_command, tmp_path, most, advised):
    path = tmp_path / "dossier.toml"
    path.write_text(f"[repository]\nmax_documents = {most}\n")
    status, out, _err = run_command("config", "check", "--config", str(path), "--json")
    lines = [line for line in json.loads(out)["advice"] if line.startswith("repository.max_documents")]
    assert (status, len(lines)) == (0, advised)
    assert all("registry.max_leaf_results to 10004" in line for line in lines)


def test_config_check_says_what_the_code_file_lists(run_command, tmp_path):
    codes = tmp_path / "codes.csv"
    codes.write_text(
        "attribute,code,scheme,display_name,valid_from,valid_to\ntypeCode,1,1.2,x,,2001-01-01\n"
        "typeCode,2,1.2,x,2999-01-01,\ntypeCode,3,1.2,x,,\nmimeType,text/xml,,,,\n"
    )
    path = tmp_path / "dossier.toml"
    path.write_text(f'[affinity_domain]\ncodes = "{codes}"\n')
    status, out, err = run_command("config", "check", "--config", str(path), "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)["codes"]
    assert told["file"] == str(codes)
    assert told["attributes"] == {
        "mimeType": {"codes": 1, "expired": 0, "not_yet_valid": 0},
        "typeCode": {"codes": 3, "expired": 1, "not_yet_valid": 1},
    }
    assert "classCode" in told["not_restricted"] and "typeCode" not in told["not_restricted"]
    _status, out, _err = run_command("config", "check", "--config", str(path))
    assert "3 codes (1 expired, 1 not yet valid)" in out
    assert "not restricted: associationDocumentation, classCode" in out


def test_faults_of_certificates_and_code_file_are_told_together(run_command, tmp_path):
    for name, text in (("codes.csv", b"\xff"), ("server.pem", b"x"), ("server.key", b"x"), ("ca.pem", b"x")):
        (tmp_path / name).write_bytes(text)
    path = tmp_path / "dossier.toml"
    names = "".join(f'{key} = "{tmp_path}/{file}"\n' for key, file in
                    (("certificate", "server.pem"), ("key", "server.key"), ("ca", "ca.pem")))  # fmt: skip
    path.write_text(
        f'[affinity_domain]\ncodes = "{tmp_path}/codes.csv"\n[tls]\n{names}[repository]\nstore_ca = "{tmp_path}/ca.pem"\n'
    )
    status, _out, err = run_command("config", "check", "--config", str(path))
    assert status == 2
    assert "affinity_domain.codes: line 1: not UTF-8 text" in err
    assert "settings: registry.tls: " in err
    assert "settings: repository.store_ca: cannot be read" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("feed",),
        ("feed", "--patient", "no cx"),
        ("feed", "--patient", PATIENT, "--birth", "yesterday"),
        ("feed", "--patient", PATIENT, "--sex", "Q"),
        ("find", "--patient", "no cx"),
        ("find", "--patient", PATIENT, "--type", "0815"),
        ("find", "--patient", PATIENT, "--from", "yesterday"),
        ("submit", "{file}", "{file}", "--patient", PATIENT, "--type", "11502-2", "--replace", "x"),
        ("submit", "{file}", "--patient", PATIENT, "--type", "0815"),
        ("submit", "{file}", "--patient", PATIENT, "--type", "11502-2", "--created", "20261399"),
        ("find", "--patient", PATIENT, "--from", "20241399"),
        ("find", "--patient", PATIENT, "--to", "2024-02-30"),
        ("find", "--patient", PATIENT, "--author", "a\x01b"),
        ("find", "--patient", PATIENT, "--registry-url", "http://["),
        ("fetch", "1.2.3", "--out", "{folder}", "--registry-url", "host:8010"),
        ("submit", "{file}", "--patient", PATIENT, "--type", "11502-2", "--repository-url", "nonsense"),
        ("submit", "{file}", "--patient", PATIENT, "--type", "11502-2", "--replace", "xyz"),
        ("submit", "{file}", "--patient", PATIENT, "--type", "11502-2", "--title", "a\x01b"),
        ("submit", "{file}", "--patient", PATIENT, "--type", "11502-2", "--comments", "a\udc80b"),
        ("submit", "{odd}", "--patient", PATIENT, "--type", "11502-2"),
        ("find", "--patient", "P\udcff1^^^&1.2.3&ISO"),
        ("find", "--patient", "P1"),
        ("feed", "--patient", PATIENT, "--family", "M\udcffller"),
        ("feed", "--patient", PATIENT, "--feed-url", "mllp://127.0.0.1:99999"),
        ("fetch", "1.2\udcff3", "--out", "{folder}"),
        ("audit", "--user", "a\udcffb"),
        ("audit", "--audit-url", "http://[::1"),
        ("audit", "--since", "2026-99-99"),
        ("audit", "--since", "yesterday"),
        ("audit", "--since", ""),
        ("audit", "verify", "--data", "{folder}"),
        ("submit", "/no/such/file", "--patient", PATIENT, "--type", "11502-2"),
        ("serve", "everything"),
        ("nonsense",),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_sent(run_command, tmp_path, nowhere, arguments):
    file = tmp_path / "a.pdf"
    file.write_bytes(b"x")
    odd = tmp_path / "a\x02.pdf"
    odd.write_bytes(b"x")
    words = [word.format(file=file, odd=odd, folder=tmp_path) for word in arguments]
    port = [] if words[0] == "nonsense" else ["--base-port", nowhere]
    status, out, err = run_command(*words, *port)
    assert status == 2, err
    assert out == ""
    assert "Traceback" not in err


def test_a_pipe_is_refused_before_it_is_read(run_command, tmp_path, nowhere):
    """What was read from it once for size and hash could not be sent any more."""
    pipe = tmp_path / "report.pdf"
    os.mkfifo(pipe)
    arguments = ("--patient", PATIENT, "--type", "11502-2", "--base-port", nowhere)
    status, out, err = run_command("submit", str(pipe), *arguments)
    assert (status, out) == (2, "")
    assert err == f"dossier: {pipe}: is no regular file; write what it gives to one first\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("feed", "--patient", PATIENT),
        ("find", "--patient", PATIENT),
        ("submit", "{file}", "--patient", PATIENT, "--type", "11502-2"),
        ("fetch", "1.2.3", "--out", "{folder}"),
        ("audit",),
    ],
)
def test_nobody_there_is_one_line_and_1(run_command, tmp_path, nowhere, arguments):
    file = tmp_path / "a.pdf"
    file.write_bytes(b"x")
    words = [word.format(file=file, folder=tmp_path) for word in arguments]
    status, out, err = run_command(*words, "--base-port", nowhere)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("dossier: ")
    assert "reached" in err
    assert "Traceback" not in err


def test_db_upgrade_creates_and_is_content_with_what_is_there(run_command, tmp_path):
    for said in ("created with version {}", "version {}, nothing to do"):
        status, out, _err = run_command("db", "upgrade", "--data", str(tmp_path / "data"))
        said_of = [f"{room}: {said.format(tables.info['version'])}\n" for room, tables in SCHEMAS.items()]
        assert (status, out) == (0, "".join(said_of))
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


def test_db_upgrade_leaves_the_document_store_alone(run_command, tmp_path):
    """It may run where the documents are out of reach, e.g. in a container of its own."""
    assert run_command("db", "upgrade", "--data", str(tmp_path / "data"))[0] == 0
    assert not (tmp_path / "data" / "documents").exists()


def test_db_status_says_what_is_there(run_command, tmp_path):
    data = ("--data", str(tmp_path / "data"))
    status, out, _err = run_command("db", "status", *data)
    assert status == 1
    assert [line.split("\t")[3].partition(":")[0] for line in out.splitlines()] == ["empty"] * 4
    assert not (tmp_path / "data").exists()
    run_command("db", "upgrade", *data)
    status, out, _err = run_command("db", "status", *data, "--json")
    assert status == 0
    assert {row["database"]: (row["found"], row["state"]) for row in json.loads(out)} == {
        room: (tables.info["version"], "ready") for room, tables in SCHEMAS.items()
    }


def test_db_upgrade_indexes_the_audit_log_and_status_tells_until_then(run_command, tmp_path):
    from sqlalchemy import insert

    from atna.record_repository.indexing import index
    from atna.record_repository.store.protocol import Criteria
    from atna.record_repository.store.records import RecordStore
    from atna.store.engine import begin_write, new_engine
    from tests.atna.conftest import Writer

    data, url = ("--data", str(tmp_path)), f"sqlite:///{tmp_path}/audit.db"
    run_command("db", "upgrade", *data)
    store = RecordStore.open(url)
    store.keep([index(Writer().query(address="10.7.7.7"))])
    store.close()
    engine = new_engine(url)
    with begin_write(engine) as connection:  # as the step to version 3 leaves it
        connection.execute(audit_tables.record_text.delete())
        connection.execute(insert(audit_tables.index_state).values(name="index", number=0))
    engine.dispose()
    status, out, _err = run_command("db", "status", "--json", *data)
    states = {row["database"]: row["state"] for row in json.loads(out)}
    assert (status, states["audit"]) == (1, "not indexed yet: run dossier db upgrade again")
    status, _out, err = run_command("audit", "verify", *data)
    assert status == 1
    assert "dossier db upgrade" in err
    assert run_command("db", "upgrade", *data)[0] == 0
    assert run_command("db", "status", *data)[0] == 0
    assert json.loads(run_command("audit", "verify", "--json", *data)[1])["holds"] is True
    store = RecordStore.open(url)
    assert len(store.find(Criteria(addresses=("10.7.",)), limit=9)) == 1
    store.close()


def test_a_database_of_another_room_is_refused(run_command, tmp_path, monkeypatch):
    run_command("db", "upgrade", "--data", str(tmp_path))
    path = tmp_path / "dossier.toml"
    path.write_text(f'[registry]\ndatabase_url = "sqlite:///{tmp_path}/audit.db"\n')
    status, _out, err = run_command("db", "upgrade", "--data", str(tmp_path), "--config", str(path))
    assert status == 1
    assert err.startswith("dossier: registry: database ")


def test_certs_make_a_chain_both_ends_accept(run_command, tmp_path):
    folder = tmp_path / "certs"
    status, out, _err = run_command("certs", "--out", str(folder), "--host", "lab.example.org", "--client", "lab")
    assert status == 0
    assert f'ca = "{folder}/ca.pem"' in out
    assert stat.S_IMODE((folder / "server.key").stat().st_mode) == 0o600
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "lab.example.org"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.load_cert_chain(folder / "server.pem", folder / "server.key")
    theirs.load_cert_chain(folder / "lab.pem", folder / "lab.key")
    for context in (ours, theirs):
        context.load_verify_locations(folder / "ca.pem")
    ours.verify_mode = ssl.CERT_REQUIRED
    handshake(ours, theirs, "localhost")


def handshake(server_context, client_context, name):
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = server_context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert server.getpeercert()["subject"] == ((("commonName", "lab"),),)
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize(
    ("words", "kind"), [((), "RSA"), (("--keys", "rsa"), "RSA"), (("--keys", "ec"), "ECDSA")], ids=["", "rsa", "ec"]
)
@pytest.mark.parametrize("intermediate", [(), ("--intermediate",)], ids=["root", "intermediate"])
def test_with_the_certificates_made_tls_1_2_speaks_the_suites_of_ihe(run_command, tmp_path, words, kind, intermediate):
    assert run_command("certs", "--out", str(tmp_path), *words, *intermediate)[0] == 0
    server, client = (
        TlsSettings(
            certificate=tmp_path / f"{name}.pem",
            key=tmp_path / f"{name}.key",
            ca=tmp_path / "ca.pem",
            revocation_list=tmp_path / "ca.crl",
        )
        for name in ("server", "client")
    )
    spoken = set()
    for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384"):
        for exchange in ("DHE-RSA", "ECDHE-RSA", "ECDHE-ECDSA"):
            theirs = client_context(client)
            theirs.maximum_version = ssl.TLSVersion.TLSv1_2
            theirs.set_ciphers(f"{exchange}-{suite}")
            up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
            ends = (
                theirs.wrap_bio(down, up, server_hostname="localhost"),
                server_context(server).wrap_bio(up, down, server_side=True),
            )
            try:
                for _ in range(4):
                    for end in ends:
                        with contextlib.suppress(ssl.SSLWantReadError):
                            end.do_handshake()
            except ssl.SSLError:
                continue
            spoken.add(ends[0].cipher()[0])
    exchanges = ("DHE-RSA", "ECDHE-RSA") if kind == "RSA" else ("ECDHE-ECDSA",)
    assert spoken == {f"{one}-{suite}" for one in exchanges for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384")}


def test_each_server_has_a_certificate_of_its_own(run_command, tmp_path):
    words = ("--server", "registry", "--server", "s3", "--host", "dossier.example.org", "--client", "operator")
    status, out, _err = run_command("certs", "--out", str(tmp_path), *words)
    assert status == 0
    assert sorted(path.name for path in tmp_path.glob("*.pem")) == ["ca.pem", "operator.pem", "registry.pem", "s3.pem"]
    assert f'# for the dossier.toml of s3\n[tls]\ncertificate = "{tmp_path}/s3.pem"' in out
    for name in ("registry", "s3"):
        server = x509.load_pem_x509_certificate((tmp_path / f"{name}.pem").read_bytes())
        assert server.subject.rfc4514_string() == f"CN={name}"
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost", name, "dossier.example.org"]


@pytest.mark.parametrize(
    "words",
    [
        ("--client", "ca"),
        ("--client", "server"),
        ("--client", "../lab"),
        ("--server", "lab", "--client", "lab"),
        ("--server", "two", "--server", "two"),
        ("--server", ""),
    ],
)
def test_a_name_that_can_be_no_file_of_its_own_is_refused_before_anything_is_written(run_command, tmp_path, words):
    status, _out, err = run_command("certs", "--out", str(tmp_path / "certs"), *words)
    assert status == 2
    assert "cannot be a " in err
    assert not (tmp_path / "certs").exists()


def test_certs_do_not_overwrite_an_authority(run_command, tmp_path):
    assert run_command("certs", "--out", str(tmp_path))[0] == 0
    before = (tmp_path / "ca.pem").read_bytes()
    assert run_command("certs", "--out", str(tmp_path))[0] == 2
    assert (tmp_path / "ca.pem").read_bytes() == before
    assert run_command("certs", "--out", str(tmp_path), "--force")[0] == 0


def test_settings_with_these_certificates_serve_https(run_command, tmp_path):
    run_command("certs", "--out", str(tmp_path))
    path = tmp_path / "dossier.toml"
    path.write_text(
        f'[tls]\ncertificate = "{tmp_path}/server.pem"\nkey = "{tmp_path}/server.key"\nca = "{tmp_path}/ca.pem"\n'
    )
    status, out, err = run_command("config", "check", "--config", str(path))
    assert (status, err) == (0, "")
    assert "https://127.0.0.1:8010/registry" in out
    assert "mllps://127.0.0.1:8011" in out
    assert re.search(
        rf"^certificate +registry\.tls +{tmp_path}/server\.pem +until \d{{4}}-\d\d-\d\d, 89 days$", out, re.MULTILINE
    )
    report = json.loads(run_command("config", "check", "--config", str(path), "--json")[1])
    assert [(one["tls"], one["file"], one["days"]) for one in report["certificates"]] == [
        (f"{service}.tls", file, 89)
        for service in ("registry", "repository", "gateway", "audit")
        for file in ("certificate", "ca")
    ]
    (tmp_path / "server.key").write_text("not a key")
    status, _out, err = run_command("config", "check", "--config", str(path))
    assert status == 2
    assert "settings: registry.tls: " in err


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/x.db", "/var/x.db"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:///:memory:", None),
        ("postgresql+psycopg://u:p@h/d", None),
    ],
)
def test_the_file_of_a_database(url, path):
    found = sqlite_file(url)
    assert (str(found) if found else None) == path


def test_a_reader_that_goes_away_is_no_defect(tmp_path):
    import subprocess
    import sys

    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "dossier", "config", "check", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


class TestCertificatesThatNoLongerCount:
    """``dossier certs --revoke``, ``--expired``, ``--intermediate``: what a listener makes of them."""

    def admitted(self, folder, name):
        """Whether a listener with the folder's settings takes the peer; else OpenSSL's words."""
        tls = TlsSettings(
            certificate=folder / "server.pem",
            key=folder / "server.key",
            ca=folder / "ca.pem",
            revocation_list=folder / "ca.crl",
        )
        theirs = client_context(
            TlsSettings(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", ca=folder / "ca.pem")
        )
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client, server = theirs.wrap_bio(down, up), server_context(tls).wrap_bio(up, down, server_side=True)
        try:
            for _ in range(4):
                for end in (client, server):
                    try:
                        end.do_handshake()
                    except ssl.SSLWantReadError:
                        continue
        except ssl.SSLCertVerificationError as refused:
            return refused.verify_message
        return True

    @pytest.mark.parametrize("more", [[], ["--intermediate"]], ids=["root", "intermediate"])
    def test_revoked_and_expired_from_the_start(self, run_command, tmp_path, more):
        words = ("--client", "lab", "--client", "lost", "--expired", "late", "--revoke", "lost", *more)
        status, out, err = run_command("certs", "--out", str(tmp_path), *words)
        assert (status, err) == (0, "")
        assert f'revocation_list = "{tmp_path}/ca.crl"' in out
        assert self.admitted(tmp_path, "lab") is True
        assert self.admitted(tmp_path, "lost") == "certificate revoked"
        assert self.admitted(tmp_path, "late") == "certificate has expired"

    def test_revoked_later_each_on_top_of_the_former(self, run_command, tmp_path):
        run_command("certs", "--out", str(tmp_path), "--client", "a", "--client", "b", "--intermediate")
        before = (tmp_path / "a.pem").read_bytes()
        for name in ("a", "b"):
            assert self.admitted(tmp_path, name) is True
            assert run_command("certs", "--out", str(tmp_path), "--revoke", name) == (0, "", "")
        assert [self.admitted(tmp_path, name) for name in ("a", "b")] == ["certificate revoked"] * 2
        assert (tmp_path / "a.pem").read_bytes() == before

    def test_the_intermediate_itself(self, run_command, tmp_path):
        run_command("certs", "--out", str(tmp_path), "--client", "a", "--intermediate", "--revoke", "intermediate")
        assert self.admitted(tmp_path, "a") == "certificate revoked"

    @pytest.mark.parametrize("name", ["nobody", "ca", "../ca"])
    def test_who_was_never_there_cannot_be_revoked(self, run_command, tmp_path, name):
        assert run_command("certs", "--out", str(tmp_path), "--revoke", name)[0] == 2
        assert not (tmp_path / "ca.pem").exists()
        run_command("certs", "--out", str(tmp_path))
        status, _out, err = run_command("certs", "--out", str(tmp_path), "--revoke", name)
        assert status == 2
        assert "cannot be revoked" in err


@pytest.mark.parametrize("words", [("sweep",), ("scrub",), ("keys", "show"), ("keys", "rotate")], ids=" ".join)
def test_a_mistyped_folder_is_no_empty_store(run_command, tmp_path, words):
    folder = tmp_path / "typo"
    status, _out, err = run_command("store", *words, "--data", str(folder))
    assert status == 2
    assert "there is no such database; --data or --config say where it is" in err
    assert not list(tmp_path.rglob("repository.db")) and not list(tmp_path.rglob("documents"))


@pytest.mark.parametrize("held", [0, 1], ids=["new", "with a key"])
def test_a_key_that_finds_no_room_leaves_the_file_of_keys_as_it_was(run_command, tmp_path, held):
    """Half a line would make every key in the file unusable at the next start."""
    file = tmp_path / "keys"
    for number in range(held):
        assert run_command("store", "keys", "new", str(file), "--name", f"k{number}")[0] == 0
    before = file.read_bytes() if held else None
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before or b"") + 10, limits[1]))
    try:
        status, out, err = run_command("store", "keys", "new", str(file), "--name", "more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (status, out) == (2, "")
    assert err == f"dossier: {file}: File too large\n"
    assert (file.read_bytes() if file.exists() else None) == before


def _process(tmp_path, words, **more):
    """``config check`` in a process of its own, for what only a whole process has: streams, locale."""
    root = Path(__file__).resolve().parents[2]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "PYTHONUTF8": "1", "PYTHONIOENCODING": "ascii"}
    environ |= more.pop("environ", {})
    command = [sys.executable, "-m", "dossier", *words]
    return subprocess.run(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, check=False, timeout=60, **more)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_what_the_locale_cannot_print_is_escaped(tmp_path, as_json):
    codes = tmp_path / "schlüssel.csv"
    codes.write_text("attribute,code,scheme,display_name,valid_from,valid_to\ntypeCode,1,1.2,x,,\n")
    (tmp_path / "dossier.toml").write_text(f'[affinity_domain]\ncodes = "{codes}"\n', encoding="utf-8")
    done = _process(tmp_path, ["config", "check", *(["--json"] if as_json else [])], stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    if as_json:
        assert json.loads(done.stdout)["codes"]["file"] == str(codes)
    else:
        assert "schlüssel.csv".encode() in done.stdout  # typer takes ASCII for a mistake


def test_a_table_is_escaped_where_the_locale_cannot_print_it(tmp_path):
    code = "from dossier.__main__ import _open_streams as o; from dossier.console import print_table as p; o(); "
    code += "p({'t': 'title'}, [{'t': 'Grüße'}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii:surrogateescape"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"Gr\\xfc\\xdfe\n")


def test_the_trace_that_a_defect_points_to_is_no_unknown_setting(tmp_path):
    done = _process(tmp_path, ["config", "check"], stdout=subprocess.PIPE, environ={"DOSSIER_TRACE": "1"})
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [("config", "check"), ("config", "check", "--json")], ids=" ".join)
def test_output_that_finds_no_room_is_one_line_and_1(tmp_path, words):
    with Path("/dev/full").open("wb") as full:
        done = _process(tmp_path, words, stdout=full)
    assert (done.returncode, done.stderr) == (1, b"dossier: input or output: No space left on device\n")


def test_closed_streams_are_no_defect(tmp_path):
    """Their numbers are not given to files that are opened later."""
    done = _process(tmp_path, ["config", "check", "--json"], preexec_fn=lambda: os.closerange(0, 2))
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("host", ["praxis-müller.example", "two names", "a\nb", ""])
def test_what_cannot_be_a_host_is_told_before_certs_writes_anything(run_command, tmp_path, host):
    """An authority without its servers would stand in the way of the next attempt."""
    status, out, err = run_command("certs", "--out", str(tmp_path / "certs"), "--host", host)
    assert (status, out) == (2, "")
    assert err.startswith(f"dossier: --host {host!r}: should be a name in ASCII")
    assert not (tmp_path / "certs").exists()


def test_config_check_tells_what_lies_where_a_folder_is_wanted(run_command, tmp_path):
    """dossier serve would not start; and nothing is made by looking."""
    assert run_command("config", "check", "--data", str(tmp_path / "new"))[0] == 0
    assert not (tmp_path / "new").exists()
    (tmp_path / "documents").touch()
    (tmp_path / "registry.db").mkdir()
    status, out, err = run_command("config", "check", "--data", str(tmp_path), "--json")
    assert status == 2
    assert json.loads(out)["faults"] == [
        f"{tmp_path}/documents: cannot be a folder: {tmp_path}/documents is none",
        f"registry.database_url: {tmp_path}/registry.db is a folder",
    ]
    assert len(err.splitlines()) == 2
    within = tmp_path / "documents" / "data"
    assert (
        f"dossier: settings: {within}: cannot be a folder: {tmp_path}/documents is none"
        in run_command("config", "check", "--data", str(within))[2]
    )


def test_config_check_advises_the_key_that_the_audit_service_starts_with(run_command, tmp_path):
    path, key = tmp_path / "dossier.toml", tmp_path / "key.pem"
    production = '[affinity_domain]\nenvironment = "production"\n[repository]\nencryption = "off"\n'

    def advised(audit):
        path.write_text(f"{production}[audit]\n{audit}\n")
        status, out, _err = run_command("config", "check", "--config", str(path), "--data", str(tmp_path), "--json")
        assert status == 0
        return [line for line in json.loads(out)["advice"] if line.startswith("audit.checkpoint_key")]

    assert len(advised("")) == 1
    assert f"{key} is not there" in advised(f'checkpoint_key = "{key}"')[0]
    assert run_command("audit", "key", "--new", str(key))[0] == 0
    assert advised(f'checkpoint_key = "{key}"') == []
