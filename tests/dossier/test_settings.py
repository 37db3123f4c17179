"""Settings: where a value comes from, what is refused, and every fault at once."""

import json

import pytest

from atna.record_repository.signing import SigningKey
from dossier.services import SERVICES, check_checkpoint_key, endpoints
from dossier.settings import Address, Settings, SettingsError, load, reachable, room_arguments


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "dossier.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(*arguments, **more):
    with pytest.raises(SettingsError) as caught:
        load(*arguments, **{"environ": {}} | more)
    return caught.value.faults


def test_defaults_follow_the_data_directory_and_the_base_port(tmp_path):
    settings = load(environ={}, data=tmp_path, base_port=9300)
    assert settings.registry.listen == "127.0.0.1:9310"
    assert settings.registry.feed_listen == "127.0.0.1:9311"
    assert settings.repository.listen == "127.0.0.1:9320"
    assert settings.audit.listen == "127.0.0.1:9340"
    assert settings.audit.syslog_tls_listen == "127.0.0.1:9341"
    assert settings.audit.syslog_udp_listen == "127.0.0.1:9342"
    assert settings.admin.registry_listen == "127.0.0.1:9319"
    assert settings.admin.repository_listen == "127.0.0.1:9329"
    assert settings.admin.audit_listen == "127.0.0.1:9349"
    assert settings.repository.registry_url == "http://127.0.0.1:9310/registry"
    assert settings.audit.sinks == ("http://127.0.0.1:9340/records",)
    assert settings.registry.database_url == f"sqlite:///{tmp_path}/registry.db"
    assert settings.repository.store == (tmp_path / "documents").as_uri()


def test_the_environment_wins_over_the_file(toml):
    path = toml('[registry]\nworkers = 2\nmax_leaf_results = 5\n[admin]\nlog_level = "debug"\n')
    settings = load(path, environ={"DOSSIER_REGISTRY__WORKERS": "1"})
    assert (settings.registry.workers, settings.registry.max_leaf_results) == (1, 5)
    assert settings.admin.log_level == "debug"


def test_lists_and_tables_in_the_environment_are_json():
    environ = {
        "DOSSIER_AFFINITY_DOMAIN__ASSIGNING_AUTHORITIES": '["1.2.3", "1.2.4"]',
        "DOSSIER_AFFINITY_DOMAIN__PARTNERS": json.dumps({"CN=lab": {"strictness": "warn"}}),
    }
    domain = load(environ=environ).affinity_domain
    assert domain.assigning_authorities == ("1.2.3", "1.2.4")
    assert domain.partners["CN=lab"].strictness == "warn"


def test_the_keys_of_a_table_keep_their_case_in_the_environment():
    """A namespace in PID-3 is compared as it is written."""
    environ = {
        "DOSSIER_AFFINITY_DOMAIN__AUTHORITY_NAMES__HOSPITAL": "1.2.3",
        "dossier_affinity_domain__authority_names__Practice": "1.2.4",
        "DOSSIER_AFFINITY_DOMAIN__PARTNERS__CN=Lab__STRICTNESS": "warn",
    }
    domain = load(environ=environ).affinity_domain
    assert domain.authority_names == {"HOSPITAL": "1.2.3", "Practice": "1.2.4"}
    assert domain.partners["CN=Lab"].strictness == "warn"


def test_the_keys_of_a_table_are_added_to_those_of_the_file(toml):
    path = toml('[affinity_domain]\nauthority_names = { HOSPITAL = "1.2.3", Practice = "1.2.4" }\n')
    domain = load(path, environ={"DOSSIER_AFFINITY_DOMAIN__AUTHORITY_NAMES__HOSPITAL": "1.2.5"}).affinity_domain
    assert domain.authority_names == {"HOSPITAL": "1.2.5", "Practice": "1.2.4"}


def test_a_list_that_is_no_json_is_a_fault_beside_the_others():
    environ = {"DOSSIER_AFFINITY_DOMAIN__ASSIGNING_AUTHORITIES": "1.2.3", "DOSSIER_REGISTRY__WORKERS": "none"}
    found = faults(environ=environ)
    assert [fault.partition(":")[0] for fault in found] == ["affinity_domain.assigning_authorities", "registry.workers"]


