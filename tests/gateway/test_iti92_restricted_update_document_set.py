"""ITI-92 over the wire, through a responding gateway to a real registry (Restricted Metadata Update: 3.92)."""

from dataclasses import replace

import pytest
from lxml import etree

from gateway import iti92_restricted_update_document_set as iti92
from ihe import vocabulary as v
from ihe.ebrim import write_object
from ihe.ebrs import registry_response, submit_objects_request
from ihe.errors import RegistryError
from ihe.registry_objects import SubmittedObjects
from ihe.transactions import ITI_92
from ihe.xua import Caller
from schemas import parse_xml
from tests.builders import HOME, PATIENT, having, submission, text
from tests.gateway.querying import PLAIN, SECURITY, Answer, gateway, registry, saying
from tests.raw_peer import performing, silent
from tests.repository.stand import envelope, post
from tests.updates import new_version
from wire.messages import Request


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    with registry(tmp_path_factory.mktemp("registry")) as it:
        yield it


@pytest.fixture(scope="module")
def served(tmp_path_factory, behind):
    with gateway(tmp_path_factory.mktemp("gateway"), HOME, behind[1]) as it:
        yield it


@pytest.fixture
def here(served, behind):
    behind[0].accept(submission())
    served.records()
    behind[0].forget_records()
    return served


def registered(room):
    """Codes of the submissions that reached the registry."""
    codes = [one.event.type_codes[0].code for one in room.audited()]
    return [code for code in codes if code != "ITI-18"]


def written(objects):
    return submit_objects_request(write_object(one) for one in objects.objects)


def update(entry, *changes, home=HOME, **more):
    """A new version of an entry; ``home`` stands on the SubmissionSet."""
    asked = new_version(entry, *changes, **more)
    first, *others = asked.objects
    return SubmittedObjects((replace(first, home=home), *others))


def send(address, body, security=""):
    message = envelope(ITI_92.request_action, body).replace(b"</s:Header>", security.encode() + b"</s:Header>")
    got = post(address, PLAIN, message)
    assert got.http_status == 200
    return Answer(got.body)


def told(here):
    """(outcome, whether we asked, home, patient) of each record."""
    found = []
    for message in here.records():
        submission_set = message.objects[-1]
        home = next(d.value.decode() for d in submission_set.details if d.type.endswith("homeCommunityId"))
        source = next(one for one in message.participants if one.roles and one.roles[0].code == "110153")
        asked = source.alternative_user_id is not None
        assert message.event.type_codes[0].code == "ITI-92"
        found.append((int(message.event.outcome), asked, home, message.objects[0].id))
    return found


@pytest.mark.parametrize("home", [HOME, None, HOME.removeprefix("urn:oid:")])
def test_our_registry_takes_it(here, behind, home):
    (entry, *_) = behind[0].find().objects
    found = send(here.responding, written(update(entry, having(name=text("A new title")), home=home)))
    assert (found.status, found.contexts) == ("Success", [])
    assert "A new title" in {one.name[0].value for one in behind[0].find().objects}
    assert told(here) == [(0, False, HOME, PATIENT), (0, True, HOME, PATIENT)]
    assert registered(behind[0]) == ["ITI-92"]


def test_what_our_registry_refuses_comes_with_our_home(here, behind):
    (entry, *_) = behind[0].find().objects
    found = send(here.responding, written(update(entry, previous="7")))
    assert (found.status, found.errors) == ("Failure", [("XDSMetadataVersionError", HOME)])
    assert told(here) == [(8, False, HOME, PATIENT), (8, True, HOME, PATIENT)]


@pytest.mark.parametrize("where", ["set", "entry"])
def test_what_is_for_another_community_is_refused(here, behind, where):
    (entry, *_) = behind[0].find().objects
    foreign = "urn:oid:1.2.3"
    asked = update(entry, home=foreign) if where == "set" else update(entry, having(home=foreign))
    found = send(here.responding, written(asked))
    assert (found.status, found.errors) == ("Failure", [("XDSUnknownCommunity", HOME)])
    assert told(here) == [(8, False, HOME, PATIENT)]
    assert registered(behind[0]) == []


def test_a_message_in_no_right_form_is_refused(here, behind):
    body = written(update(behind[0].find().objects[0])).replace(b"rim:Slot", b"rim:Nonsense")
    assert set(send(here.responding, body).errors) == {("XDSRegistryMetadataError", HOME)}
    assert registered(behind[0]) == []


@pytest.fixture
def scripted(tmp_path):
    with performing(silent) as peer, gateway(tmp_path, HOME, peer.url, deadline_s=1.5) as it:
        it.registry = peer
        yield it


def test_the_registry_learns_who_sent_it_and_until_when_it_counts(scripted):
    seen = []
    scripted.registry.play = saying(registry_response(v.SUCCESS), seen=seen)
    body = written(submission())
    assert send(scripted.responding, body, SECURITY).status == "Success"
    names = [etree.QName(header).localname for header in seen[0][0]]
    assert names[-3:] == ["Depositor", "GiveUp", "Security"]
    (arrived,) = seen[0].find(f"{{{v.SOAP12}}}Body")
    assert etree.tostring(arrived, method="c14n", exclusive=True) == etree.tostring(
        parse_xml(body), method="c14n", exclusive=True
    )


def test_a_registry_that_gives_no_answer(scripted):
    found = send(scripted.responding, written(submission()))
    assert found.errors == [("XDSRegistryNotAvailable", HOME)]
    assert [one[:2] for one in told(scripted)] == [(8, False), (12, True)]
    error = RegistryError("XDSRegistryError", "x", location="line 1")
    scripted.registry.play = saying(registry_response("urn:x", [error]))
    assert send(scripted.responding, written(submission())).errors == [("XDSRegistryError", HOME)]


def test_who_does_not_list_it_is_refused(here):
    caller = Caller("10.0.0.1", "CN=stranger", "sha256:0")
    request = Request(ITI_92, parse_xml(written(submission())), caller, here.responding, None, None, "r")
    reply = b"".join(iti92.answer(here.room, request).body)
    assert b"LocalPolicyRestrictionError" in reply
    assert [one[:2] for one in told(here)] == [(8, False)]
