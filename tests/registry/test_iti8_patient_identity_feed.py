"""ITI-8 over real sockets and a real database: who becomes known, what is answered, what is on record."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import OperationalError

from atna.message import parse
from atna.recorder import Recorder
from atna.store.engine import begin_write, open_engine, reading
from atna.store.outbox import Outbox
from ihe.hl7v2 import parse_feed
from ihe.xua import Caller
from registry.feed import FeedActor
from registry.iti8_patient_identity_feed import FeedRules, Refused, judge
from registry.settings import RegistrySettings
from registry.store.tables import defect, feed_message, metadata, outbox, patient
from tests.feed_server import adt, ask, mllp_server, msa
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from wire.mllp import MllpLimits
from wire.settings import AffinityDomainSettings

OID = "1.3.6.1.4.1.21367.13.20.1000"
OTHER = "1.3.6.1.4.1.21367.13.20.2000"
SINK = "http://127.0.0.1:1/records"


class Room:
    """A registry's feed on a socket, and what its database holds afterwards."""

    def __init__(self, url, **settings):
        self.engine = open_engine(url, metadata)
        self.audit = Outbox(self.engine, outbox, (SINK,), settings.pop("max_rows", 100_000))
        self.clock = [1_790_000_000.0]
        domain = AffinityDomainSettings(**settings.pop("domain", {}))
        self.feed = FeedActor(
            *(self.engine, self.audit, Recorder("registry", None, "dossier-registry", "here")),
            *(domain, RegistrySettings(**settings)),
            now=lambda: self.clock[0],
        )

    def send(self, message, caller=Caller("10.0.0.7", "CN=adt,O=Hospital A")):  # noqa: B008 - frozen
        return self.feed.handle(message, caller)

    def patients(self):
        with reading(self.engine) as connection:
            return {(row.id, row.authority): row for row in connection.execute(select(patient))}

    def records(self):
        with reading(self.engine) as connection:
            rows = connection.execute(select(outbox.c.message).order_by(outbox.c.id)).scalars().all()
        # After the six header fields of RFC 5424 and "-" comes the message itself.
        return [parse(bytes(row)[bytes(row).index(b"<Audit") :]) for row in rows]

    def answers(self):
        with reading(self.engine) as connection:
            return connection.execute(select(feed_message)).all()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def room(url):
    made = Room(url)
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


def told(record):
    """(action, outcome, patient ids) of an audit record."""
    ids = [one.id for one in record.objects]
    return record.event.action, int(record.event.outcome), ids


# ------------------------------------------------------------------------------------------ what becomes known


@pytest.mark.parametrize(("event", "action"), [("A01", "C"), ("A04", "C"), ("A05", "C"), ("A08", "U")])
def test_a_patient_becomes_known_and_it_is_on_record(room, event, action):
    assert msa(room.send(adt(event))) == ("AA", "M1", "")
    (row,) = room.patients().values()
    assert (row.id, row.authority, row.family, row.given, row.birth, row.sex) == (
        *("PAT1", OID),
        *("Müller", "Änne", "19700101", "F"),
    )
    (record,) = room.records()
    assert told(record) == (action, 0, [f"PAT1^^^&{OID}&ISO"])
    assert record.event.type_codes[0].code == "ITI-8"
    source, destination = record.participants[:2]
    assert (source.user_id, destination.user_id) == ("HOSPITAL|ADT", "AD|XDS")
    (object_,) = record.objects
    assert {detail.type: detail.value for detail in object_.details} == {
        "MSH-10": b"M1",
        "urn:dossier:access-rule": b"permit-trusted-node",
    }


def test_an_update_changes_what_it_tells_and_leaves_the_rest(room):
    room.send(adt("A01"))
    room.clock[0] += 60
    update = adt("A08", control="M2").replace("Müller^Änne".encode(), b'Muster^""').replace(b"|19700101|F", b"||")
    assert msa(room.send(update))[0] == "AA"
    (row,) = room.patients().values()
    assert (row.family, row.given, row.birth, row.sex) == ("Muster", None, "19700101", "F")
    assert row.known_since < row.changed_at


