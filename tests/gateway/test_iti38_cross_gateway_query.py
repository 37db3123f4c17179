"""ITI-38 over the wire: a responding gateway in front of a real registry, and in front of none (ITI TF-2: 3.38)."""

import socket
from dataclasses import replace

import pytest
from lxml import etree

from gateway import iti38_cross_gateway_query as iti38
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request
from ihe.registry_objects import Kind
from ihe.transactions import ITI_38
from ihe.xua import Caller
from schemas import parse_xml
from tests.builders import HOME, PATIENT, new_uuid, submission
from tests.gateway.querying import SECURITY, ask, error, find, gateway, registry, response, saying
from tests.raw_peer import performing, silent
from tests.registry.rooms import GET_DOCUMENTS, GET_SET_AND_CONTENTS
from wire.messages import Request

FOREIGN = "urn:oid:1.2.250.9"
NOBODY = "NOBODY^^^&1.3.6.1.4.1.21367.13.20.1000&ISO"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    with registry(tmp_path_factory.mktemp("registry")) as (room, address):
        room.accept(submission(entries=2))
        yield room, address


@pytest.fixture(scope="module")
def served(tmp_path_factory, behind):
    with gateway(tmp_path_factory.mktemp("gateway"), HOME, behind[1]) as it:
        yield it


@pytest.fixture
def here(served, behind):
    served.records()
    behind[0].forget_records()
    return served


def set_of(room):
    """uniqueId and entryUUID of the SubmissionSet, and the ids of its entries."""
    found = room.find().objects
    uuids = [one.id for one in found]
    sets = room.query(
        "urn:uuid:51224314-5390-4169-9b91-b1980040715a", uuid="(" + ",".join(f"'{u}'" for u in uuids) + ")"
    )
    (package,) = (one for one in sets.objects if one.kind is Kind.SUBMISSION_SET)
    return package.identifier(v.SUBMISSION_SET_UNIQUE_ID), package.id, uuids


def test_our_home_stands_on_every_object_and_reference(here, behind):
    unique_id, _, uuids = set_of(behind[0])
    whole = adhoc_query_request(
        GET_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": f"'{unique_id}'"}, "LeafClass", HOME
    )
    found = ask(here.responding, whole)
    assert found.status == "Success"
    assert {kind for kind, _ in found.objects} == {"RegistryPackage", "ExtrinsicObject", "Association"}
    assert set(found.homes) == {HOME}
    refs = ask(here.responding, find(return_type="ObjectRef"))
    assert refs.objects == [("ObjectRef", HOME)] * 2
    assert sorted(refs.ids) == sorted(uuids)


@pytest.mark.parametrize("home", [None, HOME, HOME.removeprefix("urn:oid:")])
def test_a_query_by_patient_needs_no_home(here, home):
    assert ask(here.responding, find(home=home)).objects == [("ExtrinsicObject", HOME)] * 2


@pytest.mark.parametrize(
    ("query_id", "name"),
    [
        (GET_DOCUMENTS, "XDSDocumentEntryUniqueId"),
        (GET_ASSOCIATIONS, "uuid"),
        (GET_SET_AND_CONTENTS, "XDSSubmissionSetUniqueId"),
    ],
)
@pytest.mark.parametrize("home", [None, ""])
def test_any_other_query_needs_one(here, query_id, name, home):
    body = find(None, home, query_id=query_id, **{name: f"('{new_uuid()}')"})
    found = ask(here.responding, body)
    assert (found.status, found.errors) == ("Failure", [("XDSMissingHomeCommunityId", HOME)])
    assert HOME in found.contexts[0]
    assert [told[:3] for told in here.told()] == [("ITI-38", 8, "answered")]


