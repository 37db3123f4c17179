"""Five whole domains on one machine: what B, C, D and E hold is found and fetched by a consumer of A, byte for byte.

A knows the four others, each of them knows A alone: what B does with A is a world of two. One test, since everything
has to be up for each of its steps.
"""

import hashlib
import json
import os
import ssl
import time
from base64 import b64decode
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from dossier.commands.audit import fetch_events
from ihe import vocabulary as v
from ihe.ebrs import (
    adhoc_query_request,
    error_list,
    read_adhoc_query_request,
    read_adhoc_query_response,
    read_registry_response,
)
from ihe.transactions import ITI_18, ITI_38, ITI_43
from schemas import parse_xml
from tests.registry.rooms import FIND_DOCUMENTS
from tests.scenarios import domains
from tests.scenarios.test_sinks import metric, until
from wire.client import NotSent, OutcomeUnknown, SoapClient

PATIENT = f"P-17^^^&{domains.AUTHORITY}&ISO"
THEIRS = f"C-4711^^^&{domains.ROOT}.2.5.8888&ISO"
"""The same person in C, as the table of A says."""
DISCOVERED = f"D-0815^^^&{domains.ROOT}.2.5.7777&ISO"
"""The same person in D, as D says when A asks for her (ITI-55)."""
TOLD = ("--given", "Marie", "--birth", "19700101", "--sex", "F")
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
KB, MIB = 1000, 2**20
DELIVERY_S = 60
REFUSED = (NotSent, OutcomeUnknown)
"""With TLS 1.3 a server says only after the handshake that it does not take a certificate."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The five, up; what is held where comes with the test."""
    found = domains.make(tmp_path_factory.mktemp("domains"), "abcde")
    table = {"patient_id": "table", "patients": {PATIENT: THEIRS}}
    found["a"].knows = {"b": {}, "c": table, "d": {"patient_id": "discover"}, "e": {"deadline_s": 10.0}}
    for name in "bcde":
        found[name].knows = {"a": {}}
    domains.settle(found)
    with domains.served(found) as stop:
        yield World(found, stop)


class World:
    """Domains by name; ``held``: by unique id the home and the bytes of every document."""

    def __init__(self, found, stop):
        self.domains, self.stop, self.held = found, stop, {}

    def __getitem__(self, name):
        return self.domains[name]

    def of(self, *names):
        homes = {self[name].home for name in names}
        return {unique_id: row for unique_id, row in self.held.items() if row[0] in homes}


@pytest.mark.slow
def test_whole_domains(world, tmp_path):
    everybody_holds_something(world, tmp_path)
    a_consumer_at_a_finds_and_fetches_what_all_hold(world)
    two_domains_find_and_fetch_what_each_other_holds(world)
    a_document_by_its_id_is_asked_of_its_home_alone(world)
    the_command_line_does_the_same(world, tmp_path)
    a_patient_is_found_by_hand(world)
    the_trails_of_both_sides_agree(world)
    a_neighbour_reaches_the_gateway_and_nothing_else(world)
    every_community_is_checked(world)
    files_of_one_community_are_watched(world)
    what_is_broken_is_told_and_the_others_answer(world)


# ------------------------------------------------------------------------------------------------------------ steps


def everybody_holds_something(world, tmp_path):
    sizes = {"a": (4 * KB,), "b": (5 * KB, 300 * KB), "c": (7 * KB,), "d": (0, 40 * KB), "e": (18 * MIB,)}
    for name, domain in world.domains.items():
        patient = {"c": THEIRS, "d": DISCOVERED}.get(name, PATIENT)
        # D writes the name in its own way.
        domain.run("feed", "--patient", patient, "--family", "MÜSTER" if name == "d" else "Müster", *TOLD)
        for number, size in enumerate(sizes[name]):
            file = tmp_path / f"{name}{number}.pdf"
            file.write_bytes(b"%PDF-1.4 " + os.urandom(size))
            words = ("--patient", patient, "--type", "11502-2", "--title", file.stem)
            unique_id = domain.run("submit", str(file), *words)["documents"][0]["unique_id"]
            world.held[unique_id] = (domain.home, file.read_bytes())


def a_consumer_at_a_finds_and_fetches_what_all_hold(world):
    with consumer(world["a"]) as at_a:
        answer = at_a.find(PATIENT)
        assert (answer.status, answer.errors) == (v.SUCCESS, ())
        assert {one.identifier(v.ENTRY_UNIQUE_ID): one.home for one in answer.objects} == homes(world.held)
        again = at_a.find(PATIENT)
        assert [one.id for one in again.objects] == [one.id for one in answer.objects]
        assert at_a.fetch(answer.objects) == contents(world.held)