def test_the_secret_of_an_object_store_comes_from_a_file_and_reaches_the_children(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden\n")
    environ = {
        "DOSSIER_REPOSITORY__STORE": "s3+https://s3.example.org/documents",
        "DOSSIER_REPOSITORY__STORE_ACCESS_KEY": "access",
        "DOSSIER_REPOSITORY__STORE_SECRET_KEY_FILE": str(secret),
    }
    settings = load(environ=environ)
    again = Settings.from_tree(json.loads(json.dumps(settings.tree)))
    for one in (settings, again):
        assert one.repository.store_secret_key.get_secret_value() == "hidden"
        assert "hidden" not in repr(one.repository)
    del environ["DOSSIER_REPOSITORY__STORE_SECRET_KEY_FILE"]
    (fault,) = faults(environ=environ)
    assert fault.startswith("repository: store_access_key and store_secret_key are needed")


def test_secrets_come_from_files(tmp_path):
    secret = tmp_path / "url"
    secret.write_text("postgresql+psycopg://registry:pa55@db/registry\n")
    settings = load(environ={"DOSSIER_REGISTRY__DATABASE_URL_FILE": str(secret)})
    assert settings.registry.database_url == "postgresql+psycopg://registry:pa55@db/registry"


def test_a_secret_given_twice_or_unreadable_is_told():
    found = faults(
        environ={
            "DOSSIER_REGISTRY__DATABASE_URL_FILE": "/no/such/file",
            "DOSSIER_AUDIT__DATABASE_URL": "sqlite:///a.db",
            "DOSSIER_AUDIT__DATABASE_URL_FILE": "/x",
        }
    )
    assert len(found) == 2
    assert found[0].startswith("DOSSIER_REGISTRY__DATABASE_URL_FILE:")
    assert "DOSSIER_AUDIT__DATABASE_URL is set as well" in found[1]


def test_every_fault_at_once_with_its_path_and_what_is_allowed(toml):
    path = toml(
        """
        [affinity_domain]
        strictness = "lax"
        home_community_id = "not an oid"
        [registry]
        workerz = 3
        listen = "0.0.0.0:8010"
        [repository]
        listen = "nowhere"
        max_document_bytes = -1
        [admin]
        log_format = "xml"
        [portal]
        a = 1
        [gateway]
        deadline_s = 0
        [xua]
        a = 1
        """
    )
    found = "\n".join(faults(path, environ={"DOSSIER_NONSENSE__KEY": "1"}))
    for expected in (
        "affinity_domain.strictness: input should be 'reject' or 'warn'",
        "affinity_domain.home_community_id:",
        "registry.workerz: no such setting; [registry] knows listen, workers, ",
        "repository.max_document_bytes: input should be greater than 0",
        "admin.log_format: input should be 'json' or 'text'",
        "portal: no such section",
        "gateway.deadline_s: input should be greater than 0",
        "xua: not in this version",
        "DOSSIER_NONSENSE__KEY: no such section",
    ):
        assert expected in found, expected


def test_a_fault_in_one_section_does_not_hide_an_address_in_another(toml):
    found = faults(toml('[audit]\nlisten = "0.0.0.0:8040"\n[affinity_domain]\nstrictness = "lax"\n'))
    assert any(fault.startswith("audit.listen: is not a loopback address") for fault in found)
    assert any(fault.startswith("affinity_domain.strictness") for fault in found)


def test_plaintext_off_loopback_needs_to_be_wanted(toml):
    text = '[registry]\nlisten = "0.0.0.0:8010"\nfeed_listen = "10.0.0.1:8011"\n'
    assert len(faults(toml(text))) == 2
    settings = load(toml(text + "[tls]\nallow_plaintext = true\n"), environ={})
    assert settings.registry.listen == "0.0.0.0:8010"
    assert settings.repository.registry_url == "http://127.0.0.1:8010/registry"


def test_the_same_address_twice_is_a_fault(toml):
    found = faults(toml('[repository]\nlisten = "127.0.0.1:8010"\n'))
    assert found == ["repository.listen: registry.listen has the same address"]


def test_a_port_of_udp_is_another_than_that_of_tcp(toml):
    settings = load(toml('[audit]\nsyslog_udp_listen = "127.0.0.1:8041"\n'), environ={})
    assert settings.audit.syslog_udp_listen == settings.audit.syslog_tls_listen == "127.0.0.1:8041"


@pytest.mark.parametrize("off", ['""', "false"])
def test_a_syslog_listener_is_switched_off(toml, off):
    path = toml(f"[audit]\nsyslog_tls_listen = {off}\nsyslog_udp_listen = {off}\n")
    settings = load(path, environ={})
    audit = [service for service in SERVICES.values() if service.name == "audit"]
    assert [row["address"] for row in endpoints(settings, audit) if "syslog" in row["service"]] == []
    off_by_environment = load(None, environ={"DOSSIER_AUDIT__SYSLOG_UDP_LISTEN": "false"})
    assert off_by_environment.audit.syslog_udp_listen == ""
    assert len([row for row in endpoints(off_by_environment, audit) if "syslog" in row["service"]]) == 1


def test_datagrams_off_loopback_are_in_the_clear_whatever_the_certificates(toml, tmp_path):
    pem = tmp_path / "a.pem"
    pem.write_text("x")
    secured = f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\nca = "{pem}"\n'
    text = '[audit]\nsyslog_tls_listen = "0.0.0.0:6514"\nsyslog_udp_listen = "0.0.0.0:514"\n'
    (fault,) = faults(toml(text + secured))
    assert fault.startswith("audit.syslog_udp_listen: is not a loopback address")
    assert fault.endswith("needs audit.syslog_tls.allow_plaintext = true")
    assert load(toml(text + secured + "allow_plaintext = true\n"), environ={}).tls["audit"].enabled


def test_a_service_overrides_single_keys_of_tls(toml, tmp_path):
    pem = tmp_path / "a.pem"
    pem.write_text("x")
    text = f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\nca = "{pem}"\n[audit.tls]\nminimum_version = "1.3"\n'
    settings = load(toml(text), environ={})
    assert settings.tls["audit"].minimum_version == "1.3"
    assert settings.tls["registry"].minimum_version == "1.2"
    assert settings.tls["audit"].certificate == pem
    assert settings.repository.registry_url.startswith("https://")
    assert settings.scheme("registry") == "https"
    assert settings.audit.sinks == ("https://127.0.0.1:8040/records",)


def test_a_fault_of_an_override_is_told_at_its_own_path(toml):
    assert any(
        f.startswith("audit.tls.minimum_version:") for f in faults(toml('[audit.tls]\nminimum_version = "1.0"\n'))
    )


def test_whoever_sends_syslog_over_tls_shows_a_certificate(toml, tmp_path):
    pem = tmp_path / "a.pem"
    pem.write_text("x")
    text = '[audit]\nsinks = ["tls://audit.example.org"]\n'
    own = f'[registry.tls]\ncertificate = "{pem}"\nkey = "{pem}"\nca = "{pem}"\n'
    assert faults(toml(text + own)) == [
        f"audit.sinks: tls:// needs certificate, key and ca in tls or {service}.tls"
        for service in ("repository", "gateway")
    ]
    assert load(toml(text + own.replace("registry.", "")), environ={}).audit.sinks == ("tls://audit.example.org",)


def test_sqlite_takes_two_workers(toml):
    assert faults(toml("[registry]\nworkers = 3\n")) == [
        "registry.workers: at most 2 with SQLite; PostgreSQL takes more"
    ]


def test_the_repository_knows_how_long_its_registry_may_take(toml):
    assert load(toml("[registry]\nmax_registration_s = 7\n"), environ={}).repository.max_registration_s == 7


def test_a_broken_file_is_one_line(toml, tmp_path):
    (found,) = faults(toml("[registry\n"))
    assert "is not TOML" in found
    (found,) = faults(tmp_path / "none.toml")
    assert "cannot be read" in found


def test_the_tree_makes_the_same_settings_again(toml):
    settings = load(toml('[affinity_domain.partners."CN=lab"]\ntransactions = ["ITI-57"]\n'), environ={})
    again = Settings.from_tree(json.loads(json.dumps(settings.tree)))
    assert again == settings


def test_a_room_sees_only_its_own_sections():
    settings = load(environ={})
    assert sorted(room_arguments(settings, "registry")) == ["audit", "domain", "limits", "registry", "tls"]
    assert sorted(set(room_arguments(settings, "registry", "single")) - set(room_arguments(settings, "registry"))) == [
        "feed_tls"
    ]
    assert sorted(room_arguments(settings, "audit")) == ["audit", "domain", "limits", "syslog_tls", "tls"]


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("10.0.0.1:1", False), ("[::]:1", False)],
)
def test_loopback(text, loopback):
    assert Address.parse(text).loopback is loopback
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "8010", "host:", "host:0", "host:65536", "host:x", ":80"])
def test_no_address(text):
    with pytest.raises(ValueError, match="host:port"):
        Address.parse(text)


