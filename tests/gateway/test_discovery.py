"""ITI-55 asked of other communities: two real ones, and partners that play a script (ITI TF-2: 3.55)."""

import logging
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from atna.store.engine import begin_write, reading
from gateway.discovery import Unknown, judge
from gateway.settings import Community, GatewaySettings
from gateway.store.protocol import StoreUnavailable
from gateway.store.tables import correlation
from ihe.hl7v2 import Demographics, Identifier
from ihe.hl7v3_answer import FoundPatient, PatientAnswer, Reason, ResponseCode, print_patient_answer
from ihe.hl7v3_parts import Detail, InstanceIdentifier
from ihe.hl7v3_query import PatientQuery, read_patient_query
from ihe.named import query_named
from ihe.vocabulary import SOAP12
from registry.store.merges import merge
from schemas import parse_xml
from tests.gateway.discovering import HERE, OURS, THEIRS, THERE, community, row
from tests.gateway.querying import PLAIN, SECURITY, ask, find, http, message_for, ref, response, saying
from tests.raw_peer import dripping_headers, performing, request_of, silent

P1 = "P1"
OTHER_HOME = "1.3.6.1.4.1.21367.2011.2.7.99"
TTL = (
    f'<x:CorrelationTimeToLive xmlns:x="urn:ihe:iti:xcpd:2009" xmlns:s="{SOAP12}" s:mustUnderstand="1">{{}}'
    "</x:CorrelationTimeToLive>"
)
NOBODY = {"code": ResponseCode.NOT_FOUND}


def patient(extension="Q7", home=THERE, root=THEIRS, **told):
    bare = None if home is None else home.removeprefix("urn:oid:")
    return FoundPatient((Identifier(extension, None, root, "ISO"),), Demographics(**told), home=bare, match=90)


def answering(told, *, time_to_live=None, seen=None, before=None, to=PatientQuery("x")):  # noqa: B008 - frozen
    """A play of a responding gateway that gives this answer to each query, which it says was ``to``; ``told`` may depend on it."""

    def play(connection, _ended):
        request = request_of(connection)
        if before is not None:
            before()
        body = print_patient_answer(
            to, message_id="1.2", time="20261122", **(told(request) if callable(told) else told)
        )
        message = message_for(request, body)
        if time_to_live is not None:
            message = message.replace(b"</s:Header>", TTL.format(time_to_live).encode() + b"</s:Header>")
        if seen is not None:
            seen.append(request)
        connection.sendall(http("200 OK", PLAIN, message))

    return play


@pytest.fixture
def asking(tmp_path):
    """Opens a community that knows Änne Müller as P1, with one neighbour that plays a script."""
    with ExitStack() as opened:

        def open_one(play, *, settings=None, **neighbour):
            peer = opened.enter_context(performing(play))
            it = opened.enter_context(community(tmp_path, communities=[row(peer.url, **neighbour)], **(settings or {})))
            it.registry.know(P1)
            return it

        yield open_one


def cx(extension="Q7", root=THEIRS):
    return f"{extension}^^^&{root}&ISO"


def why(it, **how):
    with pytest.raises(Unknown) as caught:
        it.at(P1, **how)
    assert "Müller" not in caught.value.reason
    assert "P1" not in caught.value.reason
    return caught.value.reason


# ------------------------------------------------------------------------------------------ what is asked


def test_name_birth_and_sex_are_told_and_our_identifier_is_not(asking):
    seen = []
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, seen=seen))
    assert it.at(P1) == (cx(),)
    (query,) = map(query_of, seen)
    asked = query.parameters
    assert [(name.family, name.given) for name in asked.names] == [("Müller", "Änne")]
    assert (asked.births, asked.sexes, asked.identifiers) == (("19700101",), ("F",), ())
    assert query.home == HERE.removeprefix("urn:oid:")
    assert query.priority == "I"
    assert b"authorOrPerformer" not in seen[0]
    assert b"urn:hl7-org:v3:PRPA_IN201305UV02:CrossGatewayPatientDiscovery" in seen[0]
    assert it.records() == [("ITI-47", 0, "asked", None, [P1]), ("ITI-55", 0, "asked", THERE, [])]