@pytest.mark.parametrize("home", [FOREIGN, "nonsense", FOREIGN.removeprefix("urn:oid:"), HOME + ".1"])
@pytest.mark.parametrize("patient", [PATIENT, None])
def test_a_foreign_home_is_refused(here, home, patient):
    found = ask(here.responding, find(patient, home))
    assert (found.status, found.errors) == ("Failure", [("XDSUnknownCommunity", HOME)])
    assert [told[:3] for told in here.told()] == [("ITI-38", 8, "answered")]


def test_the_errors_of_the_registry_come_with_our_home_as_location(here):
    body = find(XDSDocumentEntryClassCode="nonsense", XDSDocumentEntryCreationTimeFrom="'yesterday'")
    found = ask(here.responding, body)
    assert found.status == "Failure"
    assert found.errors == [("XDSRegistryError", HOME)] * 2
    assert ask(here.responding, find(None, HOME)).errors == [("XDSStoredQueryMissingParam", HOME)] * 2
    unknown = ask(here.responding, find(None, HOME, query_id=new_uuid(), x="'y'"))
    assert unknown.errors == [("XDSUnknownStoredQuery", HOME)]


def test_what_a_registry_says_of_a_patient_nobody_knows_is_passed_on(here, tmp_path):
    assert ask(here.responding, find(NOBODY)).status == "Success"
    with (
        registry(tmp_path, unknown_patient="error") as (_, address),
        gateway(tmp_path / "gateway", HOME, address) as strict,
    ):
        assert ask(strict.responding, find(NOBODY)).errors == [("XDSUnknownPatientId", HOME)]


def test_a_message_that_is_no_query_is_refused_before_the_registry_is_asked(here, behind):
    body = find().replace(b"<rim:AdhocQuery", b"<rim:Nonsense").replace(b"</rim:AdhocQuery>", b"</rim:Nonsense>")
    found = ask(here.responding, body)
    assert (found.status, found.errors[0]) == ("Failure", ("XDSRegistryError", HOME))
    assert behind[0].audited() == []


def test_both_sides_are_on_record(here, behind):
    ask(here.responding, find())
    assert here.told() == [
        ("ITI-18", 0, "asked", behind[1], HOME, PATIENT),
        ("ITI-38", 0, "answered", here.responding, HOME, PATIENT),
    ]
    assert [int(one.event.outcome) for one in behind[0].audited()] == [0]
    ask(here.responding, find(XDSDocumentEntryClassCode="nonsense"))
    assert [told[:3] for told in here.told()] == [("ITI-18", 8, "asked"), ("ITI-38", 8, "answered")]


def test_the_record_holds_the_query_as_it_came(here):
    ask(here.responding, find(return_type="ObjectRef", Unknown="'parameter'"))
    for message in here.records():
        query = next(one for one in message.objects if one.query is not None)
        assert b"ObjectRef" in query.query
        assert b"$Unknown" in query.query


def test_a_long_query_about_many_is_on_record_once(here):
    """Each record repeats the whole query."""
    many = ",".join(f"'P{number}^^^&1.2.3&ISO'" for number in range(10))
    ask(here.responding, find(None, XDSDocumentEntryPatientId=f"({many})", Unknown="'" + "x" * 2 * 2**20 + "'"))
    assert [told[:3] for told in here.told() if told[0] == "ITI-38"] == [("ITI-38", 8, "answered")]


# ------------------------------------------------------------------------------------ scripted registries


@pytest.fixture
def scripted(tmp_path):
    """A gateway in front of a registry that plays what the test wants."""
    with performing(silent) as peer, gateway(tmp_path, HOME, peer.url, deadline_s=1.5, max_answer_bytes=2**20) as it:
        it.registry = peer
        yield it