def test_what_listens_everywhere_is_called_here():
    assert reachable("0.0.0.0:1") == "127.0.0.1:1"
    assert reachable("[::]:1") == "[::1]:1"
    assert reachable("example.org:1") == "example.org:1"


class TestTlsOfAListener:
    """``[registry.feed_tls]`` and ``[audit.syslog_tls]`` over their service's, over ``[tls]``."""

    @pytest.fixture
    def pem(self, tmp_path):
        path = tmp_path / "x.pem"
        path.write_text("pem")
        return path

    def test_overrides_are_applied_in_order(self, toml, pem):
        text = f"""
            [tls]
            certificate = "{pem}"
            key = "{pem}"
            ca = "{pem}"
            [registry.tls]
            peers = "CN=a"
            [registry.feed_tls]
            minimum_version = "1.3"
            [audit.syslog_tls]
            peers = ["CN=b, O=Hospital", "SHA256:{"AB:" * 31}AB"]
        """
        tls = load(toml(text), environ={}).tls
        feed, syslog = tls["registry.feed"], tls["audit.syslog"]
        assert (feed.peers, feed.minimum_version) == (("CN=a",), "1.3")
        assert (tls["registry"].peers, tls["registry"].minimum_version) == (("CN=a",), "1.2")
        assert syslog.peers == ("CN=b,O=Hospital", "sha256:" + "ab" * 32)
        assert tls["audit"].peers == tls["repository"].peers == ()

    def test_the_environment_gives_them_too(self, toml, pem):
        text = f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\nca = "{pem}"\n'
        environ = {"DOSSIER_AUDIT__SYSLOG_TLS__PEERS": '["CN=a,O=b", "CN=c"]', "DOSSIER_TLS__PROXIES": "10.1.2.3/24"}
        # a single value where a list is asked for is no JSON, and stays as it is
        tls = load(toml(text), environ=environ).tls
        assert tls["audit.syslog"].peers == ("CN=a,O=b", "CN=c")
        assert tls["registry.feed"].proxies == ("10.1.2.0/24",)

    def test_a_fault_is_told_where_it_stands(self, toml):
        found = faults(toml('[registry.feed_tls]\nminimum_version = "1.1"\n[audit]\nsyslog_tls = 3\n'))
        assert any(fault.startswith("registry.feed_tls.minimum_version: ") for fault in found)
        assert "audit.syslog_tls: should be a table of settings" in found
        assert len(found) == 2

    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ('peers = ["CN=a"]', "ca is missing: peers"),
            ('proxies = ["10.0.0.1"]', "ca is missing: proxies"),
            ('peers = ["nobody"]', "neither sha256:<fingerprint> nor an RFC 4514 subject"),
            ('proxies = ["sha256:12"]', "64 hexadecimal digits"),
            ('ca = "{pem}"\npeers = ["CN=a"]\nrequire_client_certificate = false', "lets anybody in"),
        ],
    )
    def test_what_makes_no_sense(self, toml, pem, text, fault):
        (found,) = faults(toml("[tls]\n" + text.format(pem=pem)))
        assert fault in found

    @pytest.mark.parametrize("own", ["registry.feed_listen", "audit.syslog_tls_listen", "audit.syslog_udp_listen"])
    def test_in_the_clear_off_loopback_only_where_allowed(self, toml, own):
        section, _, key = own.partition(".")
        text = f'[{section}]\n{key} = "0.0.0.0:7000"\n'
        (found,) = faults(toml(text))
        table = "registry.feed_tls" if section == "registry" else "audit.syslog_tls"
        assert found.startswith(f"{own}: is not a loopback address and would speak in the clear")
        assert table in found
        assert load(toml(f"{text}[{table}]\nallow_plaintext = true\n"), environ={})

    def test_datagrams_are_in_the_clear_with_certificates_too(self, toml, pem):
        tls = f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\nca = "{pem}"\n'
        address = '"0.0.0.0:7000"'
        assert load(toml(f"{tls}[audit]\nsyslog_tls_listen = {address}\n"), environ={})
        (found,) = faults(toml(f"{tls}[audit]\nsyslog_udp_listen = {address}\n"))
        assert found.endswith("needs audit.syslog_tls.allow_plaintext = true")

    def test_one_number_may_be_a_tcp_and_a_udp_port(self, toml):
        same = '[audit]\nsyslog_tls_listen = "127.0.0.1:7000"\nsyslog_udp_listen = "127.0.0.1:7000"\n'
        assert load(toml(same), environ={})