@pytest.mark.parametrize("birth", ["20240230", "19701301", "197013", "19700101250000", "unknown"])
def test_a_birth_that_cannot_be_is_left_out_and_recorded(room, birth):
    """The interface engine does not stop for it; what was known before stays."""
    assert msa(room.send(adt("A01")))[0] == "AA"
    wrong = adt("A08", control="M2").replace(b"|19700101|F", f"|{birth}|M".encode())
    assert msa(room.send(wrong))[0] == "AA"
    (row,) = room.patients().values()
    assert (row.birth, row.sex) == ("19700101", "M")
    with reading(room.engine) as connection:
        (told,) = connection.execute(select(defect.c.partner, defect.c.code, defect.c.context)).all()
    assert told == ("CN=adt,O=Hospital A", "ITI-8", "PID-7: the time of birth is not in the calendar; it was not kept")


@pytest.mark.parametrize("birth", ["1970", "197001", "197001011230", "19700101123000.1234+0100"])
def test_a_birth_is_kept_as_it_came(room, birth):
    room.send(adt("A01").replace(b"|19700101|F", f"|{birth}|F".encode()))
    (row,) = room.patients().values()
    assert row.birth == birth
    with reading(room.engine) as connection:
        assert connection.execute(select(defect)).all() == []


def test_every_listed_repetition_becomes_known_with_a_record_each(small):
    room = small(domain={"assigning_authorities": (OID, OTHER), "authority_names": {"HOSP": OTHER}})
    pid3 = f"1^^^&{OID}&ISO~2^^^HOSP~3^^^&1.9.9&ISO~4^^^NOWHERE~5^^^HOSP&{OID}&iso^PI~1^^^&urn:oid:{OID}&ISO"
    assert msa(room.send(adt(pid3=pid3)))[0] == "AA"
    assert set(room.patients()) == {("1", OID), ("2", OTHER), ("5", OID)}
    assert [told(record)[2] for record in room.records()] == [
        [f"1^^^&{OID}&ISO"],
        [f"2^^^&{OTHER}&ISO"],
        [f"5^^^&{OID}&ISO"],
    ]


def test_an_id_is_known_by_its_unescaped_text(room):
    room.send(adt(pid3=rf"A\T\B^^^&{OID}&ISO"))
    assert set(room.patients()) == {("A&B", OID)}
    assert told(room.records()[0])[2] == [rf"A\T\B^^^&{OID}&ISO"]


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "pid3",
    [
        f"1^^^&{OTHER}&ISO",
        "1^^^UNKNOWN",
        "1",
        "",
        f"^^^&{OID}&ISO",
        f"1^^^&{OID}&DNS",
        "1^^^&1.02.3&ISO",
        f"{'9' * 250}^^^&{OID}&ISO",
    ],
)
def test_no_usable_id_is_an_error_that_says_what_is_expected(small, pid3):
    room = small(domain={"assigning_authorities": (OID,)})
    answer = room.send(adt(pid3=pid3, control="M4"))
    code, control, text = msa(answer)
    assert (code, control) == ("AE", "M4")
    assert "PID-3" in text and OID in text
    assert b"ERR|PID^1^3^204&Unknown key identifier" in answer
    assert room.patients() == {}
    assert room.answers() == []
    (record,) = room.records()
    assert told(record)[:2] == ("C", 8)
    assert "AE 204" in record.event.outcome_description


def test_a_refused_id_is_on_record_as_it_came(small):
    room = small(domain={"assigning_authorities": (OID,)})
    room.send(adt(pid3=f"1^^^&{OTHER}&ISO~2^^^UNKNOWN"))
    assert [told(record)[2] for record in room.records()] == [[f"1^^^&{OTHER}&ISO"], ["2^^^UNKNOWN"]]


def test_what_is_no_adt_is_rejected(room):
    answer = room.send(adt().replace(b"ADT^A01^ADT_A01", b"ORU^R01^ORU_R01"))
    assert msa(answer)[0] == "AR"
    assert b"ERR|MSH^1^9^200&Unsupported message type" in answer
    assert told(room.records()[0])[1] == 8


