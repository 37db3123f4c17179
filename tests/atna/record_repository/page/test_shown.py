"""One record as a line, in full and as CSV: everything told, nothing invisible, nothing that acts."""

import csv
import io
import re
from datetime import UTC
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from atna.message import Outcome
from atna.node_events import audit_log_used
from atna.participants import serving
from atna.record_repository.indexing import index
from atna.record_repository.page.csv_export import COLUMNS, csv_head, csv_rows
from atna.record_repository.page.detail import MAX_ITEMS, MAX_RAW, record_shown
from atna.record_repository.page.languages import LANGUAGES, Texts
from atna.record_repository.page.lines import MAX_READ_BYTES, line
from atna.record_repository.page.shown import bounded, decoded, detail_text, visible
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from ihe.xua import Caller
from tests.atna.record_repository.page.sample_log import EMERGENCY, PEOPLE, SampleLog, patient

TEXTS = Texts("en", ZoneInfo("Europe/Luxembourg"))


@pytest.fixture
def log(sqlite_url):
    store = RecordStore.open(sqlite_url)
    yield store
    store.close()


@pytest.fixture
def kept(log):
    """Keeps a message; the record and its place."""

    def keep(message):
        log.keep([index(message)])
        (newest,) = (stored for stored in log.find(Criteria(), limit=9) if stored.message == message)
        return newest, log.place(newest.number)

    return keep


def facts(shown):
    return {fact.label: fact.values for fact in shown}


def test_a_line_tells_when_what_how_who_about_whom(kept):
    stored, _place = kept(SampleLog().query(7, person=PEOPLE[0], purpose=EMERGENCY))
    shown = line(stored, TEXTS)
    assert (shown.time, shown.event, shown.code, shown.action) == (
        "9 Mar 2026, 16:20:00",
        "Registry stored query",
        "ITI-18",
        "Execute",
    )
    assert (shown.outcome.kind, shown.outcome.symbol, shown.outcome.text) == ("success", "✓", "Success")
    assert shown.who == (PEOPLE[0],)
    assert shown.patients == (("1960010100007", "1.3.182.4.4"),)
    assert shown.source == "dossier-registry@registry.example.lu"
    assert shown.purposes == ("Emergency",)


def test_without_a_person_the_node_that_asked_is_named(kept):
    stored, _place = kept(SampleLog().query(7, outcome=Outcome.MAJOR_FAILURE))
    shown = line(stored, Texts("fr", UTC))
    assert shown.who == ("10.1.4.21",)
    assert (shown.outcome.kind, shown.outcome.text, shown.purposes) == ("failed", "Échec majeur", ())


def test_what_cannot_be_read_or_is_very_large_has_a_line_too(kept):
    stored, _place = kept(b"<85>1 2026-03-01T10:00:00Z h a p m - half a mess")
    assert line(stored, TEXTS).note == "Record that cannot be read"
    assert line(stored, TEXTS).outcome.kind == "unknown"
    large, _place = kept(
        SampleLog().query().replace(b"<ParticipantObjectDetail", b" " * MAX_READ_BYTES + b"<ParticipantObjectDetail", 1)
    )
    assert large.readable
    assert line(large, TEXTS).note.startswith("Very large record")


def test_a_record_in_full(kept):
    stored, place = kept(
        SampleLog().retrieval(9, person=PEOPLE[1], outcome=Outcome.SERIOUS_FAILURE, reason="XDSRepositoryError")
    )
    shown = record_shown(stored, place, TEXTS)
    event, where = facts(shown.event), facts(shown.place)
    assert event["Event"] == ("Export (110106, DCM)",)
    assert event["Transaction or type"] == ("Retrieve documents (ITI-43, IHE Transactions)",)
    assert event["Outcome"] == ("Serious failure (8)",)
    assert event["Description of the outcome"] == ("XDSRepositoryError",)
    assert event["Time (UTC)"] == ("2026-03-09T15:20:00.000000Z",)
    assert (where["Number"], where["State of the link"]) == (("1",), ("Follows from the record before",))
    assert where["SHA-256 of the message"] == (stored.sha256.hex(),)
    assert where["Received again"] == ("Never",)
    assert [facts(each).get("Name") for each in shown.participants][-1] == (PEOPLE[1],)
    assert facts(shown.participants[0])["Network address"] == ("repository.example.lu (name)",)
    about, document = (facts(each) for each in shown.objects)
    assert about["Identifier"] == (patient(9),)
    assert document["Repository"] == ("1.3.182.4.6",)
    assert document["Home community"] == ("urn:oid:1.3.182.4.5",)
    assert facts(shown.source)["Environment"] == ("Test",)
    assert facts(shown.syslog)["Application"] == ("dossier-repository",)
    assert shown.raw == stored.message.decode()


def test_a_query_and_a_search_of_the_log_are_decoded(kept):
    stored, place = kept(SampleLog().query())
    asked = facts(record_shown(stored, place, TEXTS).objects[1])
    assert asked["Query"][0].startswith("<query:AdhocQueryRequest")
    parties = serving(Caller("127.0.0.1"), "http://127.0.0.1/log/en/search", "1")
    search = urlencode({"patient": "p1^^^&1.2&ISO", "from": "2026-03-01T00:00"})
    used = audit_log_used(parties, log_uri="http://127.0.0.1/log/en/search", outcome=Outcome.SUCCESS, search=search)
    stored, place = kept(SampleLog()._record("registry", used))
    (detail,) = (fact for fact in record_shown(stored, place, TEXTS).objects[0] if fact.label == "Search in the log")
    assert detail.values == ("patient: p1^^^&1.2&ISO\nfrom: 2026-03-01T00:00",)
    assert detail.block


