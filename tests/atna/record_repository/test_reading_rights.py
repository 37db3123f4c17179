"""Who may read the log: everybody on plaintext loopback, listed partners elsewhere."""

import pytest

from atna.record_repository.reading_rights import may_read, reading_decision
from ihe.xua import Caller
from wire.settings import AffinityDomainSettings, PartnerSettings

FINGERPRINT = "sha256:" + "ab" * 32
DOMAIN = AffinityDomainSettings(
    partners={
        "CN=officer": PartnerSettings(transactions=["ITI-81"]),
        FINGERPRINT: PartnerSettings(transactions=["ITI-81"]),
        "CN=lab": PartnerSettings(transactions=["ITI-57"]),
    }
)


@pytest.mark.parametrize(
    ("caller", "may"),
    [
        (Caller("127.0.0.1"), True),
        (Caller("::1"), True),
        (Caller("10.0.0.1"), False),
        (Caller("10.0.0.1", "CN=officer", "sha256:" + "00" * 32), True),
        (Caller("10.0.0.1", "CN=renamed", FINGERPRINT), True),
        (Caller("10.0.0.1", "CN=lab", "sha256:" + "00" * 32), False),
        (Caller("127.0.0.1", "CN=stranger", "sha256:" + "00" * 32), False),
    ],
)
def test_listed_partners_and_plaintext_loopback(caller, may):
    assert may_read(caller, DOMAIN) is may
    assert reading_decision(caller, DOMAIN).rule == ("permit-listed-partner" if may else "listed-partners-only")