def query_of(request):
    return read_patient_query(parse_xml(request.partition(b"\r\n\r\n")[2]).find("{*}Body")[0])


def test_our_identifier_is_told_where_the_settings_allow_it(asking):
    seen = []
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, seen=seen), send_patient_id=True)
    assert it.at(P1) == (cx(),)
    asked = query_of(seen[0]).parameters
    assert asked.identifiers == ((Identifier(P1, None, OURS, "ISO"),),)
    assert asked.names
    assert (
        f'<authorOrPerformer typeCode="AUT"><assignedDevice classCode="ASSIGNED"><id root="{OURS}"/>'.encode()
        in seen[0]
    )


def test_whom_our_own_registry_does_not_know_nobody_is_asked_about(asking):
    seen = []
    it = asking(answering(NOBODY, seen=seen))
    assert it.at("P0") == ()
    assert seen == []
    assert it.records() == [("ITI-47", 0, "asked", None, [])]


def test_a_patient_without_name_or_birth_is_not_asked_about_unless_by_identifier(asking, tmp_path):
    seen = []
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, seen=seen))
    it.registry.know("P2", birth="1970")
    with pytest.raises(Unknown, match="name and birth of the patient are not known here"):
        it.at("P2")
    assert seen == []
    with performing(answering({"code": ResponseCode.OK, "patients": [patient()]}, seen=seen)) as peer:
        with community(tmp_path / "other", communities=[row(peer.url, send_patient_id=True)]) as other:
            other.registry.know("P2", birth="1970", family=None)
            assert other.at("P2") == (cx(),)
    assert query_of(seen[0]).parameters.births == ("1970",)


def test_the_asker_s_security_header_goes_along(asking):
    seen = []
    it = asking(answering(NOBODY, seen=seen))
    it.at(P1, security=SECURITY.encode())
    assert SECURITY.split(">")[0].encode() in seen[0]


# ------------------------------------------------------------------------------------------ what is answered


def test_nobody_there(asking):
    it = asking(answering(NOBODY))
    assert it.at(P1) == ()
    assert [one[:2] for one in it.records()] == [("ITI-47", 0), ("ITI-55", 0)]


def test_several_are_refused_unless_all_are_wanted(asking, tmp_path):
    two = {"code": ResponseCode.OK, "patients": [patient("A"), patient("B"), patient("A")]}
    assert "knows 2 patients" in why(asking(answering(two)))
    with performing(answering(two)) as peer:
        with community(tmp_path / "all", communities=[row(peer.url)], several="all") as it:
            it.registry.know(P1)
            assert it.at(P1) == (cx("A"), cx("B"))


def test_more_than_anybody_wants_are_refused(asking):
    many = {"code": ResponseCode.OK, "patients": [patient(str(number)) for number in range(21)]}
    assert "knows 21 patients" in why(asking(answering(many), settings={"several": "all"}))


FAILED = {
    "more wanted": ({"code": ResponseCode.OK, "wanted": ["PatientAddressRequested", "<b>"]}, "PatientAddressRequested"),
    "busy": ({"code": ResponseCode.ERROR, "reason": Reason.BUSY}, "ResponderBusy"),
    "by detail": ({"code": ResponseCode.ERROR, "details": [Detail("PrivacyViolation", "x")]}, "PrivacyViolation"),
    "no reason": ({"code": ResponseCode.ERROR}, "no reason"),
    "AE alone": ({"code": ResponseCode.OK, "patients": [patient()], "acknowledgement": "AE"}, "no reason"),
}


@pytest.mark.parametrize("case", FAILED)
def test_what_says_neither_who_nor_nobody(asking, case):
    told, word = FAILED[case]
    it = asking(answering(told))
    reason = why(it)
    assert word in reason
    assert "<" not in reason
    outcome = 0 if case == "more wanted" else 8
    assert [one[:2] for one in it.records()] == [("ITI-47", 0), ("ITI-55", outcome)]


