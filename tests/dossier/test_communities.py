"""``dossier communities check`` against partners that play a script: what is told of each, and what to mend."""

import json

import pytest

from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_response
from ihe.errors import ErrorCode, FaultCode, RegistryError, SoapFault
from ihe.hl7v2 import Identifier
from ihe.hl7v3_answer import FoundPatient, Reason, ResponseCode, print_patient_answer
from ihe.hl7v3_parts import InstanceIdentifier
from ihe.hl7v3_query import PatientQuery, read_patient_query
from ihe.soap import fault_envelope, read_envelope
from ihe.transactions import ITI_38, ITI_55
from schemas import parse_xml
from tests.gateway.retrieving import documents_answer, http_answer, partners, soap_answer

HOME, OTHER = "urn:oid:1.2.250.1", "urn:oid:1.2.250.2"
PLAIN = "application/soap+xml; charset=UTF-8"
NOBODY = RegistryError(ErrorCode.UNKNOWN_REPOSITORY_ID, "no such repository", location=HOME)


def found(_peer, _asked, status=v.SUCCESS, errors=()):
    return http_answer(PLAIN, soap_answer(adhoc_query_response(status, errors, ()).decode(), ITI_38))


def retrieved(_peer, asked, *, error=NOBODY, mtom=True):
    return documents_answer(asked, [], status=v.FAILURE, errors=(error,), mtom=mtom)


def refusing(code, location=HOME):
    return RegistryError(code, "by the script", location=location)


@pytest.fixture(scope="module")
def partner():
    with partners(HOME) as (one,):
        yield one


@pytest.fixture
def check(partner, run_command, tmp_path):
    """Run the command; status, (answer, result, remedy) by what was looked at, and the errors."""

    def run(*words, more=""):
        config = tmp_path / "dossier.toml"
        row = f'[[gateway.communities]]\nhome_community_id = "{HOME}"\nquery_url = "{partner.address}"\n'
        config.write_text(f"[gateway]\ndeadline_s = 2\n{row}{more}")
        paths = ("--config", str(config), "--data", str(tmp_path))
        status, out, err = run_command("communities", "check", *words, *paths, "--json")
        told = json.loads(out)["communities"][0]["findings"] if out else []
        return status, {one["what"]: (one["holds"], one["result"], one["remedy"]) for one in told}, err

    return run


def test_a_partner_that_is_right(check, partner):
    partner.plays(found, retrieved)
    status, told, err = check()
    assert status == 0, told
    assert err == "dossier: 1 community checked, nothing is wrong\n"
    assert {what: holds for what, (holds, _, _) in told.items()} == {
        f"connection {partner.address.removesuffix('/responding')}": True,
        "certificates": None,
        "ITI-38": True,
        "ITI-39": True,
        "ITI-39 as MTOM": True,
        "ITI-55": None,
    }
    asked = b"".join(partner.asked)
    assert asked.count(HOME.encode()) == 2


def test_every_check_asks_for_something_else(check, partner):
    partner.plays(found, retrieved)
    check()
    first = set(partner.asked)
    partner.plays(found, retrieved)
    check()
    assert first.isdisjoint(partner.asked)


@pytest.mark.parametrize("act", ["query", "retrieve"])
def test_the_partner_has_another_home(check, partner, act):
    error = refusing(ErrorCode.UNKNOWN_COMMUNITY)
    query = (lambda *a: found(*a, status=v.FAILURE, errors=(error,))) if act == "query" else found
    partner.plays(query, lambda *a: retrieved(*a, error=error))
    status, told, err = check()
    assert (status, err) == (1, f"dossier: something is wrong with {HOME}\n")
    what = "ITI-38" if act == "query" else "ITI-39"
    assert told[what] == (
        False,
        f"does not know {HOME} as its own community",
        "home_community_id: ask the partner for its own",
    )


def test_the_partner_answers_as_another(check, partner):
    partner.plays(found, lambda *a: retrieved(*a, error=refusing(ErrorCode.DOCUMENT_UNIQUE_ID, OTHER)))
    status, told, _ = check()
    assert status == 1
    assert told["ITI-39"][:2] == (False, f"answers as {OTHER}, not as {HOME}")


def test_mtom_is_answered_with_plain_soap(check, partner):
    partner.plays(found, lambda *a: retrieved(*a, mtom=False))
    status, told, _ = check()
    assert (status, told["ITI-39"][0], told["ITI-39 as MTOM"][0]) == (1, True, False)


def test_the_partner_refuses_us(check, partner):
    partner.plays(lambda *a: found(*a, status=v.FAILURE, errors=(refusing(ErrorCode.REGISTRY_ERROR),)), retrieved)
    status, told, _ = check()
    assert status == 1
    assert told["ITI-38"][:2] == (False, "XDSRegistryError: by the script")