def test_an_unreadable_record_shows_its_bytes(kept):
    stored, place = kept(b"\xff\x00 no syslog \x1b[31m")
    shown = record_shown(stored, place, TEXTS)
    assert not shown.readable
    assert shown.raw == "\ufffd\u2400 no syslog \u241b[31m"
    assert (shown.event, shown.participants, shown.syslog) == ((), (), ())


def test_a_record_without_end_is_cut_and_it_is_told(kept):
    message = SampleLog().query()
    many = message.replace(
        b"<AuditSourceIdentification",
        b'<ActiveParticipant UserID="u" UserIsRequestor="true"/>' * 2000 + b"<AuditSourceIdentification",
    )
    shown = record_shown(*kept(many), TEXTS)
    assert len(shown.participants) == MAX_ITEMS
    assert shown.more_participants == 2003 - MAX_ITEMS
    assert (shown.shown, shown.size) == (MAX_RAW, len(many))


@pytest.mark.parametrize("code", [
    0xAD, 0x34F, 0x115F, 0x1160, 0x17B4, 0x180B, 0x180E, 0x2065, 0x206A, 0x206F, 0x2800, 0x3164, 0xFE0F, 0xFFA0, 0xFFF9,
    0x13430, 0x1BCA0, 0x1D173, 0xE0001, 0xE0041, 0xE0100,
])  # fmt: skip
def test_what_has_no_glyph_is_shown_by_its_number(code):
    assert visible(f"p1{chr(code)}") == f"p1[U+{code:04X}]"


def test_what_is_seen_stays():
    seen = "Zoë Müller-Weiß  \u0600 \u06dd 山田 \U0001f3e5 a\u0301"
    assert visible(seen) == seen


def test_what_reorders_or_hides_text_is_shown():
    assert visible("a\u202eb\u200bc\x07") == "a[U+202E]b[U+200B]c\u2407"
    assert visible("a\r\nb\rc\x7f") == "a\nb\nc\u2421"
    assert bounded("abcdef", 4) == "abc…"
    assert decoded(b"\xc3\xbc\xff") == "ü\ufffd"
    assert detail_text("x", b"\xff\xfe") == "ff fe"
    assert detail_text("urn:dossier:search", b"a=1&" * 200).startswith("a=1&a=1")


@pytest.fixture
def evil(kept):
    """A record whose values would act in a spreadsheet or a page."""
    message = SampleLog().query(1, person='=HYPERLINK("http://evil")', reason="  +1+cmd|' /C calc'!A0")
    return kept(message.replace(b"1960010100001", b"-2+3;&quot;x&quot;&#10;@SUM(1)"))[0]


def table(*records, texts=TEXTS):
    text = (csv_head(texts) + csv_rows(records, texts)).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))


def test_csv_has_no_formula_and_a_record_a_line(evil):
    head, row = table(evil)
    assert len(row) == len(head) == len(COLUMNS)
    told = dict(zip(head, row, strict=True))
    assert told["Asked for it"].startswith("10.1.4.21 | =HYPERLINK")  # not at the beginning: text
    assert told["Description of the outcome"] == "'  +1+cmd|' /C calc'!A0"
    assert told["Patient"] == '\'-2+3;"x" @SUM(1)^^^&1.3.182.4.4&ISO'
    for cell in row:
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
        assert "\n" not in cell


def test_csv_tells_codes_and_their_names_in_the_language(kept):
    stored, _place = kept(SampleLog().query(3, outcome=Outcome.SERIOUS_FAILURE))
    head, row = table(stored, texts=Texts("de", ZoneInfo("Europe/Luxembourg")))
    told = dict(zip(head, row, strict=True))
    assert told["Zeit"] == "2026-03-09T16:20:00.000000+01:00"
    assert told["Zeit (UTC)"] == "2026-03-09T15:20:00.000000Z"
    assert (told["Code des Ergebnisses"], told["Ergebnis"]) == ("8", "Schwerer Fehler")
    assert told["Patient"] == patient(3)


def test_csv_is_utf8_with_bom_and_keeps_a_line_for_what_cannot_be_read(kept):
    stored, _place = kept(b"junk")
    assert csv_head(TEXTS).startswith(b"\xef\xbb\xbf")
    assert csv_rows([stored], TEXTS).endswith(b"\r\n")
    _head, row = table(stored)
    assert (row[0], row[4]) == ("1", "Record that cannot be read")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_record_of_a_week_is_told_in_every_language(log, language):
    texts = Texts(language, UTC)
    log.keep([index(message) for message in SampleLog().week(each_day=6)])
    records = log.find(Criteria(), limit=100)
    assert len(table(*records, texts=texts)) == len(records) + 1
    for stored in records:
        shown = line(stored, texts)
        assert not shown.note
        assert shown.outcome.text in {texts.named("outcome", code) for code in (0, 8)}
        assert record_shown(stored, log.place(stored.number), texts).follows


@pytest.mark.parametrize("element", ["EventID", "EventTypeCode"])
def test_what_an_event_is_called_is_visible_and_bounded(kept, element):
    message = SampleLog().query(7, person=PEOPLE[0], purpose=EMERGENCY)
    code = f'<{element} csd-code="x&#x202e;y&#x200b;z" codeSystemName="o" originalText="{"long" * 100_000}"/>'.encode()
    altered = re.sub(rb"<%s[^>]*/>" % element.encode(), code, message)
    assert altered != message
    shown = record_shown(*kept(altered), TEXTS)
    assert shown.readable
    texts = [shown.title, *(value for fact in shown.event for value in fact.values)]
    assert not {"\u202e", "\u200b"} & set("".join(texts))
    assert sum(map(len, texts)) < 64_000