def two_domains_find_and_fetch_what_each_other_holds(world):
    with consumer(world["b"]) as at_b:
        answer = at_b.find(PATIENT)
        held = world.of("a", "b")
        assert (answer.status, answer.errors) == (v.SUCCESS, ())
        assert {one.identifier(v.ENTRY_UNIQUE_ID): one.home for one in answer.objects} == homes(held)
        assert at_b.fetch(answer.objects) == contents(held)


def a_document_by_its_id_is_asked_of_its_home_alone(world):
    (unique_id,) = world.of("c")
    wanted = {"$XDSDocumentEntryUniqueId": f"('{unique_id}')"}
    with consumer(world["a"]) as at_a:
        found = at_a.query(GET_DOCUMENTS, wanted, home=world["c"].home)
        assert [one.home for one in found.objects] == [world["c"].home]
        assert [one.identifier(v.ENTRY_PATIENT_ID) for one in found.objects] == [THEIRS]
        elsewhere = at_a.query(GET_DOCUMENTS, wanted, home=world["b"].home)
        assert (elsewhere.status, elsewhere.objects) == (v.SUCCESS, ())
        nowhere = at_a.query(GET_DOCUMENTS, wanted)
        assert [error.code for error in nowhere.errors] == ["XDSMissingHomeCommunityId"]
        nobody = at_a.query(GET_DOCUMENTS, wanted, home="urn:oid:1.2.3")
        assert [error.code for error in nobody.errors] == ["XDSUnknownCommunity"]
    with consumer(world["b"]) as at_b:
        unknown = at_b.query(GET_DOCUMENTS, wanted, home=world["c"].home)
        assert [error.code for error in unknown.errors] == ["XDSUnknownCommunity"]


def the_command_line_does_the_same(world, tmp_path):
    rows = world["a"].run("find", "--across", "--patient", PATIENT)
    assert {row["unique_id"]: row["home"] for row in rows} == homes(world.held)
    for unique_id, (home, data) in world.of("d").items():
        (fetched,) = world["a"].run("fetch", unique_id, "--home", home, "--out", str(tmp_path / "out"))
        assert fetched["checked"] is True
        assert Path(fetched["file"]).read_bytes() == data


def a_patient_is_found_by_hand(world):
    status, out, err = world["a"].tried(
        *("communities", "find-patient", "--patient", PATIENT, "--json", "--data", str(world["a"].folder)),
        *(word for name in "bd" for word in ("--community", world[name].home)),
        who="dossier",
    )
    assert status == 0, err
    rows = {row["community"]: (row["patient"], row["match"]) for row in json.loads(out)["communities"]}
    assert rows == {world["b"].home: (PATIENT, 100), world["d"].home: (DISCOVERED, 100)}


def the_trails_of_both_sides_agree(world):
    """Of every ITI-38 and ITI-39 both gateways hold a record of the same question and the same outcome."""
    here = world["a"]
    for name in "bcde":
        there = world[name]
        pairs = ((here, there), (there, here)) if name == "b" else ((here, there),)
        for asking, answering in pairs:
            for event in ("ITI-38", "ITI-39"):
                sent, answered = both_sides(asking, answering, event)
                assert sent == answered, (asking.name, answering.name, event)
                assert sent
    # Who discovers names the patient in the question to its own registry, who answers in the answer.
    sent, answered = discoveries(here, world["d"])
    assert sent == answered > 0
    # The consumer's own question stands in the log of its domain as ITI-18 and ITI-43, with who asked.
    for event in ("ITI-18", "ITI-43"):
        assert any(here.initiating in row["users"] for row in here.audit(event=event)), event