def test_a_message_without_control_id_is_rejected(room):
    answer = room.send(adt(control=""))
    assert msa(answer)[:2] == ("AR", "")
    assert b"MSH^1^10^101&Required field missing" in answer


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08"])
@pytest.mark.parametrize("extra", [f"PID|||PAT2^^^&{OID}&ISO\r", f"MRG|OLD^^^&{OID}&ISO\r"], ids=["PID", "MRG"])
def test_what_an_event_has_no_place_for_is_never_silently_left_out(small, event, extra):
    room = small()
    answer = room.send(adt(event, extra=extra))
    assert msa(answer)[0] == "AE" and "nothing was done" in msa(answer)[2]
    assert f"ERR|{extra[:3]}^".encode() in answer and b"&Segment sequence error&" in answer
    assert room.patients() == {}
    assert [told(record)[1:] for record in room.records()] == [(8, [f"PAT1^^^&{OID}&ISO"])]
    assert msa(room.send(adt(event, extra="MRG|\rNTE|PID\r")))[0] == "AA"


@pytest.mark.parametrize("data", [b"", b"hello", b"MSH|^~\\&|", b"\xff\xfe" * 50])
def test_what_is_no_hl7_is_answered_and_on_record(room, data):
    assert msa(room.send(data))[0] == "AR"
    assert room.patients() == {}
    assert [told(record)[1:] for record in room.records()] == [(8, [])]


@pytest.mark.parametrize("event", ["A18", "A24", "A29", "A34", "A41", "A47", "A51"])
@pytest.mark.parametrize("setting", ["accept", "reject"])
def test_what_cannot_be_followed_is_never_silently_accepted(small, event, setting):
    room = small(feed_other_events=setting)
    room.send(adt(pid3=f"NEW^^^&{OID}&ISO"))
    answer = room.send(adt(event, pid3=f"NEW^^^&{OID}&ISO", control="M40", extra=f"MRG|NEVER^^^&{OID}&ISO\r"))
    code, control, text = msa(answer)
    assert (code, control) == ("AR", "M40")
    assert event in text and "not supported" in text
    assert set(room.patients()) == {("NEW", OID)}
    assert [told(record)[1] for record in room.records()] == [0, 8]


@pytest.mark.parametrize("event", ["A02", "A03", "A11", "A28", "A31", "Z99"])
def test_other_events_by_the_setting(small, event):
    accepting, rejecting = small(feed_other_events="accept"), small(feed_other_events="reject")
    assert msa(accepting.send(adt(event))) == ("AA", "M1", "")
    code, _, text = msa(rejecting.send(adt(event)))
    assert code == "AR" and "A08" in text
    assert accepting.patients() == rejecting.patients() == {}
    assert accepting.records() == []
    assert [told(record)[1] for record in rejecting.records()] == [8]


# ------------------------------------------------------------------------------------------ repetitions


def test_the_same_message_again_gets_the_same_answer_and_does_nothing(room):
    first = room.send(adt())
    room.clock[0] += 3600
    assert room.send(adt()) == first
    assert len(room.records()) == 1
    (kept,) = room.answers()
    assert kept.sha256 == hashlib.sha256(adt()).hexdigest()


def test_another_message_with_the_same_control_id_is_handled(room):
    first = room.send(adt())
    second = room.send(adt(pid3=f"PAT2^^^&{OID}&ISO"))
    assert msa(second)[0] == "AA" and second != first
    assert {key[0] for key in room.patients()} == {"PAT1", "PAT2"}
    assert len(room.answers()) == 1


def test_another_sender_may_use_the_same_control_id(room):
    room.send(adt())
    room.send(adt(), Caller("10.0.0.8"))
    room.send(adt().replace(b"HOSPITAL", b"CLINIC"))
    assert len(room.answers()) == 3
    assert len(room.records()) == 3


def test_a_refusal_is_judged_anew_once_the_setting_is_right(tmp_path):
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    strict = Room(url, domain={"assigning_authorities": (OTHER,)})
    assert msa(strict.send(adt()))[0] == "AE"
    strict.engine.dispose()
    right = Room(url, domain={"assigning_authorities": (OID, OTHER)})
    assert msa(right.send(adt()))[0] == "AA"
    right.engine.dispose()