def test_what_is_not_believed_is_dropped_with_a_line_in_the_log_for_each_reason(asking, caplog):
    foreign = patient(home=f"urn:oid:{OTHER_HOME}")
    told = [foreign] * 60 + [patient("B")] + [FoundPatient(())] * 39
    it = asking(answering({"code": ResponseCode.OK, "patients": told}))
    with caplog.at_level(logging.WARNING):
        assert it.at(P1) == (cx("B"),)
    assert [line.partition("with ")[2] for line in caplog.messages if "dropped" in line] == [
        "patients of another community: 60 dropped",
        "patients without an identifier: 39 dropped",
    ]
    assert "Q7" not in caplog.text


@pytest.mark.parametrize("one", [FoundPatient(()), patient()], ids=["empty", "alike"])
def test_a_flood_of_patients_is_not_read_and_a_failure_of_the_community(asking, caplog, one):
    seen = []
    flood = {"code": ResponseCode.OK, "patients": [one] * 1000}
    it = asking(answering(flood, seen=seen), settings={"breaker_failures": 1})
    with caplog.at_level(logging.INFO, "gateway"):
        assert why(it) == "it told of more than 100 patients (ITI-55)"
    assert len([record for record in caplog.records if record.name.startswith("gateway")]) <= 2
    assert [one[:2] for one in it.records()] == [("ITI-47", 0), ("ITI-55", 12)]
    assert "failed 1 times" in why(it)
    assert len(seen) == 1


def test_a_patient_without_a_custodian_is_of_whom_was_asked(asking):
    assert asking(answering({"code": ResponseCode.OK, "patients": [patient(home=None)]})).at(P1) == (cx(),)


USELESS = {
    "no OID": patient(root="HOSPITAL"),
    "a UUID": patient(root="0b5ef8a4-6a19-4f4e-8a51-3c8d4b1e2f00"),
    "of another community": patient(home=f"urn:oid:{OTHER_HOME}"),
    "no identifier": FoundPatient(()),
    "blank": patient("  "),
    "too long": patient("7" * 257),
}


@pytest.mark.parametrize("case", USELESS)
def test_a_patient_who_cannot_be_asked_about_is_no_nobody_and_not_remembered(asking, case):
    seen = []
    found = {"code": ResponseCode.OK, "patients": [USELESS[case]]}
    it = asking(answering(found, time_to_live="PT1H", seen=seen), settings={"remember_s": 60})
    for _ in range(2):
        assert why(it) == "it found a patient, but with no identifier that it could be asked with (ITI-55)"
    assert len(seen) == 2


@pytest.mark.parametrize("code", [ResponseCode.OK, ResponseCode.NOT_FOUND])
def test_a_reason_for_telling_nobody_is_no_nobody_and_not_remembered(asking, code):
    seen = []
    it = asking(answering({"code": code, "reason": "InsufficientRights"}, seen=seen))
    for _ in range(2):
        assert why(it) == "it could not say who the patient is there (ITI-55): InsufficientRights"
    assert len(seen) == 2


ANOTHER = InstanceIdentifier("1.2.3", "another")


@pytest.mark.parametrize("to", [{"message_id": ANOTHER}, {"query_id": ANOTHER}], ids=["message", "query"])
@pytest.mark.parametrize("told", [{"code": ResponseCode.OK, "patients": [patient()]}, NOBODY], ids=["one", "nobody"])
def test_the_answer_to_another_question_is_a_failure_of_the_community(asking, to, told):
    it = asking(answering(told, to=PatientQuery("x", **to)), settings={"breaker_failures": 1})
    assert why(it) == "it answered another question than it was asked (ITI-55)"
    assert [one[:2] for one in it.records()] == [("ITI-47", 0), ("ITI-55", 12)]
    assert "failed 1 times" in why(it)