def a_neighbour_reaches_the_gateway_and_nothing_else(world):
    here, there = world["a"], world["b"]
    query = adhoc_query_request(FIND_DOCUMENTS, parameters(PATIENT))
    trusting = here.tls("stranger", ca=there.folder / "certs" / "ca.pem")
    with closing(SoapClient(trusting)) as client:
        with pytest.raises(REFUSED):
            client.call(there.registry, ITI_18, query)
        with client.call(there.responding, ITI_38, query) as answer:  # trusted, though no community names it
            assert read_adhoc_query_response(answer.body).status == v.SUCCESS
    # The address for A's own consumers: B's gateway may ask of A what is exchanged with it, and nobody else through A.
    gateway_s = there.tls("server", ca=here.folder / "certs" / "ca.pem")
    with closing(SoapClient(gateway_s)) as client:
        with client.call(here.responding, ITI_38, query) as answer:
            assert read_adhoc_query_response(answer.body).status == v.SUCCESS
        with client.call(here.initiating, ITI_18, query) as answer:
            response = read_registry_response(answer.body)
    assert (response.status, ["listed-partners-only" in one.context for one in response.errors]) == (v.FAILURE, [True])
    outsider = world["c"].tls("consumer", ca=there.folder / "certs" / "ca.pem")
    with closing(SoapClient(outsider)) as client, pytest.raises(REFUSED):
        client.call(there.responding, ITI_38, query)
    context = ssl.create_default_context(cafile=there.folder / "certs" / "ca.pem")
    assert context.verify_mode is ssl.CERT_REQUIRED
    with closing(SoapClient(None)) as nobody, pytest.raises(REFUSED):
        nobody.call(there.initiating, ITI_18, query)


def every_community_is_checked(world):
    status, out, err = world["a"].tried("communities", "check", who="dossier")
    assert status == 0, out + err
    told = [line.split("\t") for line in out.splitlines()]
    for name in "bcde":
        mine = {what: answer for home, what, answer, *_ in told if home == world[name].home}
        place = world[name].responding.removesuffix("/responding")
        assert mine == {
            f"connection {place}": "ok",
            "their certificate": "ok",
            "our certificate": "ok",
            "calls from them": "ok",
            "ITI-38": "ok",
            "ITI-39": "ok",
            "ITI-39 as MTOM": "ok",
            "ITI-55": "ok",
        }


def files_of_one_community_are_watched(world):
    """Also while nobody calls that community: E is the fourth in the table of A."""
    file = world["e"].folder / "certs" / "ca.pem"
    good = file.read_bytes()
    (ends,) = (one.not_valid_after_utc for one in x509.load_pem_x509_certificates(good))
    row = {"tls": "gateway.communities.3"}

    def told(name, **labels):
        return metric(world["a"], name, 39, **labels)

    assert told("dossier_certificate_expiry_timestamp_seconds", file="ca", **row) == ends.timestamp()
    assert told("dossier_certificates_stale", **row) == 0
    file.write_text("no certificate")
    until(lambda: told("dossier_certificates_stale", **row) == 1)
    file.write_bytes(good)
    until(lambda: told("dossier_certificates_stale", **row) == 0)


def what_is_broken_is_told_and_the_others_answer(world):
    """E is down; a certificate of a foreign authority is shown to D."""
    here = world["a"]
    world.stop("e")
    text = (here.folder / "dossier.toml").read_text()
    own, foreign = (str(world[name].folder / "certs" / "server") for name in "ac")
    rows = text.split("[[gateway.communities]]")
    shown = [row.replace(own, foreign) if world["d"].home in row else row for row in rows]
    (here.folder / "foreign.toml").write_text("[[gateway.communities]]".join(shown))
    report = communities_of(here, "foreign.toml")
    assert report["wrong"] == [world["d"].home, world["e"].home]
    wrong = {
        (one["home_community_id"], row["what"]): (row["result"], row["remedy"])
        for one in report["communities"]
        for row in one["findings"]
        if row["holds"] is False
    }
    places = {name: world[name].responding.removesuffix("/responding") for name in "de"}
    assert wrong[world["e"].home, f"connection {places['e']}"][0] == "connection refused"
    result, remedy = wrong[world["d"].home, f"our certificate {places['d']}"]
    assert result == "refused by the peer: unknown ca"
    assert "give the partner our authority's certificate" in remedy
    with consumer(here) as at_a:
        answer = at_a.find(PATIENT)
        assert answer.status == v.PARTIAL_SUCCESS
        held = world.of("a", "b", "c", "d")
        assert {one.identifier(v.ENTRY_UNIQUE_ID): one.home for one in answer.objects} == homes(held)
        (error,) = answer.errors
        assert (error.code, error.location) == ("XDSUnavailableCommunity", world["e"].home)
        assert world["e"].home in error.context


# ------------------------------------------------------------------------------------------------------------ helpers


def homes(held):
    return {unique_id: home for unique_id, (home, _) in held.items()}


def contents(held):
    return {unique_id: digest(data) for unique_id, (_, data) in held.items()}


def digest(data):
    return len(data), hashlib.sha256(data).hexdigest()