def test_a_soap_fault_and_a_page_of_html(check, partner):
    fault = SoapFault(FaultCode.SENDER, "no such action")
    body = fault_envelope(fault, message_id="urn:uuid:1")
    partner.plays(
        lambda *_: http_answer(PLAIN, body, status="400 Bad Request"),
        lambda *_: http_answer("text/html", b"<html>\x1b[31mnot found</html>", status="404 Not Found"),
    )
    status, told, _ = check()
    assert status == 1
    assert told["ITI-38"][:2] == (False, "SOAP fault: Sender: no such action")
    assert told["ITI-39"][0] is False
    assert told["ITI-39"][1].startswith("HTTP 404 with an unreadable answer")
    assert told["ITI-39"][1].isprintable()


def test_a_partner_that_says_nothing_is_waited_for_no_longer_than_its_deadline(check, partner):
    partner.plays(lambda peer, _asked: partner.wait(peer))
    status, told, _ = check(more="deadline_s = 0.5\n")
    assert status == 1
    assert (told["ITI-38"][0], told["ITI-39"][0]) == (False, False)
    assert partner.gone.acquire(timeout=20)


def test_nobody_listens_there(check, partner, tmp_path):
    place = "http://127.0.0.1:1"
    status, told, _ = check(more=f'retrieve_url = "{place}/responding"\ntransactions = ["ITI-39"]\n')
    assert status == 1
    assert told[f"connection {place}"][:2] == (False, "connection refused")
    assert told["ITI-39"] == (None, "not tried", None)
    assert told["ITI-38"] == (None, "not exchanged with this community", None)


def discovered(partner, to=None, **said):
    """An act that answers ITI-55 to whoever was asked about, or the query ``to``."""

    def act(_peer, _asked, to=to):
        to = to or read_patient_query(read_envelope(parse_xml(partner.asked[-1])).body)
        body = print_patient_answer(
            to, **{"message_id": "1", "time": "20260101", "code": ResponseCode.NOT_FOUND} | said
        )
        return http_answer(PLAIN, soap_answer(body.decode(), ITI_55))

    return act


FOUND = FoundPatient(
    (Identifier("7", universal_id="1.2.3", universal_id_type="ISO"),), home=HOME.removeprefix("urn:oid:")
)


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ({}, True),
        ({"code": ResponseCode.OK, "patients": [FOUND], "total": 1}, "finds somebody of a name that nobody has"),
        ({"code": ResponseCode.ERROR, "reason": Reason.BUSY}, "ResponderBusy"),
        ({"code": ResponseCode.OK, "reason": Reason.NOT_AVAILABLE}, "AnswerNotAvailable"),
        (
            {"to": PatientQuery("x", query_id=InstanceIdentifier("1.2", "another"))},
            "another question than it was asked",
        ),
    ],
    ids=["nobody", "somebody", "busy", "a reason alone", "another question"],
)
def test_a_person_that_nobody_knows(check, partner, said, result):
    partner.plays(found, retrieved, discovered(partner, **said))
    status, told, _ = check(more=f'discovery_url = "{partner.address}"\n')
    assert told["ITI-55"][0] is (result is True)
    assert status == (0 if result is True else 1)
    assert result is True or result in told["ITI-55"][1]


def test_one_of_several(check, partner):
    partner.plays(found, retrieved)
    other = f'[[gateway.communities]]\nhome_community_id = "{OTHER}"\nquery_url = "http://127.0.0.1:1/"\n'
    assert check(HOME.removeprefix("urn:oid:"), more=other)[0] == 0
    status, told, err = check("1.2.3", more=other)
    assert (status, told, err) == (2, {}, "dossier: the settings name no community urn:oid:1.2.3\n")


def test_a_table_for_people(check, partner, run_command, tmp_path):
    partner.plays(found, retrieved)
    check()
    partner.plays(found, retrieved)
    status, out, _ = run_command("communities", "check", "--config", str(tmp_path / "dossier.toml"))
    assert status == 0
    assert [line.split("\t")[:3] for line in out.splitlines()][2:] == [
        [HOME, "ITI-38", "ok"],
        [HOME, "ITI-39", "ok"],
        [HOME, "ITI-39 as MTOM", "ok"],
        [HOME, "ITI-55", "-"],
    ]


def test_no_community_at_all(run_command, tmp_path):
    (tmp_path / "dossier.toml").write_text("")
    status, _, err = run_command("communities", "check", "--config", str(tmp_path / "dossier.toml"))
    assert status == 2
    assert "[[gateway.communities]]" in err
