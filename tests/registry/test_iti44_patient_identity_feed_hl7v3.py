"""ITI-44 on a real database: who becomes known, who is merged, what is answered, what is on record."""

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select

from atna.message import parse
from atna.recorder import Recorder
from atna.store.engine import begin_write, open_engine, reading
from atna.store.outbox import Outbox
from ihe.transactions import ITI_44_ADD, ITI_44_RESOLVE, ITI_44_REVISE
from ihe.xua import Caller
from registry.feed import feed_v3
from registry.settings import RegistrySettings
from registry.store.patients import make_known
from registry.store.protocol import LostRace, StoreUnavailable
from registry.store.tables import defect, feed_message, metadata, outbox, patient, patient_merge
from schemas import parse_xml, strict_violations
from tests.hl7v3_messages import ADD, OID, RESOLVE, REVISE, feed, ii
from wire.messages import Request
from wire.settings import AffinityDomainSettings

OTHER = "1.3.6.1.4.1.21367.13.20.2000"
TRANSACTIONS = {ADD: ITI_44_ADD, REVISE: ITI_44_REVISE, RESOLVE: ITI_44_RESOLVE}
NODE = Caller("10.0.0.7", "CN=adt,O=Hospital A")
LOOPBACK = Caller("127.0.0.1")
MATRICULE, WRONG_MATRICULE = "1893120105732", "1893120105742"


class Room:
    """A registry's ITI-44 and what its database holds afterwards; every answer passes the strict schema."""

    def __init__(self, url, max_rows=100_000, **domain):
        self.engine = open_engine(url, metadata)
        self.clock = [1_790_000_000.0]
        self.feed = feed_v3(
            *(self.engine, Outbox(self.engine, outbox, ("http://127.0.0.1:1/records",), max_rows)),
            *(Recorder("registry", None, "dossier-registry", "here"), AffinityDomainSettings(**domain)),
            RegistrySettings(),
            now=lambda: self.clock[0],
        )

    def request(self, body, caller=NODE):
        element = parse_xml(body)
        transaction = TRANSACTIONS[element.tag.rpartition("}")[2]]
        return Request(transaction, element, caller, "http://registry.example/registry", "urn:uuid:m", None, "r-1")

    def bytes(self, body, caller=NODE):
        request = self.request(body, caller)
        return b"".join(self.feed.handlers[request.transaction](request).body)

    def send(self, body, caller=NODE):
        return told(self.bytes(body, caller))

    def know(self, *patients):
        with begin_write(self.engine) as connection:
            make_known(connection, patients, {}, "20260101000000")

    def rows(self, table):
        with reading(self.engine) as connection:
            return connection.execute(select(table)).all()

    def patients(self):
        return {(row.id, row.authority): row for row in self.rows(patient)}

    def records(self):
        rows = [bytes(row.message) for row in sorted(self.rows(outbox), key=lambda row: row.id)]
        return [parse(row[row.index(b"<Audit") :]) for row in rows]

    def audited(self):
        """(action, outcome, patient ids) of each record."""
        return [
            (one.event.action, int(one.event.outcome), [about.id for about in one.objects]) for one in self.records()
        ]


def told(answer):
    """(typeCode, [(code, text, location)]) of an acknowledgement."""
    element = parse_xml(answer)
    assert strict_violations(element) == ()
    details = [
        (one.find("{*}code").get("code"), one.findtext("{*}text"), one.findtext("{*}location"))
        for one in element.iter("{urn:hl7-org:v3}acknowledgementDetail")
    ]
    return element.find("{*}acknowledgement/{*}typeCode").get("code"), details


