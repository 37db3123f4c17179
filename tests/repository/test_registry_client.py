"""What the repository tells and asks the registry."""

from ihe.xua import Caller
from repository.registry_client import depositor_header, give_up_header
from schemas import parse_xml
from tests.builders import submission
from tests.repository.stand import Act, stand


def test_the_depositor_is_told_as_far_as_it_is_known():
    header = parse_xml(depositor_header(Caller("192.0.2.1", 'CN="a" & b', "sha256:aa", person="p<q>")))
    assert header.tag == "{urn:dossier:2026:soap}Depositor"
    assert dict(header.attrib) == {"node": 'CN="a" & b', "fingerprint": "sha256:aa", "person": "p<q>"}


def test_the_time_from_which_on_nobody_waits_is_told():
    header = parse_xml(give_up_header(1_795_312_345.25))
    assert header.tag == "{urn:dossier:2026:soap}GiveUp"
    assert dict(header.attrib) == {"at": "1795312345.250"}


def test_a_quote_in_a_set_id_does_not_end_the_parameter(tmp_path):
    with stand(tmp_path) as house:
        house.registry.script.append(Act(answer=None))
        house.provide(submission(unique_id="1.2'3"))
        asked = [m for m in house.messages() if m.event.type_codes[0].code == "ITI-18"]
    assert b"'1.2''3'" in asked[0].objects[-1].query


def test_an_answer_without_a_known_status_is_no_answer(tmp_path):
    with stand(tmp_path) as house:
        body = b'<r:RegistryResponse xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" status="urn:x"/>'
        house.registry.script.append(Act(answer=body))
        assert house.provide(submission()).status == "Success"
        assert [row[0] for row in house.records()] == ["ITI-18", "ITI-41", "ITI-42"]