OTHERS = {
    "another day": {"birth": "19700102"},
    "another year, and no more": {"birth": "1971"},
    "another sex": {"birth": "19700101", "sex": "M"},
    "a sex of neither": {"sex": "O"},
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("several", ["refuse", "all"])
def test_a_patient_of_another_birth_or_sex_is_somebody_else(asking, case, several):
    found = {"code": ResponseCode.OK, "patients": [patient("A"), patient("B", **OTHERS[case])][several == "refuse" :]}
    it = asking(answering(found, time_to_live="PT1H"), settings={"several": several})
    for _ in range(2):  # nor is it remembered
        assert why(it) == "it found a patient of another birth or sex (ITI-55)"


@pytest.mark.parametrize(
    "told",
    [{"birth": "1970"}, {"birth": "197001011230+0100", "sex": "F"}, {"family": "Meier", "given": "Anna"}],
    ids=["the year alone", "the minute", "another name"],
)
def test_a_patient_whom_nothing_contradicts_is_believed(asking, told):
    assert asking(answering({"code": ResponseCode.OK, "patients": [patient(**told)]})).at(P1) == (cx(),)


@pytest.mark.parametrize(
    ("known", "told", "fits"),
    [
        ({"birth": "1970-01-01"}, {"birth": "19800101"}, True),
        ({"birth": "1970"}, {"birth": "19700101"}, True),
        ({"birth": "1970"}, {"birth": "19710101"}, False),
        ({"birth": "19700101"}, {"birth": "1"}, False),
        ({"birth": "19700101"}, {"birth": "01.01.1970"}, False),
        ({}, {"birth": "19700101", "sex": "M"}, True),
        ({"sex": "F"}, {"sex": "U"}, True),
        ({"sex": "U"}, {"sex": "F"}, True),
        ({"sex": "f"}, {"sex": "F"}, True),
        ({"sex": "F"}, {"sex": "nonsense"}, False),
    ],
)
def test_what_contradicts(known, told, fits):
    answer = PatientAnswer("AA", "OK", patients=(patient(**told),))
    there = Community(home_community_id=THERE)
    with nullcontext() if fits else pytest.raises(Unknown, match="another birth or sex"):
        assert judge(answer, (), Demographics(**known), there, GatewaySettings()).ids == (cx(),)


def test_nobody_and_a_patient_is_no_answer(asking):
    it = asking(answering({**NOBODY, "patients": [patient()]}))
    assert "found nobody (NF)" in why(it)


FAULT = (
    f'<f:Fault xmlns:f="{SOAP12}"><f:Code><f:Value>f:Receiver</f:Value></f:Code>'
    '<f:Reason><f:Text xml:lang="en">out of order</f:Text></f:Reason></f:Fault>'
)
PLAYS = {
    "silent": silent,
    "dripping": dripping_headers,
    "nonsense": saying(b"<x/>"),
    "no SOAP": lambda connection, _: connection.sendall(http("200 OK", "text/html", b"<html/>")),
    "a fault": saying(FAULT.encode(), status="500 Internal Server Error"),
    "a known root, nothing in it": saying(b'<PRPA_IN201306UV02 xmlns="urn:hl7-org:v3"/>'),
    "hangs up": lambda connection, _: connection.recv(10),
}


@pytest.mark.parametrize("play", PLAYS)
def test_a_community_that_gives_no_answer(asking, play, caplog):
    it = asking(PLAYS[play], settings={"deadline_s": 5})
    assert "ITI-55" in why(it, seconds=1)
    lines = [one for one in caplog.messages if "ITI-55" in one and "out of order" not in one]
    assert len(lines) == (play != "a known root, nothing in it")
    assert all(THERE in line for line in lines)
    (own, asked) = it.records()
    assert own[:2] == ("ITI-47", 0)
    assert (asked[0], asked[3]) == ("ITI-55", THERE)
    assert asked[1] == (8 if play == "a known root, nothing in it" else 12)


def test_a_community_that_fails_is_left_alone_for_a_while(asking):
    seen = []

    def hangs_up(connection, _ended):
        seen.append(connection.recv(10))

    it = asking(hangs_up, settings={"breaker_failures": 2})
    for _ in range(2):
        why(it)
    assert "failed 2 times" in why(it)
    assert len(seen) == 2


def test_a_community_is_not_blamed_for_time_that_ran_out_here(asking):
    seen = []
    it = asking(answering(NOBODY, seen=seen), settings={"breaker_failures": 1})
    assert "no time was left" in why(it, seconds=-1)
    assert seen == []
    assert it.at(P1) == ()


def test_a_community_is_not_blamed_for_time_that_our_own_registry_took(asking, tmp_path):
    """Half a second of ten is left for it, and it needs one."""
    slow = {"code": ResponseCode.OK, "patients": [patient()]}
    it = asking(answering(slow, before=lambda: time.sleep(1)), settings={"breaker_failures": 1, "deadline_s": 10})
    assert "who the patient is there (ITI-55)" in why(it, seconds=0.5)
    assert it.at(P1) == (cx(),)


def test_a_community_that_is_late_with_all_of_its_time_fails(asking):
    it = asking(silent, settings={"breaker_failures": 1, "deadline_s": 2})
    why(it, seconds=2)
    assert "failed 1 times" in why(it)


@pytest.mark.parametrize("registry", ["silent", "refusing"])
def test_our_own_registry_without_an_answer(tmp_path, registry):
    refusal = print_patient_answer(PatientQuery("x"), message_id="1", time="2026", code=ResponseCode.ERROR)
    with performing(silent if registry == "silent" else saying(refusal)) as own:
        listed = [row("http://127.0.0.1:9/")]
        with community(tmp_path, registry_url=own.url, communities=listed, deadline_s=1) as it:
            assert "registry of this community" in why(it)
            assert [one[:2] for one in it.records()] == [("ITI-47", 12 if registry == "silent" else 8)]


def test_our_database_without_an_answer(asking, monkeypatch):
    it = asking(answering(NOBODY))

    def broken(*_arguments):
        raise StoreUnavailable("gone")

    monkeypatch.setattr(it.joined.store, "remembered", broken)
    assert "database does not answer" in why(it)


# ------------------------------------------------------------------------------------------ what is remembered


@pytest.mark.parametrize(
    ("time_to_live", "settings", "times"),
    [
        ("PT1H", {}, 1),
        ("PT0S", {}, 2),
        (None, {}, 2),
        ("nonsense", {}, 2),
        (None, {"remember_s": 60}, 1),
        ("PT1H", {"max_remember_s": 0}, 2),
    ],
)
def test_an_answer_is_remembered_as_long_as_it_says_within_our_bounds(asking, time_to_live, settings, times):
    seen = []
    found = {"code": ResponseCode.OK, "patients": [patient()]}
    it = asking(answering(found, time_to_live=time_to_live, seen=seen), settings=settings)
    assert it.at(P1) == it.at(P1) == (cx(),)
    assert len(seen) == times


@pytest.mark.parametrize(("settings", "times"), [({}, 1), ({"remember_nobody_s": 0}, 2)])
def test_that_nobody_was_found_is_remembered_for_a_while(asking, settings, times):
    seen = []
    it = asking(answering(NOBODY, seen=seen), settings=settings)
    assert it.at(P1) == it.at(P1) == ()
    assert len(seen) == times


def test_an_answer_that_expired_is_asked_for_again(asking, monkeypatch):
    seen = []
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, time_to_live="PT1H", seen=seen))
    it.at(P1)
    later = time.time_ns() + 3601 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    it.at(P1)
    assert len(seen) == 2


