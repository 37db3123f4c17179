"""Queries across communities through a running Dossier: its gateway in front of its own registry, and asked by another."""

import http.client
import json

import pytest

from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request
from tests.builders import AUTHORITY, HOME, new_oid, submission
from tests.gateway.querying import ask, find, gateway, registry
from tests.registry.rooms import GET_SET_AND_CONTENTS
from tests.scenarios.wire_peer import WirePeer, set_id
from tests.wire.soap_peer import eventually

ELSEWHERE = "urn:oid:1.2.250.1"


@pytest.fixture(scope="module")
def patient(dossier_server):
    """A patient with two documents; (CX, uniqueId of the SubmissionSet)."""
    cx = f"GQ-{new_oid()[-12:]}^^^&{AUTHORITY}&ISO"
    peer = WirePeer(dossier_server, lambda who: dossier_server.run("feed", "--patient", who))
    peer.feed(cx)
    objects = submission(patient=cx, entries=2)
    assert peer.register(objects).status == "Success"
    peer.close()
    return cx, set_id(objects)


def addresses(server):
    base = f"http://127.0.0.1:{server.base_port + 30}"
    return f"{base}/responding", f"{base}/initiating"


def in_set(unique_id, home=None):
    return adhoc_query_request(GET_SET_AND_CONTENTS, {"$XDSSubmissionSetUniqueId": f"'{unique_id}'"}, "LeafClass", home)


def test_partners_and_consumers_find_what_is_here_with_our_home(dossier_server, patient):
    cx, unique_id = patient
    for address in addresses(dossier_server):
        found = ask(address, find(cx))
        assert (found.status, found.objects) == ("Success", [("ExtrinsicObject", HOME)] * 2)
        whole = ask(address, in_set(unique_id, HOME))
        assert (whole.status, set(whole.homes)) == ("Success", {HOME})
        assert len(whole.objects) == 5
        assert ask(address, in_set(unique_id)).errors == [("XDSMissingHomeCommunityId", HOME)]


def test_another_community_finds_it_through_its_own_gateway(dossier_server, patient, tmp_path):
    cx, unique_id = patient
    here = {"home_community_id": HOME, "query_url": addresses(dossier_server)[0]}
    with registry(tmp_path) as (room, address), gateway(tmp_path / "g", ELSEWHERE, address, [here]) as other:
        room.know(cx)
        room.accept(submission(patient=cx))
        found = ask(other.initiating, find(cx))
        assert found.objects == [("ExtrinsicObject", ELSEWHERE), *[("ExtrinsicObject", HOME)] * 2]
        assert len(ask(other.initiating, in_set(unique_id, HOME)).objects) == 5
        direct = {
            one.get("id")
            for one in ask(addresses(dossier_server)[0], find(cx)).body.iter(f"{{{v.RIM}}}ExtrinsicObject")
        }
        assert set(found.ids[1:]) == direct


def test_both_sides_of_it_reach_the_audit_service(dossier_server, patient):
    cx, _ = patient
    ask(addresses(dossier_server)[0], find(cx))
    ask(addresses(dossier_server)[1], find(cx))

    def sources():
        rows = dossier_server.run("audit", "--patient", cx, "--limit", "1000")
        return {(row["event"].split()[0], row["outcome"]) for row in rows if "gateway" in json.dumps(row)}

    assert eventually(lambda: {event for event, _ in sources()} >= {"ITI-18", "ITI-38"}, 30)


def test_its_requests_are_counted(dossier_server, patient):
    ask(addresses(dossier_server)[0], find(patient[0]))
    connection = http.client.HTTPConnection("127.0.0.1", dossier_server.base_port + 39, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    assert 'dossier_requests_total{result="answered",transaction="ITI-38"}' in text
