"""wire.certificate_expiry: when the first of a file ends, and who is told how early."""

import datetime as dt

import pytest

from wire.certificate_expiry import expiries, soon
from wire.settings import TlsSettings


@pytest.fixture
def joined(tmp_path):
    def write(name, *files):
        path = tmp_path / name
        path.write_bytes(b"".join(one.read_bytes() for one in files))
        return path

    return write


def test_the_first_of_several_counts(pki, joined):
    short, long = pki.issue("short", days=3), pki.issue("long", days=300)
    found = expiries(TlsSettings(ca=joined("ca.pem", long.certificate, short.certificate)))
    assert found == {"ca": short.x509.not_valid_after_utc}


def test_a_newer_list_stands_for_an_older_of_its_authority(pki, joined):
    lists = joined("lists.crl", pki.revoke(days=-2), pki.revoke(days=20), pki.revoke(days=1))
    found = expiries(TlsSettings(ca=pki.ca.certificate, revocation_list=lists))["revocation_list"]
    assert dt.timedelta(days=19) < found - dt.datetime.now(dt.UTC) <= dt.timedelta(days=20)
    other = pki.authority("Elsewhere")
    lists = joined("more.crl", pki.revoke(days=20), pki.revoke(by=other, days=3))
    found = expiries(TlsSettings(ca=pki.ca.certificate, revocation_list=lists))["revocation_list"]
    assert found - dt.datetime.now(dt.UTC) <= dt.timedelta(days=3)


def test_what_cannot_be_read_is_left_to_openssl(joined, tmp_path):
    (tmp_path / "x").write_text("nothing")
    assert expiries(TlsSettings(ca=joined("ca.pem", tmp_path / "x"))) == {}


@pytest.mark.parametrize(("left", "told"), [(31, None), (29, "expires"), (-1, "expired")])
def test_a_month_before_a_certificate_ends(pki, left, told):
    identity = pki.issue("x", days=100)
    tls = TlsSettings(certificate=identity.certificate, key=identity.key, require_client_certificate=False)
    lines = list(soon(tls, identity.x509.not_valid_after_utc - dt.timedelta(days=left)))
    assert [line.split(".crt ")[1].split()[0] for line in lines] == ([told] if told else [])


def test_a_day_before_a_list_ends(pki):
    tls = TlsSettings(ca=pki.issue("x", days=100).certificate, revocation_list=pki.revoke(days=2))
    assert list(soon(tls)) == []
    (line,) = soon(tls, dt.datetime.now(dt.UTC) + dt.timedelta(days=1, hours=12))
    assert line.startswith("revocation_list ")