def test_the_key_of_the_audit_log_is_made_but_in_production_named(tmp_path):
    settings = load(None, environ={}, data=tmp_path)
    check_checkpoint_key(settings, starting=False)
    assert not (tmp_path / "audit_checkpoint_key.pem").exists()
    check_checkpoint_key(settings)
    made = (tmp_path / "audit_checkpoint_key.pem").read_bytes()
    check_checkpoint_key(settings)
    assert (tmp_path / "audit_checkpoint_key.pem").read_bytes() == made
    production = {"DOSSIER_AFFINITY_DOMAIN__ENVIRONMENT": "production", "DOSSIER_REPOSITORY__ENCRYPTION": "off"}
    unnamed = load(None, environ=production, data=tmp_path)
    check_checkpoint_key(unnamed, starting=False)
    with pytest.raises(SettingsError, match="signed in production: make a key with dossier audit key --new FILE"):
        check_checkpoint_key(unnamed)
    named = {**production, "DOSSIER_AUDIT__CHECKPOINT_KEY": str(tmp_path / "key.pem")}
    with pytest.raises(SettingsError, match="is not there"):
        check_checkpoint_key(load(None, environ=named, data=tmp_path))
    SigningKey.made(tmp_path / "key.pem").sign("")
    check_checkpoint_key(load(None, environ=named, data=tmp_path))