@pytest.fixture
def room(database_url):
    made = Room(database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def small(tmp_path):
    """Makes rooms on SQLite with settings of a test's own."""
    made = []

    def make(**settings):
        made.append(Room(f"sqlite:///{tmp_path / f'{len(made)}.db'}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.engine.dispose()


# ------------------------------------------------------------------------------------------ what becomes known


@pytest.mark.parametrize(("name", "action"), [(ADD, "C"), (REVISE, "U")])
def test_a_patient_becomes_known_and_it_is_on_record(room, name, action):
    assert room.send(feed(name)) == ("AA", [])
    (row,) = room.patients().values()
    assert (row.id, row.authority, row.family, row.given, row.birth, row.sex) == (
        *("PAT1", OID),
        *("van Müller", "Änne", "19700101", "F"),
    )
    (record,) = room.records()
    assert room.audited() == [(action, 0, [f"PAT1^^^&{OID}&ISO"])]
    assert [one.code for one in record.event.type_codes] == ["ITI-44"]
    assert record.participants[0].user_id == "10.0.0.7"
    assert record.participants[1].user_id == "http://registry.example/registry"
    assert {one.type: one.value for one in record.objects[0].details} == {
        "II": b"1.2.42.7^M1",
        "urn:dossier:access-rule": b"permit-trusted-node",
    }


def test_a_revision_changes_what_it_tells_and_leaves_the_rest(room):
    room.send(feed())
    room.clock[0] += 60
    again = feed(REVISE, person="<name><family>Muster</family></name>", birth='<birthTime nullFlavor="UNK"/>', sex="")
    assert room.send(again)[0] == "AA"
    (row,) = room.patients().values()
    assert (row.family, row.given, row.birth, row.sex) == ("Muster", "Änne", "19700101", "F")
    assert row.known_since < row.changed_at


def test_a_birth_that_cannot_be_is_left_out_and_recorded(room):
    room.send(feed())
    assert room.send(feed(REVISE, birth='<birthTime value="20240230"/>', sex=""))[0] == "AA"
    (row,) = room.patients().values()
    assert row.birth == "19700101"
    (told,) = room.rows(defect)
    assert (told.code, told.context) == (
        "ITI-44",
        "birthTime: the time of birth is not in the calendar; it was not kept",
    )


def test_every_listed_id_becomes_known_with_a_record_each(small):
    room = small(assigning_authorities=(OID, OTHER))
    ids = ii("1") + ii("2", OTHER) + ii("3", "1.9.9") + ii("4", "0B5EF8A4-6A19-4F4E-8A51-3C8D4B1E2F00") + ii("1")
    assert room.send(feed(ids=ids))[0] == "AA"
    assert set(room.patients()) == {("1", OID), ("2", OTHER)}
    assert [ids for _action, _outcome, ids in room.audited()] == [[f"1^^^&{OID}&ISO"], [f"2^^^&{OTHER}&ISO"]]


# ------------------------------------------------------------------------------------------ what is refused


def twice(body, element):
    """The message with one of its elements repeated, with another id."""
    start, closing = body.index(f"<{element} ".encode()), f"</{element}>".encode()
    end = body.index(closing) + len(closing)
    return body[:end] + body[start:end].replace(b"PAT1", b"PAT2") + body[end:]


REFUSED = {
    "foreign authority": (feed(ids=ii("1", OTHER)), "204", OID),
    "no id": (feed(ids='<id nullFlavor="UNK"/>'), "204", "patient/id"),
    "no id at all": (feed(ids=""), "204", "patient/id"),
    "no OID": (feed(ids=ii("1", "HOSPITAL")), "204", "root=OID"),
    "id too long": (feed(ids=ii("9" * 250)), "204", "at most 256"),
    "too many ids": (feed(ids="".join(ii(str(n)) for n in range(101))), "102", "more than 100"),
    "no message id": (feed(message_id=""), "101", "id of the message"),
    "null message id": (feed(message_id='<id nullFlavor="NI"/>'), "101", "id of the message"),
    "long message id": (feed(message_id=ii("x" * 300)), "102", "longer than 250"),
    "another interaction": (feed(interaction="PRPA_IN201305UV02"), "201", ADD),
    "no registration": (feed(registrations=0), "101", "exactly one registrationEvent"),
    "two registrations": (feed(registrations=2), "102", "found 2"),
    "two patients": (twice(feed(), "subject1"), "102", "about one patient: found 2"),
    "two patients in one subject": (twice(feed(), "patient"), "102", "about one patient: found 2"),
    "no time": (feed(birth='<birthTime value="1970-01-01"/>'), "102", "hl7:birthTime/@value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_and_on_record(small, case):
    body, code, word = REFUSED[case]
    room = small(assigning_authorities=(OID,))
    ack, ((found, text, _location), *_) = room.send(body)
    assert (ack, found) == ("AE", code)
    assert word in text
    assert room.patients() == {}
    assert room.rows(feed_message) == []
    records = room.records()
    assert {int(one.event.outcome) for one in records} == {8}
    assert all(f"AE {code}" in one.event.outcome_description for one in records)


def test_a_refusal_says_where(small):
    room = small(assigning_authorities=(OID,))
    ((_, _, location),) = room.send(feed(ids=ii("1", OTHER)))[1]
    assert location == f"/{ADD}/controlActProcess/subject/registrationEvent/subject1/patient/id"
    assert room.audited() == [("C", 8, [f"1^^^&{OTHER}&ISO"])]


def test_all_faults_of_the_form_are_told_without_their_values(small):
    body = feed(birth='<birthTime value="secret"/>').replace(b'value="20261122120000"', b'value="hidden"')
    answer = small().bytes(body)
    assert len(told(answer)[1]) == 2
    assert b"secret" not in answer and b"hidden" not in answer


# ------------------------------------------------------------------------------------------ merges


def merge(surviving=None, prior=None, **more):
    return feed(RESOLVE, surviving or ii("NEW"), prior=ii("OLD") if prior is None else prior, **more)


def test_a_merge_is_kept_and_takes_two_records(room):
    room.know(("OLD", OID), ("NEW", OID))
    assert room.send(merge(), LOOPBACK) == ("AA", [])
    keys = {row.id: row.patient_key for row in room.patients().values()}
    ((row),) = room.rows(patient_merge)
    assert (row.subsumed_key, row.surviving_key, row.undone_at) == (keys["OLD"], keys["NEW"], None)
    assert room.audited() == [("D", 0, [f"OLD^^^&{OID}&ISO"]), ("U", 0, [f"NEW^^^&{OID}&ISO"])]
    assert room.patients()["NEW", OID].family is None  # a merge tells of ids alone


def test_several_ids_are_merged_into_the_one_of_their_authority(room):
    known = [("NEW", OID), ("A", OID), ("B", OID), ("N2", OTHER), ("C", OTHER)]
    room.know(*known)
    body = merge(ii("NEW") + ii("N2", OTHER), ii("A") + ii("B") + ii("C", OTHER))
    assert room.send(body, LOOPBACK)[0] == "AA"
    keys = {row.patient_key: row.id for row in room.patients().values()}
    pairs = {(keys[row.subsumed_key], keys[row.surviving_key]) for row in room.rows(patient_merge)}
    assert pairs == {("A", "NEW"), ("B", "NEW"), ("C", "N2")}
    assert len(room.audited()) == 5


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (merge(prior=ii("UNKNOWN")), "subsumed id was never announced"),
        (merge(ii("UNKNOWN")), "surviving id was never announced"),
        (merge(ii("OLD")), "into itself"),
        (merge(prior=ii("OLD", OTHER)), "0 ids"),
        (merge(ii("NEW") + ii("NEW2")), "2 ids"),
        (merge(prior='<id nullFlavor="NI"/>'), "replacementOf"),
        (feed(RESOLVE, ii("NEW")), "replacementOf"),
        (feed(ADD, ii("NEW"), prior=ii("OLD")), "PRPA_IN201304UV02"),
        (feed(REVISE, ii("NEW"), prior=ii("OLD")), "PRPA_IN201304UV02"),
        (merge(prior=ii("OLD") + ii("UNKNOWN")), "subsumed id was never announced"),
    ],
    ids=[
        "subsumed unknown",
        "surviving unknown",
        "equal",
        "authority",
        "two survive",
        "no id",
        "nothing",
        "add",
        "revise",
        "half",
    ],
)
def test_a_merge_that_cannot_be_changes_nothing(room, body, word):
    room.know(("OLD", OID), ("NEW", OID), ("NEW2", OID))
    ack, ((_code, text, _location),) = room.send(body, LOOPBACK)
    assert ack == "AE"
    assert word in text
    assert room.rows(patient_merge) == []
    assert {outcome for _, outcome, _ in room.audited()} == {8}


def test_who_may_merge(small):
    room = small(partners={"CN=pix": {"transactions": ["ITI-44"]}, "CN=other": {"transactions": ["ITI-57"]}})
    room.know(("OLD", OID), ("NEW", OID), ("OLD2", OID))
    for caller in (NODE, Caller("127.0.0.1", "CN=other")):
        ack, ((_, text, _),) = room.send(merge(), caller)
        assert (ack, text) == ("AE", "refused by rule listed-partners-only")
    assert room.rows(patient_merge) == []
    assert room.send(feed(), NODE)[0] == "AA"  # an addition is everybody's
    assert room.send(merge(), Caller("10.0.0.7", "CN=pix"))[0] == "AA"
    assert room.send(merge(prior=ii("OLD2")), LOOPBACK)[0] == "AA"
    rules = {one.value for record in room.records() for about in record.objects for one in about.details}
    assert {b"permit-listed-partner", b"listed-partners-only", b"permit-trusted-node"} <= rules


# ------------------------------------------------------------------------------------------ repeats, races, outages


def test_the_same_message_again_gets_the_same_answer_and_does_nothing(room):
    first = room.bytes(feed())
    room.clock[0] += 100
    written_otherwise = feed(prefix="v3").replace(b'xmlns:v3="', b'  xmlns:v3="')
    assert room.bytes(feed()) == first
    assert len(room.records()) == 1
    assert room.bytes(written_otherwise) != first  # another prefix is another message: it is handled, and no harm done
    assert set(room.patients()) == {("PAT1", OID)}


def test_another_message_with_the_same_id_and_another_sender_with_it_are_handled(room):
    room.send(feed())
    room.send(feed(ids=ii("PAT2")))
    room.send(feed(), Caller("10.0.0.8", "CN=adt,O=Hospital B"))
    room.send(feed(ids=ii("PAT3"), sender="1.2.42.3"))
    assert {one for one, _ in room.patients()} == {"PAT1", "PAT2", "PAT3"}
    assert len(room.records()) == 4


def test_a_merge_sent_again_is_answered_as_before(room):
    room.know(("OLD", OID), ("NEW", OID))
    first = room.bytes(merge(), LOOPBACK)
    assert room.bytes(merge(), LOOPBACK) == first
    assert told(first)[0] == "AA"


def test_answers_are_forgotten_after_their_time(small):
    room = small()
    room.send(feed())
    room.clock[0] += 31 * 86_400
    room.send(feed(message_id='<id root="1.2.42.7" extension="M2"/>'))
    assert [row.control_id for row in room.rows(feed_message)] == ["1.2.42.7^M2"]


def test_two_add_the_same_patient_at_once(room):
    bodies = [feed(message_id=f'<id root="1.2.3.{n}"/>') for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert {ack for ack, _ in pool.map(room.send, bodies)} == {"AA"}
    assert len(room.patients()) == 1
    assert len(room.records()) == 8


class Failing:
    """A store whose units of work end in the errors given, then work again."""

    def __init__(self, store, *errors):
        self._store, self._errors = store, list(errors)

    def __getattr__(self, name):
        return getattr(self._store, name)

    def unit_of_work(self):
        if self._errors:
            raise self._errors.pop(0)
        return self._store.unit_of_work()


def test_a_lost_race_is_run_again(small):
    room = small()
    room.feed._ledger._store = Failing(room.feed._ledger._store, LostRace(), LostRace())
    assert room.send(feed())[0] == "AA"


@pytest.mark.parametrize(("full", "word"), [(True, "no room"), (False, "can't store")])
def test_an_outage_is_an_answer_that_asks_to_send_again(small, full, word):
    room = small()
    room.feed._ledger._store = Failing(room.feed._ledger._store, StoreUnavailable("disk", full=full))
    ack, ((code, text, _),) = room.send(feed())
    assert (ack, code) == ("AE", "207")
    assert word in text and "send the message again" in text
    assert room.send(feed())[0] == "AA"


def test_a_full_outbox_makes_the_registry_busy(small):
    room = small(max_rows=1)
    with begin_write(room.engine) as connection:
        connection.execute(
            insert(outbox), [{"sink": "http://127.0.0.1:1/records", "created_at": 1, "message": b"x"}] * 2
        )
    assert room.send(feed())[0] == "AE"
    assert room.patients() == {}


def test_our_own_defect_is_answered_with_the_request_and_without_its_reason(small):
    room = small()
    reply = room.feed.failure(room.request(feed()), ValueError("a secret of the house"))
    ack, ((code, text, _),) = told(b"".join(reply.body))
    assert (ack, code) == ("AE", "207")
    assert "r-1" in text and "secret" not in text
    assert room.audited() == [("C", 8, [f"PAT1^^^&{OID}&ISO"])]
    outage = room.feed.failure(room.request(feed()), StoreUnavailable("disk", full=True))
    assert "no room" in told(b"".join(outage.body))[1][0][1]


def test_no_patient_in_any_log_line(small, caplog):
    room = small(assigning_authorities=(OID,))
    for body in (feed(), feed(ids=ii("PAT9", OTHER)), merge(ii("PAT1"), ii("PAT8"))):
        room.send(body, LOOPBACK)
    assert "PAT" not in caplog.text and "Müller" not in caplog.text


# ------------------------------------------------------------------------------------------ matricules


def test_a_wrong_matricule_is_refused_by_the_rule_it_breaks(small):
    room = small(matricule_authority=OID, environment="production")
    ack, ((code, text, location),) = room.send(feed(ids=ii(WRONG_MATRICULE) + ii("1", OTHER)))
    assert (ack, code) == ("AE", "102")
    assert "Luhn digit" in text and WRONG_MATRICULE not in text
    assert location.endswith("/patient/id")
    assert room.patients() == {}
    assert room.send(feed(ids=ii(MATRICULE) + ii("any", OTHER)))[0] == "AA"


def test_a_wrong_matricule_is_let_pass_and_listed(room):
    answers = AffinityDomainSettings(matricule_authority=[OID])
    room.feed._rules = dataclasses.replace(room.feed._rules, matricules=answers.matricules)
    assert room.send(feed(ids=ii(WRONG_MATRICULE) + ii("19751224330")))[0] == "AA"
    rows = room.rows(defect)
    assert [(row.partner, row.code) for row in rows] == [(NODE.partner, "ITI-44")] * 2
    assert "Luhn" in rows[0].context and "11 digits" in rows[1].context
    assert not any(WRONG_MATRICULE in row.context for row in rows)
    assert len(room.patients()) == 2


@pytest.mark.parametrize("prior", [ii("OLD", OTHER), '<id nullFlavor="NI"/>'], ids=["foreign", "none"])
@pytest.mark.parametrize("name", [ADD, REVISE])
def test_what_was_replaced_elsewhere_does_not_matter_here(small, name, prior):
    room = small(assigning_authorities=(OID,))
    room.know(("OLD", OID))
    assert room.send(feed(name, ii("NEW"), prior=prior))[0] == "AA"
    assert len(room.patients()) == 2


def test_a_digest_of_the_message_is_kept_not_the_message(room):
    room.send(feed())
    ((row),) = room.rows(feed_message)
    assert len(row.sha256) == hashlib.sha256().digest_size * 2
