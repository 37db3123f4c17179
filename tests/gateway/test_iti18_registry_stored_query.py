"""ITI-18 at an initiating gateway: its own registry, a whole community behind its gateway, and partners that misbehave."""

import socket
import threading
from contextlib import ExitStack

import pytest

from gateway.patients import Unknown
from ihe import vocabulary as v
from tests.builders import HOME, PATIENT, new_uuid, submission
from tests.gateway.querying import (
    PLAIN,
    SECURITY,
    ask,
    error,
    find,
    gateway,
    http,
    message_for,
    ref,
    registry,
    response,
    saying,
)
from tests.raw_peer import drip, dripping_headers, performing, request_of, silent
from tests.registry.rooms import FIND_DOCUMENTS, GET_DOCUMENTS
from tests.wire.soap_peer import eventually

METZ, TRIER, LIEGE = "urn:oid:1.2.250.1", "urn:oid:1.2.276.1", "urn:oid:1.2.56.1"
MIB = 2**20
BUDGET_S = 1.5
OWN = [("ExtrinsicObject", HOME)]
FROM_METZ = [("ExtrinsicObject", METZ)] * 2


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Ours (1 entry), Metz (2 entries, a whole community), Trier (scripted), in this order."""
    folder = tmp_path_factory.mktemp("house")
    with ExitStack() as stack:
        mine, our_registry = stack.enter_context(registry(folder / "ours"))
        theirs, metz_registry = stack.enter_context(registry(folder / "metz"))
        mine.accept(submission())
        theirs.accept(submission(entries=2))
        metz = stack.enter_context(gateway(folder / "metz", METZ, metz_registry))
        trier = stack.enter_context(performing(silent))
        communities = [
            {"home_community_id": METZ, "query_url": metz.responding},
            {"home_community_id": TRIER, "query_url": trier.url, "deadline_s": BUDGET_S},
            {"home_community_id": LIEGE, "query_url": "http://127.0.0.1:1/", "transactions": ["ITI-55"]},
        ]
        ours = stack.enter_context(
            gateway(
                folder / "ours", HOME, our_registry, communities,
                deadline_s=10, max_answer_bytes=MIB, breaker_failures=1000,
            )
        )  # fmt: skip
        ours.metz, ours.trier, ours.registries = (
            metz,
            trier,
            {HOME: (mine, our_registry), METZ: (theirs, metz_registry)},
        )
        yield ours


@pytest.fixture
def here(house):
    house.trier.play = saying(response())
    house.records()
    house.metz.records()
    return house


# -------------------------------------------------------------------------------------------- where it goes


def test_a_query_by_patient_goes_to_everybody_and_comes_back_in_order(here):
    here.trier.play = saying(response(ref("urn:uuid:1", TRIER)))
    found = ask(here.initiating, find())
    assert (found.status, found.errors) == ("Success", [])
    assert found.objects == [*OWN, *FROM_METZ, ("ObjectRef", TRIER)]
    refs = ask(here.initiating, find(return_type="ObjectRef"))
    assert refs.objects == [("ObjectRef", home) for home in (HOME, METZ, METZ, TRIER)]


@pytest.mark.parametrize(("home", "objects"), [(HOME, OWN), (METZ, FROM_METZ), ("1.2.250.1", FROM_METZ)])
def test_a_query_with_a_home_goes_there_alone(here, home, objects):
    found = ask(here.initiating, find(home=home))
    assert (found.status, found.objects) == ("Success", objects)
    (entry,) = {*found.ids} - {*found.ids[1:]}
    again = ask(here.initiating, find(None, home, query_id=GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{entry}')"))
    assert (again.status, again.ids, again.homes) == ("Success", [entry], [objects[0][1]])


@pytest.mark.parametrize(
    ("home", "patient", "code"),
    [
        (None, None, "XDSMissingHomeCommunityId"),
        ("", None, "XDSMissingHomeCommunityId"),
        ("urn:oid:9.9.9", None, "XDSUnknownCommunity"),
        ("nonsense", PATIENT, "XDSUnknownCommunity"),
        (LIEGE, PATIENT, "XDSUnknownCommunity"),
    ],
)
def test_where_it_belongs_is_judged_before_anybody_is_asked(here, home, patient, code):
    query_id = GET_DOCUMENTS if patient is None else FIND_DOCUMENTS
    found = ask(here.initiating, find(patient, home, query_id=query_id))
    assert (found.status, found.errors) == ("Failure", [(code, HOME)])
    assert [told[:3] for told in here.told()] == [("ITI-18", 8, "answered")]


@pytest.mark.parametrize(
    ("patient", "code"),
    [
        ("('a^^^&1.2.3&ISO','b^^^&1.2.3&ISO')", "XDSStoredQueryParamNumber"),
        ("'nobody in particular'", "XDSRegistryError"),
        ("", "XDSStoredQueryMissingParam"),
    ],
)
def test_a_query_by_patient_names_one_patient(here, patient, code):
    found = ask(here.initiating, find(None, XDSDocumentEntryPatientId=patient))
    assert (found.status, found.errors) == ("Failure", [(code, HOME)])
    assert "nobody" not in found.contexts[0]


def test_the_question_and_the_security_header_go_on_as_they_came(here):
    seen = []
    here.trier.play = saying(response(), seen=seen)
    body = find(return_type="ObjectRef", Unknown="'<&>'")
    assert ask(here.initiating, body, security=SECURITY).status == "Success"
    (arrived,) = seen[0].find(f"{{{v.SOAP12}}}Body")
    assert seen[0].findtext(f".//{{{v.WSA}}}Action") == "urn:ihe:iti:2007:CrossGatewayQuery"
    (header,) = seen[0].iter(f"{{{v.WSSE}}}Security")
    assert (header[0].text, header.get(f"{{{v.SOAP12}}}mustUnderstand")) == (" b ", "1")
    values = {slot.get("name"): "".join(slot.itertext()) for slot in arrived.iter(f"{{{v.RIM}}}Slot")}
    assert values["$XDSDocumentEntryPatientId"] == f"'{PATIENT}'"
    assert values["$Unknown"] == "'<&>'"
    assert arrived.find(f"{{{v.QUERY}}}ResponseOption").get("returnType") == "ObjectRef"


# ------------------------------------------------------------------------------------- partners that misbehave

FAULT = f'<s:Fault xmlns:s="{v.SOAP12}"><s:Code><s:Value>s:%s</s:Value></s:Code><s:Reason><s:Text xml:lang="en">%s</s:Text></s:Reason></s:Fault>'
GOOD = response(ref("urn:uuid:1", TRIER))


def dripping_body(connection, ended):
    request = request_of(connection)
    connection.sendall(http("200 OK", PLAIN, b"", length=10**6))
    drip(connection, ended, message_for(request, GOOD) + b" " * 10_000)


def mtom(connection, _ended):
    root = message_for(request_of(connection), GOOD)
    package = b"--b\r\nContent-ID: <r>\r\nContent-Type: application/xop+xml\r\n\r\n" + root + b"\r\n--b--\r\n"
    connection.sendall(http("200 OK", 'multipart/related; boundary=b; start="<r>"', package))


def flooding(connection, _ended):
    request_of(connection)
    connection.sendall(http("200 OK", PLAIN, b"", length=100 * MIB))
    for _ in range(100):
        connection.sendall(b"<x>" + b"nonsense" * (MIB // 8))


def hanging_up(connection, _ended):
    request_of(connection)


def half(connection, _ended):
    message = message_for(request_of(connection), GOOD)
    connection.sendall(http("200 OK", PLAIN, message[: len(message) // 2], length=len(message)))


def text(body, content_type=PLAIN, status="200 OK"):
    def play(connection, _ended):
        request_of(connection)
        connection.sendall(http(status, content_type, body))

    return play


UNUSABLE = {
    "silent": silent,
    "dripping headers": dripping_headers,
    "dripping body": dripping_body,
    "hanging up": hanging_up,
    "half an answer": half,
    "100 MB of nonsense": flooding,
    "MTOM": mtom,
    "fault of the receiver": saying((FAULT % ("Receiver", "no")).encode(), status="500 Error"),
    "fault of the sender": saying((FAULT % ("Sender", "no")).encode(), status="400 Error"),
    "wrong RelatesTo": saying(GOOD, relates_to="urn:uuid:another"),
    "wrong root": saying(f'<e:RegistryResponse xmlns:e="{v.RS}" status="{v.SUCCESS}"/>'.encode()),
    "unknown status": saying(response(status="urn:fine")),
    "HTTP 500 with an answer": saying(GOOD, status="500 Error"),
    "redirect": text(b"", status="302 Found"),
    "web page": text(b"<html><p>Welcome", "text/html"),
    "document type": text(b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>'),
    "deep": text(b"<a>" * 5000 + b"</a>" * 5000),
    "not as the schema asks": saying(response("<o:Nonsense/>")),
    "object without id": saying(response(f'<o:ExtrinsicObject home="{TRIER}"><o:Slot/></o:ExtrinsicObject>')),
    "a failure without an error": saying(response(status=v.FAILURE)),
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_a_partner_that_is_of_no_use_is_one_error_and_costs_nobody_elses_results(here, how):
    here.trier.play = UNUSABLE[how]
    found = ask(here.initiating, find())
    assert found.status == "PartialSuccess"
    assert found.objects == [*OWN, *FROM_METZ]
    assert found.errors == [("XDSUnavailableCommunity", TRIER)]
    assert TRIER in found.contexts[0]
    told = [(code, outcome, side, home) for code, outcome, side, _, home, _ in here.told()]
    assert told == [
        ("ITI-18", 0, "answered", None),
        ("ITI-18", 0, "asked", HOME),
        ("ITI-18", 8, "answered", None),
        ("ITI-38", 0, "asked", METZ),
        ("ITI-38", 12, "asked", TRIER),
    ]


@pytest.mark.parametrize(
    "told", ["", error("XDSExtraMetadataNotSaved", severity=v.SEVERITY_WARNING)], ids=["", "warning"]
)
def test_part_of_an_answer_without_an_error_is_kept_with_one_and_is_no_failure(here, told):
    here.trier.play = saying(response(ref("urn:uuid:1", TRIER), told, v.PARTIAL_SUCCESS))
    for _ in range(6):  # one more than would open the breaker
        found = ask(here.initiating, find(home=TRIER))
        assert (found.status, found.ids) == ("PartialSuccess", ["urn:uuid:1"])
        assert found.errors[-1] == ("XDSRegistryError", TRIER)
        assert "did not say why" in found.contexts[-1]
        assert len(found.errors) == (2 if told else 1)


def test_a_partner_alone_that_is_of_no_use_is_a_failure(here):
    here.trier.play = hanging_up
    found = ask(here.initiating, find(home=TRIER))
    assert (found.status, found.objects) == ("Failure", [])
    assert found.errors == [("XDSUnavailableCommunity", TRIER)]


def test_one_that_is_down_and_an_own_registry_that_is(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with gateway(tmp_path, HOME, nobody, [{"home_community_id": METZ, "query_url": nobody}]) as here:
        found = ask(here.initiating, find())
        assert found.status == "Failure"
        assert found.errors == [("XDSRegistryNotAvailable", HOME), ("XDSUnavailableCommunity", METZ)]
        told = [(code, outcome, side) for code, outcome, side, *_ in here.told()]
        assert told == [("ITI-18", 12, "asked"), ("ITI-18", 8, "answered"), ("ITI-38", 12, "asked")]


def test_one_that_failed_too_often_is_not_asked_again_for_a_while(tmp_path, behind_nobody):
    asked = []

    def count(connection, ended):
        asked.append(1)
        hanging_up(connection, ended)

    with performing(count) as metz:
        community = {"home_community_id": METZ, "query_url": metz.url}
        with gateway(tmp_path, HOME, behind_nobody, [community], breaker_failures=2, breaker_pause_s=0.5) as here:
            answers = [ask(here.initiating, find(home=METZ)) for _ in range(4)]
            assert [one.errors for one in answers] == [[("XDSUnavailableCommunity", METZ)]] * 4
            assert [len(asked), "not asked" in answers[-1].contexts[0]] == [2, True]
            # What was not sent is not on record.
            told = [code for code, _, side, *_ in here.told() if side == "asked"]
            assert told == ["ITI-38"] * 2
            metz.play = saying(response(ref("urn:uuid:1", METZ)))
            assert eventually(lambda: ask(here.initiating, find(home=METZ)).status == "Success")
            assert ask(here.initiating, find(home=METZ)).homes == [METZ]


@pytest.fixture
def behind_nobody():
    """The address of a registry that is never asked."""
    return "http://127.0.0.1:1/"


def test_all_are_asked_at_once(tmp_path, behind_nobody):
    """Five who answer only when all five were asked."""
    everybody = threading.Barrier(5)

    def together(home):
        answering = saying(response(ref("urn:uuid:1", home)))

        def play(connection, ended):
            everybody.wait(20)
            answering(connection, ended)

        return play

    homes = [f"urn:oid:1.2.3.{number}" for number in range(5)]
    with ExitStack() as stack:
        urls = [stack.enter_context(performing(together(home))).url for home in homes]
        communities = [{"home_community_id": home, "query_url": url} for home, url in zip(homes, urls, strict=True)]
        here = stack.enter_context(gateway(tmp_path, HOME, behind_nobody, communities, deadline_s=20))
        assert ask(here.initiating, find()).homes == homes


# --------------------------------------------------------------------------------- what a partner may claim


@pytest.mark.parametrize(
    ("objects", "kept", "code"),
    [
        (ref("urn:uuid:1", METZ), 0, "XDSRegistryError"),
        (ref("urn:uuid:1", HOME) + ref("urn:uuid:2", TRIER), 1, "XDSRegistryError"),
        (ref("urn:uuid:1", None), 0, "XDSMissingHomeCommunityId"),
        (ref("urn:uuid:1", "") + ref("urn:uuid:2", TRIER), 1, "XDSMissingHomeCommunityId"),
        (ref("urn:uuid:1", "urn:oid:9.9"), 0, "XDSRegistryError"),
    ],
)
def test_what_claims_another_home_or_none_is_left_out_and_named(here, objects, kept, code):
    here.trier.play = saying(response(objects))
    found = ask(here.initiating, find())
    assert (found.status, found.errors) == ("PartialSuccess", [(code, TRIER)])
    assert found.homes == [HOME, METZ, METZ, *[TRIER] * kept]
    assert "ObjectRef urn:uuid:1" in found.contexts[0]
    assert TRIER in found.contexts[0]


@pytest.mark.parametrize("home", [TRIER, TRIER.removeprefix("urn:oid:"), TRIER.upper(), f" {TRIER} "])
@pytest.mark.parametrize("patient", [PATIENT, None])
def test_a_community_is_asked_by_its_home_as_it_is_written_on_the_wire(here, home, patient):
    """With a patient, or with an id alone."""
    seen = []
    here.trier.play = saying(response(), seen=seen)
    named = {} if patient else {"query_id": GET_DOCUMENTS, "XDSDocumentEntryEntryUUID": "('urn:uuid:1')"}
    assert ask(here.initiating, find(patient, home, **named)).status == "Success"
    assert [one.find("{*}Body")[0].find("{*}AdhocQuery").get("home") for one in seen] == [TRIER]


@pytest.mark.parametrize("home", [TRIER.removeprefix("urn:oid:"), TRIER.upper(), f" {TRIER} "])
def test_a_home_is_handed_on_as_it_is_written_on_the_wire(here, home):
    here.trier.play = saying(response(ref("urn:uuid:1", home)))
    assert ask(here.initiating, find(home=TRIER)).homes == [TRIER]


def test_much_that_is_left_out_is_one_error(here):
    here.trier.play = saying(response("".join(ref(f"urn:uuid:{n}", METZ) for n in range(500)) + ref("a", None) * 7))
    found = ask(here.initiating, find(home=TRIER))
    assert found.status == "Failure"
    assert found.errors == [("XDSMissingHomeCommunityId", TRIER), ("XDSRegistryError", TRIER)]
    assert "and 495 more" in found.contexts[1]


def test_associations_need_no_home_but_may_not_have_anothers(here):
    def link(entry_uuid, home):
        ends = f'associationType="{v.HAS_MEMBER}" sourceObject="{new_uuid()}" targetObject="{new_uuid()}"'
        return f'<o:Association id="{entry_uuid}"{home} {ends}/>'

    links = link("urn:uuid:1", "") + link("urn:uuid:2", f' home="{TRIER}"') + link("urn:uuid:3", f' home="{METZ}"')
    here.trier.play = saying(response(links))
    found = ask(here.initiating, find(home=TRIER))
    assert found.ids == ["urn:uuid:1", "urn:uuid:2"]
    assert found.errors == [("XDSRegistryError", TRIER)]


def test_objects_are_what_their_community_sent_with_the_namespaces_they_need(here):
    sent = (
        f'<o:ExtrinsicObject xmlns:z="urn:z" id="urn:uuid:1" home="{TRIER}" mimeType="text/plain" z:own="1" '
        f'objectType="{v.STABLE}"><o:Slot name="urn:x"><o:ValueList><o:Value> &#233; &lt;a&gt; </o:Value></o:ValueList>'
        "</o:Slot><o:Name/></o:ExtrinsicObject>"
    )
    here.trier.play = saying(response(sent.replace(' z:own="1"', "")))
    found = ask(here.initiating, find(home=TRIER))
    (kept,) = found.body.iter(f"{{{v.RIM}}}ExtrinsicObject")
    assert kept.prefix == "o"
    assert kept.findtext(f".//{{{v.RIM}}}Value") == " \u00e9 <a> "


# ------------------------------------------------------------------------------------------- their errors


def test_errors_of_partners_are_passed_on_with_their_place(here):
    errors = error("XDSRegistryBusy", "later &lt;b&gt; &amp;", location=TRIER) + error("XDSTooManyResults")
    here.trier.play = saying(response(errors=errors, status=v.FAILURE))
    found = ask(here.initiating, find())
    assert (found.status, found.objects) == ("PartialSuccess", [*OWN, *FROM_METZ])
    assert found.errors == [("XDSRegistryBusy", TRIER), ("XDSTooManyResults", TRIER)]
    assert found.contexts[0] == "later <b> &"


def test_part_of_an_answer_is_part_of_the_whole(here):
    play = response(ref("urn:uuid:1", TRIER), error("XDSRegistryError"), v.PARTIAL_SUCCESS)
    here.trier.play = saying(play)
    found = ask(here.initiating, find(home=TRIER))
    assert (found.status, found.ids, found.errors) == ("PartialSuccess", ["urn:uuid:1"], [("XDSRegistryError", TRIER)])
    told = [(code, outcome, side) for code, outcome, side, *_ in here.told()]
    assert told == [
        ("ITI-18", 0, "answered"),
        ("ITI-18", 8, "answered"),
        ("ITI-38", 0, "asked"),
        ("ITI-38", 8, "asked"),
    ]


def test_a_warning_is_a_success(here):
    warning = error("XDSRegistryError", "slow", v.SEVERITY_WARNING)
    here.trier.play = saying(response(ref("urn:uuid:1", TRIER), warning))
    found = ask(here.initiating, find())
    assert (found.status, found.errors) == ("Success", [("XDSRegistryError", TRIER)])


def test_a_patient_nobody_knows_there_is_no_error(here, tmp_path):
    here.trier.play = saying(response(errors=error("XDSUnknownPatientId", "nobody"), status=v.FAILURE))
    found = ask(here.initiating, find())
    assert (found.status, found.errors, found.objects) == ("Success", [], [*OWN, *FROM_METZ])
    assert ask(here.initiating, find(home=TRIER)).status == "Success"
    with registry(tmp_path, unknown_patient="error") as (_, address), gateway(tmp_path / "g", HOME, address) as alone:
        empty = ask(alone.initiating, find("NOBODY^^^&1.2.3&ISO"))
        assert (empty.status, empty.errors, empty.objects) == ("Success", [], [])


def test_a_flood_of_errors_is_bounded_in_number_and_length(here):
    here.trier.play = saying(response(errors=error("X" * 5000, "y" * 5000, location="z" * 5000) * 60, status=v.FAILURE))
    found = ask(here.initiating, find(home=TRIER))
    assert len(found.errors) == 21
    assert "40 more" in found.contexts[-1]
    assert max(map(len, found.contexts)) <= 1000
    assert max(len(word) for pair in found.errors for word in pair) <= 256
    reasons = [one.event.outcome_description for one in here.records()]
    assert {"XDSRegistryError, unknown code"} == set(reasons)


# --------------------------------------------------------------------------------------- patients, records


def test_a_patient_has_another_name_in_another_community(tmp_path, behind_nobody):
    seen = []
    there = "T'1^^^&1.2.276.7&ISO"
    with performing(saying(response(), seen=seen)) as trier, performing(silent) as metz:
        communities = [
            {"home_community_id": TRIER, "query_url": trier.url, "patient_id": "table", "patients": {PATIENT: there}},
            {
                "home_community_id": METZ,
                "query_url": metz.url,
                "patient_id": "table",
                "patients": {"x^^^&1.2&ISO": "y^^^&1.2&ISO"},
            },
        ]
        with gateway(tmp_path, HOME, behind_nobody, communities, deadline_s=5) as here:
            found = ask(here.initiating, find(Other="'<&>'"))
            # Metz does not know the patient: it is asked nothing, and that is no error.
            assert (found.status, found.errors) == ("PartialSuccess", [("XDSRegistryNotAvailable", HOME)])
            patients = [told[-1] for told in here.told() if told[0] == "ITI-38"]
    values = {slot.get("name"): "".join(slot.itertext()) for slot in seen[0].iter(f"{{{v.RIM}}}Slot")}
    assert values["$XDSDocumentEntryPatientId"] == "'T''1^^^&1.2.276.7&ISO'"
    assert values["$Other"] == "'<&>'"
    assert patients == [there]


def test_every_question_is_on_record_on_both_sides(here):
    ask(here.initiating, find())
    registries = {home: address for home, (_, address) in here.registries.items()}
    told = here.told()
    assert len(told) == 4
    assert set(told) == {
        ("ITI-18", 0, "answered", here.initiating, None, PATIENT),
        ("ITI-18", 0, "asked", registries[HOME], HOME, PATIENT),
        ("ITI-38", 0, "asked", here.metz.responding, METZ, PATIENT),
        ("ITI-38", 0, "asked", here.trier.url, TRIER, PATIENT),
    }
    assert here.metz.told() == [
        ("ITI-18", 0, "asked", registries[METZ], METZ, PATIENT),
        ("ITI-38", 0, "answered", here.metz.responding, METZ, PATIENT),
    ]


def test_connections_are_kept(here):
    for _ in range(3):
        ask(here.initiating, find(home=METZ))
    client = here.room.communities.client(here.room.communities.by_home(METZ))
    assert len(client._transports[False]._pool.connections) == 1


def test_where_it_cannot_be_told_how_a_patient_is_named_is_an_error_of_that_community(here, monkeypatch):
    def at(community, patient_id, deadline, *_more):
        assert deadline > 0
        if community.home_community_id == TRIER:
            raise Unknown("discovery gave no answer")
        if community.home_community_id == METZ:
            raise ValueError(patient_id)
        raise AssertionError

    monkeypatch.setattr(here.room.patients, "at", at)
    found = ask(here.initiating, find())
    assert (found.status, found.objects) == ("PartialSuccess", OWN)
    assert found.errors == [("XDSUnavailableCommunity", METZ), ("XDSUnavailableCommunity", TRIER)]
    assert "discovery gave no answer" in found.contexts[1]
    assert PATIENT not in found.contexts[0]
    assert {code for code, *_ in here.told()} == {"ITI-18"}


def test_what_never_left_is_not_on_record_as_asked(tmp_path, behind_nobody, monkeypatch):
    known = threading.Event()
    with performing(saying(response())) as trier:
        communities = [{"home_community_id": TRIER, "query_url": trier.url, "deadline_s": 0.3}]
        with gateway(tmp_path, HOME, behind_nobody, communities, deadline_s=20) as here:
            monkeypatch.setattr(here.room.patients, "at", lambda *_asked: known.wait(20) and ())
            for home in (None, TRIER):
                found = ask(here.initiating, find(home=home))
                assert found.errors[-1] == ("XDSUnavailableCommunity", TRIER)
            assert not known.is_set()
            assert {told[0] for told in here.told()} == {"ITI-18"}
            known.set()


def test_a_patient_with_several_names_in_a_community_is_asked_for_by_each(here, monkeypatch):
    seen, names = [], ["1^^^&1.2.3&ISO", "2^^^&1.2.3&ISO"]
    here.trier.play = saying(response(ref("urn:uuid:1", TRIER)), seen=seen)
    monkeypatch.setattr(here.room.patients, "at", lambda *_asked: names)
    found = ask(here.initiating, find(home=TRIER))
    assert (found.status, found.homes) == ("Success", [TRIER, TRIER])
    asked = [one.findtext(f".//{{{v.RIM}}}Value") for one in seen]
    assert asked == [f"'{name}'" for name in names]
    assert [told[-1] for told in here.told() if told[0] == "ITI-38"] == names


def test_a_defect_of_ours_is_answered_and_on_record(here, monkeypatch):
    monkeypatch.setattr(here.room.fan_out, "ask", lambda _calls: 1 / 0)
    found = ask(here.initiating, find())
    assert (found.status, found.errors) == ("Failure", [("XDSRegistryError", HOME)])
    assert "internal error, request" in found.contexts[0]
    assert here.told() == [("ITI-18", 8, "answered", here.initiating, None, PATIENT)]