CORRECTED = {
    "another family name": ({"family": "Meier"}, 2),
    "another given name": ({"given": "Anna"}, 2),
    "another birth": ({"birth": "19700102"}, 2),
    "another sex": ({"sex": "M"}, 2),
    "the same again": ({}, 1),
}


@pytest.mark.parametrize("case", CORRECTED)
def test_a_patient_corrected_here_is_asked_for_anew(asking, case):
    told, times = CORRECTED[case]
    seen = []
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, time_to_live="PT1H", seen=seen))
    assert it.at(P1) == (cx(),)
    it.registry.know(P1, **told)
    assert it.at(P1) == it.at(P1) == (cx(),)
    assert len(seen) == times
    assert [one[0] for one in it.records()].count("ITI-47") == 3
    it.registry.know(P1)
    assert it.at(P1) == (cx(),)  # what was told first still holds
    assert len(seen) == times


def test_of_a_patient_merged_here_nobody_is_asked(asking):
    seen = []
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, time_to_live="PT1H", seen=seen))
    it.registry.know("P2")
    assert it.at(P1) == (cx(),)
    with begin_write(it.registry.engine) as connection:
        merge(connection, (P1, OURS), ("P2", OURS), "20260102000000")
    assert it.at(P1) == ()
    assert len(seen) == 1
    assert it.at("P2") == (cx(),)
    assert len(seen) == 2