def test_answers_are_forgotten_after_their_time(small):
    room = small(feed_answer_days=2)
    room.send(adt(control="OLD"))
    room.clock[0] += 3 * 86_400
    room.send(adt(control="NEW"))
    assert [row.control_id for row in room.answers()] == ["NEW"]


# ------------------------------------------------------------------------------------------ the store fails


def test_a_database_that_fails_in_the_middle_keeps_nothing(small, monkeypatch):
    room = small()

    def no_audit(*_):
        raise OperationalError("INSERT", {}, Exception("disk I/O error"))

    monkeypatch.setattr("registry.store.patients.add", no_audit)
    code, control, text = msa(room.send(adt()))
    assert (code, control) == ("AE", "M1")
    assert "send the message again" in text and "disk" not in text and "INSERT" not in text
    assert room.patients() == {} and room.answers() == []
    monkeypatch.undo()
    assert msa(room.send(adt()))[0] == "AA"
    assert len(room.patients()) == len(room.records()) == 1


def test_a_database_file_that_is_full_is_named(small):
    room = small()
    with begin_write(room.engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    from sqlalchemy import event

    @event.listens_for(room.engine, "begin")
    def tight(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")

    codes = [msa(room.send(adt(pid3=f"{n}{'x' * 200}^^^&{OID}&ISO", control=str(n)))) for n in range(100)]
    refused = [text for code, _, text in codes if code == "AE"]
    assert refused and all("no room" in text for text in refused)
    accepted = sum(code == "AA" for code, _, _ in codes)
    assert accepted == len(room.patients()) == len(room.answers()) == len(room.records())


def test_a_full_outbox_makes_the_registry_busy(small):
    room = small(max_rows=1)
    with begin_write(room.engine) as connection:
        connection.execute(insert(outbox), [{"sink": SINK, "created_at": 1, "message": b"x"}] * 2)
    assert msa(room.send(adt()))[0] == "AE"
    assert room.patients() == {}


def test_two_feeds_add_the_same_patients_at_once(room):
    def feed(number):
        return [
            msa(room.send(adt(pid3=f"P{n}^^^&{OID}&ISO", control=f"{number}-{n}"), Caller(f"10.0.0.{number}")))[0]
            for n in range(25)
        ]

    with ThreadPoolExecutor(6) as threads:
        codes = [code for answers in threads.map(feed, range(6)) for code in answers]
    assert set(codes) == {"AA"}
    assert len(room.patients()) == 25
    assert len(room.records()) == 150


# ------------------------------------------------------------------------------------------ over the wire


def test_the_variants_of_the_field_over_one_socket(small):
    room = small(domain={"assigning_authorities": (OID,)})
    with mllp_server(room.feed.handle) as server, server.connect() as line:
        assert msa(ask(line, adt(control="1", pid3=f"A^^^&{OID}&ISO", charset="8859/1", encoding="latin-1")))[0] == "AA"
        assert msa(ask(line, adt(control="2", pid3=f"B^^^&{OID}&ISO", charset="UNICODE UTF-8")))[0] == "AA"
        assert msa(ask(line, adt(control="3", pid3=f"C^^^&{OID}&ISO", encoding="latin-1")))[0] == "AA"
        line.sendall(b"\x0b" + adt(control="4", pid3=f"HALF^^^&{OID}&ISO"))
        line.sendall(b"\x0b" + adt(control="5", pid3=f"D^^^&{OID}&ISO~E^^^&{OID}&ISO") + b"\x1c\r")
        answers = b""
        while answers.count(b"\x1c\r") < 2:
            answers += line.recv(65536)
        half, whole = answers.split(b"\x1c\r")[:2]
        assert (msa(half)[:2], msa(whole)[:2]) == (("AE", "4"), ("AA", "5"))
        assert msa(ask(line, adt("A40", control="6", extra=f"MRG|X^^^&{OID}&ISO\r")))[:2] == ("AE", "6")
        assert msa(ask(line, adt("A02", control="7")))[:2] == ("AA", "7")
    assert {key[0]: row.family for key, row in room.patients().items()} == dict.fromkeys("ABCDE", "Müller")


def test_a_huge_message_is_refused_and_the_feed_goes_on(small):
    room = small()
    with mllp_server(room.feed.handle, limits=MllpLimits(max_message_bytes=100_000)) as server:
        with server.connect() as line:
            assert msa(ask(line, adt(control="BIG", extra="OBX|" + "x" * 200_000)))[:2] == ("AR", "BIG")
            assert msa(ask(line, adt(control="2", extra="OBX|" + "x" * 90_000)))[:2] == ("AA", "2")
    assert len(room.patients()) == 1


def test_a_thousand_messages_on_one_connection_are_all_kept(small):
    room = small()
    with mllp_server(room.feed.handle) as server, server.connect() as line:
        for number in range(1000):
            code, control, _ = msa(ask(line, adt(pid3=f"{number}^^^&{OID}&ISO", control=str(number))))
            assert (code, control) == ("AA", str(number))
    assert len(room.patients()) == len(room.records()) == 1000


def test_parallel_connections(small):
    room = small()
    with mllp_server(room.feed.handle) as server:

        def one(number):
            with server.connect(timeout=30) as line:
                return [
                    msa(ask(line, adt(pid3=f"{number}-{n}^^^&{OID}&ISO", control=f"{number}-{n}")))[0]
                    for n in range(20)
                ]

        with ThreadPoolExecutor(10) as threads:
            assert {code for codes in threads.map(one, range(10)) for code in codes} == {"AA"}
    assert len(room.patients()) == 200


def test_no_patient_in_any_log_line(small, caplog):
    room = small(domain={"assigning_authorities": (OTHER,)})
    caplog.set_level(0)
    room.send(adt(pid3=rf"PAT1\Q\^^^&{OID}&ISO"))
    room.send(adt(pid3=f"PAT1^^^&{OTHER}&ISO"))
    room.send(b"MSH|^~\\&|PAT1")
    assert "PAT1" not in caplog.text and "ller" not in caplog.text


# ------------------------------------------------------------------------------------------ the judge alone


def test_judge_is_pure_and_names_a_few_authorities_only():
    rules = FeedRules(frozenset(f"1.2.{n}" for n in range(10)))
    with pytest.raises(Refused) as caught:
        judge(parse_feed(adt()), rules)
    assert "or 7 more" in caught.value.problem.text
    assert len(caught.value.problem.text) < 200


def test_no_listed_authority_means_any():
    change = judge(parse_feed(adt(pid3="1^^^&1.2.3&ISO~2^^^&1.2.4&ISO")), FeedRules())
    assert change.patients == (("1", "1.2.3"), ("2", "1.2.4"))


# ------------------------------------------------------------------------------------------ matricules

MATRICULE, WRONG_MATRICULE = "1893120105732", "1893120105742"


def test_a_wrong_matricule_is_refused_by_the_rule_it_breaks(small):
    room = small(domain={"matricule_authority": OID, "matricule": "strict"})
    answer = room.send(adt(pid3=f"{WRONG_MATRICULE}^^^&{OID}&ISO~1^^^&{OTHER}&ISO"))
    code, _control, text = msa(answer)
    assert code == "AE"
    assert "Luhn digit" in text and WRONG_MATRICULE.encode() not in answer
    assert b"ERR|PID^1^3^102&" in answer
    assert room.patients() == {}
    assert msa(room.send(adt(pid3=f"{MATRICULE}^^^&{OID}&ISO~1^^^&{OTHER}&ISO")))[0] == "AA"


def test_a_wrong_matricule_is_let_pass_and_listed(url):
    room = Room(url, domain={"matricule_authority": [OID]})
    try:
        assert msa(room.send(adt(pid3=f"{WRONG_MATRICULE}^^^&{OID}&ISO")))[0] == "AA"
        with reading(room.engine) as connection:
            ((partner, code, context),) = connection.execute(
                select(defect.c.partner, defect.c.code, defect.c.context)
            ).all()
        assert (partner, code) == ("CN=adt,O=Hospital A", "ITI-8")
        assert "Luhn" in context and WRONG_MATRICULE not in context
        assert set(room.patients()) == {(WRONG_MATRICULE, OID)}
    finally:
        room.engine.dispose()