def test_every_address_of_a_database_is_checked_with_the_other_settings():
    wrong = {
        f"DOSSIER_{name}__DATABASE_URL": "mysql://u:hidden@db/x"
        for name in ("REGISTRY", "REPOSITORY", "GATEWAY", "AUDIT")
    }
    found = faults(environ=wrong | {"DOSSIER_REGISTRY__READ_DATABASE_URL": "", "DOSSIER_REGISTRY__WORKERS": "x"})
    assert {fault.partition(":")[0] for fault in found} == {
        "registry.database_url",
        "registry.read_database_url",
        "registry.workers",
        "repository.database_url",
        "gateway.database_url",
        "audit.database_url",
    }
    assert "hidden" not in str(found)


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "[registry]\nworkers = " + "1" * 5000], ids=["deep", "long"])
def test_toml_that_no_parser_can_hold_is_a_fault_of_the_file(toml, text):
    path = toml(text)
    assert faults(path) == [
        f"{path}: is not TOML that can be read: a number is too long, or lists are nested too deeply"
    ]


def test_a_byte_order_mark_does_not_count(toml):
    assert load(toml("\ufeff[registry]\nworkers = 2\n"), environ={}).registry.workers == 2


def test_lists_and_tables_are_called_as_the_operator_writes_them():
    found = faults(
        environ={
            "DOSSIER_AFFINITY_DOMAIN__ASSIGNING_AUTHORITIES": "1.2.3",
            "DOSSIER_AFFINITY_DOMAIN__PARTNERS": "[" * 100_000,
            "DOSSIER_GATEWAY__REPOSITORIES": "[1]",
        }
    )
    assert found[:2] == [
        'affinity_domain.assigning_authorities: should be a list: ["…", "…"], in the environment too',
        "affinity_domain.partners: should be a table; in the environment a JSON object",
    ]
    assert found[2].startswith("gateway.repositories.0: should be a table")


def test_a_secret_that_cannot_be_read_says_why_and_not_where(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        name = "DOSSIER_REPOSITORY__STORE_SECRET_KEY_FILE"
        assert faults(environ={name: str(path)}) == [f"{name}: the file it names cannot be read: {why}"]
    assert faults(environ={name: str(tmp_path / "binary")})[0].endswith("cannot be read: it is no UTF-8 text")
    assert "\0secret" not in str(faults(environ={name: "a\0secret"}))