def test_what_is_remembered_names_nobody(asking):
    it = asking(answering({"code": ResponseCode.OK, "patients": [patient()]}, time_to_live="PT1H"))
    it.at(P1)
    with reading(it.joined.store._engine) as connection:
        ((home, key, found, _expires),) = connection.execute(select(correlation)).all()
    assert (home, found) == (THERE, cx())
    assert re.fullmatch(rf"P1\^\^\^&{re.escape(OURS)}&ISO [0-9a-f]{{16}}", key)


REMEMBERED = {
    "several, which are refused now": ([patient("A"), patient("B")], {"several": "all"}, {}),
    "longer than is allowed now": ([patient()], {}, {"max_remember_s": 60}),
    "nobody, for longer than now": ([], {"remember_nobody_s": 600}, {"remember_nobody_s": 60}),
}


@pytest.mark.parametrize("case", REMEMBERED)
def test_what_is_remembered_holds_within_the_settings_of_today(tmp_path, case):
    patients, before, now = REMEMBERED[case]
    seen = []
    told = {"code": ResponseCode.OK if patients else ResponseCode.NOT_FOUND, "patients": patients}
    with performing(answering(told, time_to_live="PT1H", seen=seen)) as peer:
        for times, settings in ((1, before), (1, before), (2, now)):
            with community(tmp_path, communities=[row(peer.url)], **settings) as it:
                it.registry.know(P1)
                if len(patients) > 1 and not settings:
                    assert "knows 2 patients" in why(it)
                else:
                    assert len(it.at(P1)) == len(patients)
            assert len(seen) == times


def test_a_failure_is_not_remembered(asking):
    seen = []
    it = asking(answering({"code": ResponseCode.ERROR, "reason": Reason.BUSY}, seen=seen))
    for _ in range(2):
        why(it)
    assert len(seen) == 2


def test_many_who_ask_at_once_ask_once(asking):
    """The first question is held open until all the others wait for its answer."""
    waiting, seen = threading.Semaphore(0), []
    it = asking(
        answering(
            {"code": ResponseCode.OK, "patients": [patient()]}, seen=seen, before=lambda: waiting.acquire(timeout=60)
        )
    )
    asked = it.room.patients._discovery._asked
    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(it.at, P1) for _ in range(6)]
        until = time.monotonic() + 60
        while not any(len(one.told._condition._waiters) == 5 for one in list(asked._asked.values())):
            assert time.monotonic() < until
            time.sleep(0.01)
        waiting.release()
        assert [one.result() for one in found] == [(cx(),)] * 6
    assert len(seen) == 1


def header(who):
    return SECURITY.replace(" b ", who).encode()


def test_who_asks_at_the_same_moment_with_another_header_asks_for_itself(asking):
    """The student's refusal comes only once the doctor's question is there."""
    doctor_asked = threading.Event()

    def told(request):
        if b"doctor" in request:
            doctor_asked.set()
            return {"code": ResponseCode.OK, "patients": [patient()]}
        assert doctor_asked.wait(10)
        return {"code": ResponseCode.ERROR, "reason": "InsufficientRights"}

    seen = []
    it = asking(answering(told, seen=seen))
    with ThreadPoolExecutor(2) as pool:
        student = pool.submit(it.at, P1, security=header("student"))
        until = time.monotonic() + 60
        while not it.room.patients._discovery._asked._asked:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert it.at(P1, security=header("doctor")) == (cx(),)
        with pytest.raises(Unknown, match="InsufficientRights"):
            student.result()
    assert len(seen) == 2


