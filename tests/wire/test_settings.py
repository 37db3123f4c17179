"""wire.settings: every section says precisely what is wrong with it."""

import pytest
from pydantic import TypeAdapter, ValidationError

from consent.policy import RESTRICTED
from wire.settings import AffinityDomainSettings, HttpUrl, LimitSettings, PartnerSettings, TlsSettings

PRINT = "ab" * 32


def faults(model, **values):
    with pytest.raises(ValidationError) as caught:
        model(**values)
    return [fault["msg"].removeprefix("Value error, ") for fault in caught.value.errors()]


class TestTls:
    def test_nothing_means_plain_http(self):
        assert not TlsSettings().enabled

    def test_whole(self, pki):
        tls = TlsSettings(certificate=pki.server.certificate, key=pki.server.key, ca=pki.ca.certificate)
        assert tls.enabled
        assert tls.require_client_certificate
        assert tls.minimum_version == "1.2"

    def test_halves(self, pki):
        assert faults(TlsSettings, certificate=pki.server.certificate) == [
            "key is missing: certificate is of use only together with it"
        ]
        assert faults(TlsSettings, key=pki.server.key) == [
            "certificate is missing: key is of use only together with it"
        ]

    def test_clients_cannot_be_checked_without_ca(self, pki):
        [fault] = faults(TlsSettings, certificate=pki.server.certificate, key=pki.server.key)
        assert fault.startswith("ca is missing")

    def test_revocation_without_ca(self, pki):
        [fault] = faults(TlsSettings, revocation_list=pki.server.certificate)
        assert fault.startswith("ca is missing")

    def test_missing_files_are_named(self, tmp_path):
        named = faults(TlsSettings, certificate=tmp_path / "a.crt", key=tmp_path / "a.key", ca=tmp_path)
        assert named == [f"there is no file {tmp_path / name}" for name in ("a.crt", "a.key")] + [
            f"there is no file {tmp_path}"
        ]

    def test_unknown_keys(self):
        assert faults(TlsSettings, cretificate="x") == ["Extra inputs are not permitted"]


class TestLimits:
    def test_defaults_are_bounds(self):
        for name, value in LimitSettings():
            assert value > 0, name

    @pytest.mark.parametrize(
        ("name", "value"),
        [("header_timeout_s", 0), ("max_parts", 0), ("max_header_bytes", 10), ("drain_s", -1), ("keep_alive_s", "inf")],
    )
    def test_senseless(self, name, value):
        assert len(faults(LimitSettings, **{name: value})) == 1

    def test_frozen(self):
        with pytest.raises(ValidationError):
            LimitSettings().threads = 1


class TestAffinityDomain:
    def test_defaults(self):
        domain = AffinityDomainSettings()
        assert domain.home_community_id == "urn:oid:1.3.6.1.4.1.21367.2011.2.7.9999"
        assert domain.assigning_authorities == ()

    @pytest.mark.parametrize("text", ["1.2.3", "urn:oid:1.2.3", " 1.2.3 "])
    def test_home_is_brought_to_one_spelling(self, text):
        assert AffinityDomainSettings(home_community_id=text).home_community_id == "urn:oid:1.2.3"

    @pytest.mark.parametrize("text", ["", "1", "1.02", "3.1", "1..2", "a.b", "1." * 40 + "1"])
    def test_no_oid(self, text):
        [fault] = faults(AffinityDomainSettings, assigning_authorities=[text])
        assert "is no OID" in fault

    def test_partners_by_subject_and_fingerprint(self):
        domain = AffinityDomainSettings(
            strictness="reject",
            partners={
                "CN=lab, O=Hospital A": {"strictness": "warn"},
                f"SHA256:{':'.join(['AB'] * 32)}": {"transactions": ["ITI-57", "ITI-62"]},
            },
        )
        assert domain.partner("CN=lab,O=Hospital A", None) == PartnerSettings(strictness="warn")
        exact = domain.partner("CN=lab,O=Hospital A", f"sha256:{PRINT}")
        assert exact.transactions == {"ITI-57", "ITI-62"}
        assert domain.partner(None, None) is None
        assert domain.strictness_for("CN=lab,O=Hospital A", None) == "warn"
        assert domain.strictness_for(None, f"sha256:{PRINT}") == "reject"
        assert domain.strictness_for("CN=other", None) == "reject"

    @pytest.mark.parametrize("key", ["lab", "sha256:12", "=x"])
    def test_partner_key(self, key):
        [fault] = faults(AffinityDomainSettings, partners={key: {}})
        assert repr(key) in fault

    def test_partner_transactions(self):
        [fault] = faults(PartnerSettings, transactions=["ITI-57", "57", "ITI-999"])
        assert fault.startswith("no transaction spoken here is called 57, ITI-999: take ITI-8, ITI-18, ITI-20, ITI-38,")
        assert PartnerSettings(transactions=RESTRICTED).transactions >= RESTRICTED


@pytest.mark.parametrize(
    ("values", "authorities", "strict"),
    [
        ({}, set(), False),
        ({"matricule_authority": "urn:oid:1.3.182.4.4"}, {"1.3.182.4.4"}, False),
        ({"matricule_authority": ["1.2", "1.3"], "environment": "production"}, {"1.2", "1.3"}, True),
        ({"matricule_authority": ["1.2"], "environment": "production", "matricule": "warn"}, {"1.2"}, False),
        ({"matricule_authority": ["1.2"], "matricule": "strict"}, {"1.2"}, True),
        ({"matricule_authority": ["1.2"], "environment": "production", "matricule": "off"}, set(), True),
        ({"environment": "production"}, set(), True),
    ],
)
def test_matricules_are_checked_as_configured(values, authorities, strict):
    policy = AffinityDomainSettings(**values).matricules
    assert (policy.authorities, policy.strict) == (authorities, strict)


def test_a_way_to_treat_matricules_needs_their_authority():
    assert "matricule_authority is missing" in faults(AffinityDomainSettings, matricule="strict")[0]
    assert "is no OID" in faults(AffinityDomainSettings, matricule_authority="1.02")[0]
    assert AffinityDomainSettings(matricule="off").matricules.authorities == frozenset()


@pytest.mark.parametrize(
    "text",
    ["http://[::1", "http://127.0.0.1:99999/q", "http://127.0.0.1:abc/q", "http://:80/", "ftp://a/", "http://a:0/"],
)
def test_an_address_that_cannot_be(text):
    with pytest.raises(ValidationError, match="should be an address like"):
        TypeAdapter(HttpUrl).validate_python(text)


@pytest.mark.parametrize("text", ["http://[::1]:8010/registry", "https://a.example", "http://127.0.0.1:65535/q?x=1"])
def test_an_address(text):
    assert TypeAdapter(HttpUrl).validate_python(text) == text
