import pytest

from gateway.callers import community_of, may_ask
from gateway.settings import GatewaySettings
from ihe.xua import Caller

METZ = {
    "home_community_id": "1.2.250.1",
    "subjects": ["CN=gateway,O=Metz", "sha256:" + "ab" * 32],
    "transactions": ["ITI-38", "ITI-92"],
}
STRANGER = Caller("10.0.0.9", "CN=stranger", "sha256:" + "00" * 32)
BY_SUBJECT = Caller("10.0.0.1", "CN=gateway,O=Metz", "sha256:" + "11" * 32)
BY_FINGERPRINT = Caller("10.0.0.1", "CN=renamed", "sha256:" + "ab" * 32)
LOOPBACK = Caller("127.0.0.1")


def settings(**more):
    return GatewaySettings(communities=[METZ], **more)


@pytest.mark.parametrize("caller", [BY_SUBJECT, BY_FINGERPRINT], ids=["subject", "fingerprint"])
def test_a_community_sends_what_is_exchanged_with_it_and_no_more(caller):
    assert community_of(caller, settings().communities).home_community_id == "urn:oid:1.2.250.1"
    allowed = {code: may_ask(settings(), caller, code, ()).permit for code in ("ITI-38", "ITI-39", "ITI-55", "ITI-92")}
    assert allowed == {"ITI-38": True, "ITI-39": False, "ITI-55": False, "ITI-92": True}


@pytest.mark.parametrize(
    ("caller", "callers", "granted", "allowed"),
    [
        (STRANGER, "trusted", (), ["ITI-38", "ITI-39", "ITI-55"]),
        (STRANGER, "trusted", ("ITI-92",), ["ITI-38", "ITI-39", "ITI-55", "ITI-92"]),
        (STRANGER, "listed", (), []),
        (STRANGER, "listed", ("ITI-39",), ["ITI-39"]),
        (LOOPBACK, "listed", (), ["ITI-38", "ITI-39", "ITI-55", "ITI-92"]),
    ],
)
def test_a_caller_of_no_community(caller, callers, granted, allowed):
    found = [
        code
        for code in ("ITI-38", "ITI-39", "ITI-55", "ITI-92")
        if may_ask(settings(callers=callers), caller, code, granted).permit
    ]
    assert (community_of(caller, settings().communities), found) == (None, allowed)