def test_that_nobody_was_found_is_remembered_for_who_was_told(asking):
    seen = []

    def told(request):
        return {"code": ResponseCode.OK, "patients": [patient()]} if b"doctor" in request else NOBODY

    it = asking(answering(told, time_to_live="PT1H", seen=seen))
    assert it.at(P1) == it.at(P1) == ()
    assert it.at(P1, security=header("student")) == it.at(P1, security=header("student")) == ()
    assert len(seen) == 2
    # Who somebody is there is the same for all; whether its documents are shown is asked with the header of each.
    assert it.at(P1, security=header("doctor")) == it.at(P1, security=header("student")) == it.at(P1) == (cx(),)
    assert len(seen) == 3


def test_who_asks_later_does_not_fail_with_the_time_of_who_asked_before(asking):
    """The first question is never answered."""
    ended, questions = threading.Event(), iter(range(9))

    def told(_request):
        if next(questions) == 0:
            ended.wait(60)
        return {"code": ResponseCode.OK, "patients": [patient()]}

    it = asking(answering(told))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(it.at, P1, seconds=2)
        until = time.monotonic() + 60
        while not it.room.patients._discovery._asked._asked:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert it.at(P1) == (cx(),)
        ended.set()
        with pytest.raises(Unknown):
            first.result()


# ------------------------------------------------------------------------------------------ what a consumer sees


@pytest.mark.parametrize(
    ("told", "status", "asked_with"),
    [
        ({"code": ResponseCode.OK, "patients": [patient()]}, "Success", [cx()]),
        (NOBODY, "Success", []),
        ({"code": ResponseCode.ERROR, "reason": Reason.BUSY}, "PartialSuccess", []),
    ],
    ids=["found", "nobody", "no answer"],
)
def test_a_consumer_s_query_is_asked_with_the_identifiers_there(asking, told, status, asked_with):
    seen = []
    with performing(saying(response(ref(f"urn:uuid:{uuid.uuid4()}", THERE)), seen=seen)) as partner:
        it = asking(answering(told), query_url=partner.url)
        found = ask(it.initiating, find(f"{P1}^^^&{OURS}&ISO"))
    assert found.status == status
    assert found.homes == [THERE] * len(asked_with)
    assert [query_named(one.find("{*}Body")[0]).patient_ids for one in seen] == [(one,) for one in asked_with]
    assert found.errors == ([] if status == "Success" else [("XDSUnavailableCommunity", THERE)])
    assert not any(P1 in context for context in found.contexts)


# ------------------------------------------------------------------------------------------ two real communities


def test_two_communities_find_each_other_s_patient(tmp_path):
    with community(tmp_path / "there", THERE, time_to_live_s=600) as there:
        there.registry.know("Q7", authority=THEIRS, family="MULLER")
        with community(tmp_path / "here", communities=[row(there.responding)]) as here:
            here.registry.know(P1)
            here.registry.know("P2", family="Nobody")
            with capture_logs() as lines:
                assert here.at(P1) == here.at(P1) == (cx(),)
                assert here.at("P2") == ()
            assert here.records() == [
                ("ITI-47", 0, "asked", None, [P1]),
                ("ITI-55", 0, "asked", THERE, []),
                ("ITI-47", 0, "asked", None, [P1]),  # the second time, whatever is remembered
                ("ITI-47", 0, "asked", None, ["P2"]),
                ("ITI-55", 0, "asked", THERE, []),
            ]
        told = there.records()
        assert [one for one in told if one[0] == "ITI-55"] == [
            ("ITI-55", 0, "answered", THERE, ["Q7"]),
            ("ITI-55", 0, "answered", THERE, []),
        ]
        assert "ller" not in str(lines)