def parameters(patient):
    return {"$XDSDocumentEntryPatientId": f"'{patient}'", "$XDSDocumentEntryStatus": f"('{v.APPROVED}')"}


def communities_of(domain, config):
    status, out, _ = domain.tried("communities", "check", "--json", config=config)
    assert status == 1
    return json.loads(out)


class Consumer:
    """A Document Consumer of one domain, which speaks to the initiating gateway alone."""

    def __init__(self, domain):
        self._url, self._client = domain.initiating, SoapClient(domain.tls("consumer"), timeout_s=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close()

    def query(self, query_id, wanted, home=None):
        with self._client.call(self._url, ITI_18, adhoc_query_request(query_id, wanted, home=home)) as answer:
            return read_adhoc_query_response(answer.body)

    def find(self, patient):
        return self.query(FIND_DOCUMENTS, parameters(patient))

    def fetch(self, entries):
        """Size and digest of all of them by unique id, in one ITI-43."""
        rows = "".join(
            f"<x:DocumentRequest><x:HomeCommunityId>{one.home}</x:HomeCommunityId>"
            f"<x:RepositoryUniqueId>{one.slot('repositoryUniqueId')[0]}</x:RepositoryUniqueId>"
            f"<x:DocumentUniqueId>{one.identifier(v.ENTRY_UNIQUE_ID)}</x:DocumentUniqueId></x:DocumentRequest>"
            for one in entries
        )
        root = "x:RetrieveDocumentSetRequest"
        body = f'<{root} xmlns:x="{v.XDSB}">{rows}</{root}>'.encode()
        with self._client.call(self._url, ITI_43, body) as answer:
            response = read_registry_response(answer.body.find(f"{{{v.RS}}}RegistryResponse"))
            assert response.status == v.SUCCESS, error_list(response.errors)
            found = {}
            for row in answer.body.findall(f"{{{v.XDSB}}}DocumentResponse"):
                name = row.findtext(f"{{{v.XDSB}}}DocumentUniqueId")
                home = row.findtext(f"{{{v.XDSB}}}HomeCommunityId")
                assert home == next(one.home for one in entries if one.identifier(v.ENTRY_UNIQUE_ID) == name)
                found[name] = digest(b"".join(answer.part(row.find(f"{{{v.XDSB}}}Document"))))
            return found


def consumer(domain):
    return Consumer(domain)


def both_sides(asking, answering, event):
    """What the logs of both say of the questions of one to the other: Counters of (question, objects, outcome)."""
    deadline = time.monotonic() + DELIVERY_S
    while True:
        sides = [about(events_of(domain, event), answering.responding, asking) for domain in (asking, answering)]
        if (sides[0] == sides[1] and sides[0]) or time.monotonic() > deadline:
            return sides
        time.sleep(0.5)


def discoveries(asking, answering):
    """How many ITI-55 of one to the other stand in the log of each."""
    deadline = time.monotonic() + DELIVERY_S
    while True:
        logs = [events_of(domain, "ITI-55") for domain in (asking, answering)]
        sent, answered = (sum(is_exchange(one, answering.responding, asking) for one in log) for log in logs)
        if (sent == answered and sent) or time.monotonic() > deadline:
            return sent, answered
        time.sleep(0.5)


def events_of(domain, event):
    url = domain.url(40, "").rstrip("/")
    return fetch_events(url, {"date": "ge1970", "subtype": event}, domain.tls("auditor"), 1000)


def about(events, endpoint, asking):
    """Of one log: what the gateway of ``asking`` asked ``endpoint``, each with objects, questions and outcome."""
    of_it = [event for event in events if is_exchange(event, endpoint, asking)]
    return Counter((tuple(sorted(map(about_object, event["entity"]))), event["outcome"]) for event in of_it)


def is_exchange(event, endpoint, asking):
    """Whether the two took part: by its home in its own log, by the subject of its certificate in the other's."""
    users = {agent["who"]["identifier"]["value"] for agent in event["agent"]}
    return endpoint in users and (f"CN=server.{asking.name}" in users or event["source"]["site"] == asking.home)


def about_object(entity):
    """Id, home and what was asked, however it was written."""
    identifier = entity["what"]["identifier"]
    details = sorted(
        (one["type"], b64decode(one["valueBase64Binary"]))
        for one in entity.get("detail", ())
        if not one["type"].startswith("urn:dossier:")
    )
    question = read_adhoc_query_request(parse_xml(b64decode(entity["query"]))) if "query" in entity else None
    return identifier.get("system", ""), identifier["value"], repr(details), repr(question)
