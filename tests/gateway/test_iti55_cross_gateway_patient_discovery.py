"""ITI-55 over the wire: a responding gateway in front of a real registry, and in front of none (ITI TF-2: 3.55)."""

import http.client
import socket
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import zeep

from gateway import iti55_cross_gateway_patient_discovery as iti55
from gateway.store.protocol import StoreUnavailable
from ihe.hl7v3_answer import FoundPatient, PatientAnswer, ResponseCode
from ihe.transactions import ITI_55, ITI_55_DEFERRED
from ihe.xua import Caller
from schemas import parse_xml
from tests.gateway.discovering import HERE, OURS, THEIRS, community, discover, ids, send
from tests.gateway.querying import SECURITY, saying
from tests.hl7v3_queries import DEMOGRAPHICS, by_birth, by_id, by_name, by_sex, query
from tests.raw_peer import performing, silent
from tests.repository.stand import envelope
from tests.scenarios.test_patient_query import demographics, identifier, message
from wire.messages import Request

XCPD = "{urn:ihe:iti:xcpd:2009}CorrelationTimeToLive"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A community with one Änne Müller, two Meiers of different sex, two Schmidts of the same, four Webers."""
    with community(tmp_path_factory.mktemp("here"), time_to_live_s=3600) as it:
        it.registry.know("P1")
        it.registry.know("M1", family="Meier")
        it.registry.know("M2", family="Meier", sex="M")
        it.registry.know("S1", "S2", family="Schmidt")
        it.registry.know("R1", family="Rossi", birth="19850505")
        it.registry.know("W1", "W2", "W3", "W4", family="Weber")
        yield it


@pytest.fixture
def here(served):
    served.records()
    return served


# ------------------------------------------------------------------------------------------ who is found

CASES = {
    "by name, birth and sex": (DEMOGRAPHICS, ["P1"]),
    "by name and birth": (by_birth() + by_name("MULLER", "anne"), ["P1"]),
    "by our identifier": (by_id("P1", root=OURS), ["P1"]),
    "by our identifier, whatever the name": (by_birth() + by_id("P1", root=OURS) + by_name("Miller"), ["P1"]),
    "by an identifier of the asker, and by name": (by_birth() + by_id("X7", root=THEIRS) + by_name(), ["P1"]),
    "by both identifiers": (by_id("X7", root=THEIRS) + by_id("P1", root=OURS), ["P1"]),
    "by an identifier of the asker alone": (by_id("X7", root=THEIRS), []),
    "by our identifier, but born another day": (by_birth("19710101") + by_id("P1", root=OURS), []),
    "by our identifier, but of another sex": (by_sex("M") + by_id("P1", root=OURS), []),
    "by our identifier, but with birth and name of another": (
        by_birth("19850505") + by_id("P1", root=OURS) + by_name("Rossi"),
        [],
    ),
    "by our identifier, but with sex and name of another": (
        by_sex("M") + by_birth() + by_id("P1", root=OURS) + by_name("Meier"),
        [],
    ),
    "by our identifier and what fits it": (by_sex() + by_birth("1970") + by_id("P1", root=OURS), ["P1"]),
    "another sex in a small letter": (by_sex("m") + by_birth() + by_name(), []),
    "the sex in a small letter": (by_sex("f") + by_birth() + by_name(), ["P1"]),
    "one of two, by a small letter": (by_sex("m") + by_birth() + by_name("Meier"), ["M2"]),
    "a sex that is not known": (by_sex("UNK") + by_birth() + by_name(), ["P1"]),
    "nobody": (by_birth() + by_name("Nobody"), []),
    "one of two, by sex": (by_sex("M") + by_birth() + by_name("Meier"), ["M2"]),
    "two of one sex": (by_birth() + by_name("Schmidt"), []),
    "too many, with a sex": (by_sex() + by_birth() + by_name("Weber"), []),
}


@pytest.mark.parametrize("case", CASES)
def test_who_is_found(here, case):
    parameters, wanted = CASES[case]
    answer, _ = discover(here.responding, parameters)
    assert (answer.acknowledgement, answer.code, ids(answer)) == ("AA", "OK" if wanted else "NF", wanted)
    assert answer.wanted == ()
    for found in answer.patients:
        assert (found.home, found.match) == (HERE.removeprefix("urn:oid:"), 100)
        assert found.identifiers[0].universal_id == OURS


@pytest.mark.parametrize("sex", ["", by_sex("UNK"), by_sex("u")], ids=["none", "UNK", "u"])
@pytest.mark.parametrize("family", ["Meier", "Weber"])
def test_a_sex_that_would_part_several_is_asked_for(here, family, sex):
    answer, got = discover(here.responding, sex + by_birth() + by_name(family))
    assert (answer.acknowledgement, answer.code, answer.patients) == ("AA", "OK", ())
    assert answer.wanted == ("LivingSubjectAdministrativeGenderRequested",)
    assert got.find(".//{*}actOrderRequired/{*}code").get("codeSystem") == "1.3.6.1.4.1.19376.1.2.27.1"


def test_several_are_told_where_the_settings_allow_it(tmp_path):
    with community(tmp_path, max_discovered=2) as it:
        it.registry.know("S1", "S2")
        answer, got = discover(it.responding)
        assert ids(answer) == ["S1", "S2"]
        assert {found.home for found in answer.patients} == {HERE.removeprefix("urn:oid:")}
        assert got.find(f"{{*}}Header/{XCPD}") is None
        told = [("ITI-47", 0, "asked", None, [one]) for one in ids(answer)]
        answered = [("ITI-55", 0, "answered", HERE, [one]) for one in ids(answer)]
        assert sorted(it.records()) == sorted(told + answered)


def test_more_than_the_registry_tells_are_too_many_whatever_the_gateway_would_tell(tmp_path):
    """The registry behind it tells three."""
    with community(tmp_path, max_discovered=10) as it:
        it.registry.know("S1", "S2", "S3", "S4", "S5")
        answer, _ = discover(it.responding)
        assert (answer.acknowledgement, answer.code, answer.patients, answer.wanted) == ("AA", "NF", (), ())
        answer, _ = discover(it.responding, by_birth() + by_name())
        assert (answer.acknowledgement, answer.code, answer.patients) == ("AA", "OK", ())
        assert answer.wanted == ("LivingSubjectAdministrativeGenderRequested",)
        asked = [one for one in it.records() if one[0] == "ITI-47"]
        assert asked == [("ITI-47", 8, "asked", None, [])] * 2


def test_how_long_it_holds_is_said_with_a_patient_alone(here):
    _, got = discover(here.responding)
    assert got.findtext(f"{{*}}Header/{XCPD}") == "PT3600S"
    _, got = discover(here.responding, by_birth() + by_name("Nobody"))
    assert got.find(f"{{*}}Header/{XCPD}") is None


def test_a_plain_zeep_client_finds_and_does_not_find(here):
    client = zeep.Client(f"{here.responding}?wsdl")
    for parameters, code in (
        (demographics("Müller", "Änne"), "OK"),
        (identifier("P1", OURS), "OK"),
        (demographics("Nobody"), "NF"),
    ):
        answer = client.service.RespondingGateway_PRPA_IN201305UV02(**message(parameters, home="1.2.40"))
        assert answer.acknowledgement[0].typeCode.code == "AA"
        assert answer.controlActProcess.queryAck.queryResponseCode.code == code
        for subject in answer.controlActProcess.subject:
            event = subject.registrationEvent
            assert event.custodian.assignedEntity.id[0].root == HERE.removeprefix("urn:oid:")
            assert event.subject1.patient.id[0].extension == "P1"
            assert event.subject1.patient.subjectOf1.queryMatchObservation.value.value == 100


# ------------------------------------------------------------------------------------------ what is refused

REFUSED = {
    "too little": ({"parameters": by_name()}, ["101"]),
    "nothing": ({"parameters": ""}, ["101", "101"]),
    "no query": ({"queries": 0}, ["101"]),
    "two queries": ({"queries": 2}, ["102"]),
    "no query id": ({"query_id": '<queryId nullFlavor="NI"/>'}, ["101"]),
    "another interaction": ({"interaction": "PRPA_IN201309UV02"}, ["201"]),
    "too long an id": ({"message_id": f'<id root="{"1" * 999}"/>'}, ["102"]),
    "too many ids": ({"parameters": by_id(*map(str, range(60)))}, ["102"]),
    "no such sex": ({"parameters": by_sex("1") + by_birth() + by_name()}, ["102"]),
    "no time": ({"parameters": by_birth("1970-01-01") + by_name()}, ["102"]),
    "no time, with an identifier": ({"parameters": by_birth("1990-05-05") + by_id("P1", root=OURS)}, ["102"]),
    "one time of two": ({"parameters": by_birth("19700101", "01.01.1970") + by_name()}, ["102"]),
    "neither": ({"parameters": by_sex("W") + by_birth("x") + by_id("P1", root=OURS)}, ["102", "102"]),
    "too long": ({"parameters": DEMOGRAPHICS.replace("Müller", "x" * 300_000)}, ["102"]),
    "deferred": ({"priority": "D"}, ["NS250"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_refused_and_on_record(here, case):
    more, codes = REFUSED[case]
    body = query(**more)
    answer, _ = send(here.responding, body, strict=False)
    assert (answer.acknowledgement, answer.code, answer.reasons) == ("AE", "AE", ("AnswerNotAvailable",))
    assert [detail.code for detail in answer.details] == codes
    told = [one for one in here.records() if one[0] == "ITI-55"]
    assert told == [("ITI-55", 8, "answered", HERE, [])]


def test_where_it_cannot_be_read_is_told(here):
    answer, _ = send(here.responding, query(by_sex("W") + by_birth("1.1.1970") + by_name()), strict=False)
    place = "/PRPA_IN201305UV02/controlActProcess/queryByParameter/parameterList/"
    wanted = [f"{place}livingSubjectBirthTime", f"{place}livingSubjectAdministrativeGender"]
    assert [detail.location for detail in answer.details] == wanted
    assert [one[0] for one in here.records()] == ["ITI-55"]  # the registry was not asked


def test_a_deferred_query_is_refused_by_an_acknowledgement(here):
    answer, got = send(here.responding, query(priority="D"), ITI_55_DEFERRED)
    body = got.find("{*}Body")[0]
    assert body.tag == "{urn:hl7-org:v3}MCCI_IN000002UV01"
    assert answer.acknowledgement == "AE"
    (detail,) = answer.details
    assert (detail.code, detail.display) == ("NS250", "Unsupported processing mode")
    assert body.find("{*}acknowledgement/{*}targetMessage/{*}id").get("extension") == "Q1"
    assert here.records() == [("ITI-55", 8, "answered", HERE, [])]


RAW = {
    "another root": (envelope(ITI_55.request_action, query(name="PRPA_IN201309UV02")), "ITI-55 asks for"),
    "an entity": (b"<!DOCTYPE x>" + envelope(ITI_55.request_action, query()), "document type"),
    "half a message": (envelope(ITI_55.request_action, query())[:-40], "cannot be read"),
    "another action": (envelope("urn:hl7-org:v3:PRPA_IN201305UV02", query()), "ActionNotSupported"),
}


@pytest.mark.parametrize("case", RAW)
def test_what_is_no_message_of_ours_is_a_fault(here, case):
    data, word = RAW[case]
    place = urlsplit(here.responding)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    try:
        connection.request("POST", place.path, data, {"Content-Type": "application/soap+xml; charset=UTF-8"})
        answer = connection.getresponse()
        assert answer.status == 400
        assert word in "".join(parse_xml(answer.read()).itertext())
    finally:
        connection.close()


def test_who_may_not_ask_is_told_and_on_record(here):
    listed = {"communities": [{"home_community_id": "1.2.3", "subjects": ["CN=there"], "transactions": ["ITI-38"]}]}
    room = here.room
    settings = room.settings.model_validate(room.settings.model_dump() | listed)
    caller = Caller("10.0.0.1", "CN=there")
    asked = Request(ITI_55, parse_xml(query()), caller, here.responding, None, None, "r-1")
    (body,) = iti55.answer(replace(room, settings=settings), asked).body
    assert b"AnswerNotAvailable" in body
    assert b"listed-partners-only" in body
    assert here.records() == [("ITI-55", 8, "answered", HERE, [])]


def test_a_full_outbox_is_busy(tmp_path):
    with community(tmp_path, audit_rows=1) as it:
        it.joined.store.record_alone([b"<a/>"])
        answer, _ = discover(it.responding)
        assert (answer.code, answer.reasons) == ("AE", ("ResponderBusy",))


def test_without_its_database_nothing_is_told(here, monkeypatch):
    def gone(_messages):
        raise StoreUnavailable("gone")

    monkeypatch.setattr(here.joined.store, "record_alone", gone)
    answer, _ = discover(here.responding)
    assert (answer.code, answer.patients, answer.reasons) == ("AE", (), ("ResponderBusy",))


def test_a_defect_of_ours_is_answered_with_its_number(here, monkeypatch):
    def defective(*_arguments, **_more):
        raise RuntimeError("boom")

    monkeypatch.setattr(iti55, "judge", defective)
    answer, got = discover(here.responding)
    assert (answer.code, answer.reasons) == ("AE", ("InternalError",))
    assert "boom" not in "".join(got.itertext())
    assert ("ITI-55", 8, "answered", HERE, []) in here.records()


# ------------------------------------------------------------------------------------------ what is on record


def test_both_sides_are_on_record(here):
    before = len(here.registry.audited())
    discover(here.responding)
    assert sorted(here.records()) == [
        ("ITI-47", 0, "asked", None, ["P1"]),
        ("ITI-55", 0, "answered", HERE, ["P1"]),
    ]
    assert len(here.registry.audited()) == before + 1
    discover(here.responding, by_birth() + by_id("X7", root=THEIRS) + by_name("Nobody"))
    assert sorted(here.records()) == [
        ("ITI-47", 0, "asked", None, []),
        ("ITI-47", 0, "asked", None, []),
        ("ITI-55", 0, "answered", HERE, []),
    ]


def test_the_asker_s_security_header_reaches_the_registry(tmp_path):
    seen = []
    with (
        performing(saying(NOBODY, seen=seen)) as peer,
        community(tmp_path, registry_url=peer.url) as it,
    ):
        answer, _ = discover(it.responding, security=SECURITY)
        assert answer.code == "NF"
    (header,) = seen[0].findall("{*}Header/{*}Security")
    assert header[0].text == " b "


# ------------------------------------------------------------------------------------------ scripted registries

NOBODY = (
    b'<PRPA_IN201306UV02 xmlns="urn:hl7-org:v3"><acknowledgement><typeCode code="AA"/></acknowledgement>'
    b'<controlActProcess><queryAck><queryResponseCode code="NF"/></queryAck></controlActProcess></PRPA_IN201306UV02>'
)
REFUSES = NOBODY.replace(b'"AA"', b'"AE"').replace(b'"NF"', b'"AE"')


def gone():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.mark.parametrize("what", ["gone", "silent", "nonsense", "refusing"])
def test_a_registry_that_does_not_answer(tmp_path, what):
    plays = {"silent": silent, "nonsense": saying(b"<x/>"), "refusing": saying(REFUSES)}
    with performing(plays.get(what, silent)) as peer:
        url = gone() if what == "gone" else peer.url
        with community(tmp_path, registry_url=url, deadline_s=1) as it:
            answer, _ = discover(it.responding)
            assert (answer.code, answer.reasons) == ("AE", ("AnswerNotAvailable",))
            assert [detail.code for detail in answer.details] == ["207"]
            outcome = 8 if what == "refusing" else 12
            assert sorted(it.records()) == [("ITI-47", outcome, "asked", None, []), ("ITI-55", 8, "answered", HERE, [])]


def test_a_registry_whose_patients_have_no_identifier_knows_nobody():
    found = PatientAnswer("AA", "OK", patients=(FoundPatient(()),))
    assert iti55.judge(found, 1, sexless=True).code is ResponseCode.NOT_FOUND