def test_the_whole_question_reaches_the_registry(scripted):
    seen = []
    scripted.registry.play = saying(response(), seen=seen)
    body = find(home=HOME, return_type="ObjectRef", Unknown="'<&>'", XDSDocumentEntryTypeCode="('a^^b')")
    body = body.replace(
        b"<query:ResponseOption", b'<rs:RequestSlotList xmlns:rs="' + v.RS.encode() + b'"/><query:ResponseOption'
    )
    assert ask(scripted.responding, body, security=SECURITY).status == "Success"
    envelope = seen[0]
    (arrived,) = envelope.find(f"{{{v.SOAP12}}}Body")
    assert etree.tostring(arrived, method="c14n", exclusive=True) == etree.tostring(
        parse_xml(body), method="c14n", exclusive=True
    )
    (header,) = envelope.iter(f"{{{v.WSSE}}}Security")
    assert header[0].text == " b "
    assert header.get(f"{{{v.SOAP12}}}mustUnderstand") == "1"


def test_a_home_or_a_location_of_the_registry_is_ours_all_the_same(scripted):
    objects = f'<o:ObjectRef id="urn:uuid:1" home="{FOREIGN}"/><o:ObjectRef id="urn:uuid:2"/>'
    scripted.registry.play = saying(
        response(objects, error("XDSRegistryError", "w", v.SEVERITY_WARNING, "line 7")), content_type="text/xml"
    )
    found = ask(scripted.responding, find())
    assert found.homes == [HOME, HOME]
    assert found.errors == [("XDSRegistryError", HOME)]


FAULT = f'<s:Fault xmlns:s="{v.SOAP12}"><s:Code><s:Value>s:%s</s:Value></s:Code><s:Reason><s:Text xml:lang="en">secret</s:Text></s:Reason></s:Fault>'


@pytest.mark.parametrize(
    ("play", "code"),
    [
        (silent, "XDSRegistryNotAvailable"),
        (saying((FAULT % "Receiver").encode(), status="500 Error"), "XDSRegistryNotAvailable"),
        (saying((FAULT % "Receiver").encode(), status="503 Busy"), "XDSRegistryBusy"),
        (saying((FAULT % "Sender").encode(), status="400 Bad"), "XDSRegistryError"),
        (saying(response("<o:ObjectRef id='x'/>" * 60_000)), "XDSTooManyResults"),
        (saying(response(status="urn:x")), "XDSRegistryError"),
        (saying(response(), length=10**6), "XDSRegistryNotAvailable"),
    ],
    ids=["silent", "fault", "busy", "refusing", "large", "status", "half"],
)
def test_a_registry_that_gives_no_answer_is_an_error_and_on_record(scripted, play, code):
    scripted.registry.play = play
    found = ask(scripted.responding, find())
    assert (found.status, found.errors) == ("Failure", [(code, HOME)])
    assert "secret" not in found.contexts[0]
    assert [(told[0], told[1], told[2]) for told in scripted.told()] == [
        ("ITI-18", 12, "asked"),
        ("ITI-38", 8, "answered"),
    ]


def test_a_registry_that_is_down(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with gateway(tmp_path, HOME, address) as here:
        found = ask(here.responding, find())
        assert found.errors == [("XDSRegistryNotAvailable", HOME)]
        assert "send it again later" in found.contexts[0]


def test_while_no_record_can_be_kept_nothing_is_asked(tmp_path, behind):
    with gateway(tmp_path, HOME, behind[1], outbox_rows=1) as here:
        here.room.store.record_alone([b"one", b"two"])
        found = ask(here.responding, find())
        assert found.errors == [("XDSRegistryBusy", HOME)]


def test_a_caller_that_is_not_listed_is_refused(tmp_path, behind):
    with gateway(tmp_path, HOME, behind[1]) as here:
        settings = here.room.settings.model_copy(update={"callers": "listed"})
        request = Request(
            ITI_38, parse_xml(find()), Caller("10.0.0.1", "CN=stranger", "sha256:0"), here.responding, None, None, "r"
        )
        reply = b"".join(iti38.answer(replace(here.room, settings=settings), request).body)
        assert b"listed-partners-only" in reply
        assert [told[:3] for told in here.told()] == [("ITI-38", 8, "answered")]
