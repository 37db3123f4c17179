from ihe.xua import Caller
from schemas import parse_xml
from wire.own_headers import depositor_header, give_up_header


def test_the_depositor_is_told_as_far_as_it_is_known():
    header = parse_xml(depositor_header(Caller("192.0.2.1", 'CN="a" & b', "sha256:aa", person="p<q>")))
    assert header.tag == "{urn:dossier:2026:soap}Depositor"
    assert dict(header.attrib) == {"node": 'CN="a" & b', "fingerprint": "sha256:aa", "person": "p<q>"}


def test_the_time_from_which_on_nobody_waits_is_told():
    header = parse_xml(give_up_header(1_795_312_345.25))
    assert header.tag == "{urn:dossier:2026:soap}GiveUp"
    assert dict(header.attrib) == {"at": "1795312345.250"}
