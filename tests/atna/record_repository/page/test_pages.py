"""The page over real HTTP: who may look, what is recorded, what stands in an address, and errors as pages."""

import csv
import http.client
import io
import re
import ssl
from contextlib import closing
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import httpx2
import pytest

from atna.iti20_record_audit_event import decode_message
from atna.message import Outcome, parse
from atna.record_repository.indexing import index
from atna.record_repository.page.languages import LANGUAGES
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from atna.store.engine import begin_write
from tests.atna.record_repository.page.sample_log import EMERGENCY, NOW, PEOPLE, SampleLog, Service, patient
from tests.certificates import issue
from wire.settings import PartnerSettings, TlsSettings

SINCE = {"from": "2026-03-01T00:00", "to": "2026-03-10T00:00"}
CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@pytest.fixture(scope="module")
def week():
    return SampleLog().week(each_day=24)


@pytest.fixture(scope="module")
def service(tmp_path_factory, week):
    service = Service(tmp_path_factory.mktemp("log"), week)
    yield service
    service.close()


@pytest.fixture(scope="module")
def store(service):
    store = RecordStore.open(service.url)
    yield store
    store.close()


@pytest.fixture(scope="module")
def client(service):
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        yield client


@pytest.fixture
def broken(tmp_path, week):
    """A service whose database lost a table; yields it and a client."""
    service = Service(tmp_path, week[:3])
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        yield service, client
    service.close()


def uses(store, limit=1):
    """The newest Audit Log Used records: (outcome, log URI, details, reason)."""
    kept = store.find(Criteria(events=(("110101", "DCM"),)), limit=limit)
    messages = [parse(decode_message(stored.message).message) for stored in kept]
    return [
        (
            message.event.outcome,
            message.objects[0].id,
            {detail.type.rpartition(":")[2]: detail.value.decode() for detail in message.objects[0].details},
            message.event.outcome_description,
        )
        for message in messages
    ]


def numbers(html, section="results"):
    """Numbers of the records listed in a section."""
    part = html.partition(f'<section class="{section}')[2].partition("</section>")[0]
    return [int(number) for number in re.findall(r"/records/(\d+)\"", part)]


def test_the_browser_is_led_to_its_language(client):
    answer = client.get("/log", headers={"accept-language": "lb, fr;q=0.5"})
    assert (answer.status_code, answer.headers["location"], answer.headers["vary"]) == (
        303,
        "/log/lb",
        "accept-language",
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_visit_shows_the_last_seven_days_in_its_language(service, store, client, language):
    answer = client.get(f"/log/{language}")
    assert answer.status_code == 200
    assert f'<html lang="{language}">' in answer.text
    assert answer.headers["content-language"] == language
    first = datetime.now(UTC) - timedelta(days=6)
    outcome, uri, details, _reason = uses(store)[0]
    assert (outcome, uri) == (0, f"{service.base}/log/{language}")
    assert re.fullmatch(r"from=\d{4}-\d\d-\d\dT00%3A00", details["search"])
    assert abs(datetime.fromisoformat(details["search"][5:15]) - first.replace(tzinfo=None)) < timedelta(days=2)


@pytest.mark.parametrize(
    "path", ["/log/en", "/log/en/records/1", "/log/en/records/1/message", "/log/en/nothing", "/log/en/records/99999999"]
)
def test_what_is_shown_is_kept_nowhere_and_runs_nothing(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"] == CSP
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "set-cookie" not in headers


def test_nothing_of_a_page_comes_from_elsewhere_or_runs(client):
    html = client.get("/log/en").text
    assert not re.search(r"<script|javascript:|\son\w+=|style=|https?://", html)
    assets = set(re.findall(r'(?:href|src)="(/log/log\.[a-z]+)\?', html))
    assert assets == {"/log/log.css", "/log/log.svg"}
    for asset in assets:
        answer = client.get(asset)
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
        assert not re.search(r"@import|url\((?!#)", answer.text)


def test_a_search_by_every_field(client, store):
    everything = client.post("/log/en/search", data=SINCE).text
    assert len(numbers(everything)) == 50
    person = client.post("/log/en/search", data={**SINCE, "person": PEOPLE[2]}).text
    assert "Schmit, Lea &lt;l.schmit@ch-example.lu&gt;" in person
    assert numbers(client.post("/log/en/search", data={**SINCE, "person": "l.schmit@ch-example.lu"}).text) == numbers(
        person
    )
    for data, shown in (
        ({"patient": patient(12)}, "1960010100012"),
        ({"patient": "1.3.182.4.4|1960010100012"}, "1960010100012"),
        ({"organisation": "dossier-repository@repository.example.lu"}, "ITI-43"),
        ({"organisation": "CN=ward-3,O=CH Example,C=LU", "event": "type:ITI-43"}, "Retrieve documents"),
        ({"use": "emergency"}, "badge"),
        ({"event": "type:110126"}, "Node authentication"),
        ({"event": "event:110113"}, "Node authentication"),
        ({"outcome": "failed"}, "Serious failure"),
    ):
        answer = client.post("/log/en/search", data={**SINCE, **data})
        listed = numbers(answer.text)
        assert listed, data
        rows = answer.text.partition('<section class="results')[2].split("<tr ")[2:]
        assert len(rows) == len(listed)
        assert all(shown in row for row in rows), data
    assert "No record was found" in client.post("/log/en/search", data={**SINCE, "patient": "nobody"}).text


def test_a_search_is_recorded_with_what_was_asked_and_no_address_holds_it(service, store, client):
    answer = client.post("/log/en/search", data={**SINCE, "patient": patient(12), "person": ""})
    outcome, uri, details, _reason = uses(store)[0]
    assert (outcome, uri) == (0, f"{service.base}/log/en/search")
    assert details["search"] == urlencode({**SINCE, "patient": patient(12)})
    addresses = re.findall(r'(?:href|action|formaction|src)="([^"]*)"', answer.text)
    assert len(addresses) > 5
    assert not [address for address in addresses if "1960010100012" in address or "?from" in address]


def test_emergency_and_refused_accesses_stand_on_top(client):
    html = client.post("/log/en/search", data=SINCE).text
    watch = html.partition('<section class="watch')[2].partition("</section>")[0]
    assert "alarmed" in watch
    assert 'Emergency accesses <span class="count">3</span>' in watch
    assert 'Refused or failed <span class="count">3</span>' in watch
    assert watch.count("Serious failure") == 3
    assert watch.count('<span class="badge">') == 3
    assert html.index('id="watch"') < html.index('id="timeline"') < html.index('id="results"')
    succeeded = client.post("/log/en/search", data={**SINCE, "outcome": "success"}).text
    assert 'Refused or failed <span class="count">3</span>' in succeeded
    quiet = client.post("/log/en/search", data={**SINCE, "patient": patient(28)}).text
    assert "No emergency access." in quiet
    assert "alarmed" not in quiet


def test_all_emergency_accesses_are_shown_on_request(tmp_path):
    sample = SampleLog()
    service = Service(tmp_path, [sample.query(n, purpose=EMERGENCY if n % 2 else None) for n in range(60)])
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        html = client.post("/log/en/search", data=SINCE).text
        assert "The newest 10 of 30." in html
        form = html.partition('<form id="only-emergencies"')[2].partition("</form>")[0]
        every = client.post("/log/en/search", data=dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))).text
        assert len(numbers(every)) == 30
    service.close()


def test_pages_show_each_record_once(client, week):
    html, seen, page = client.post("/log/en/search", data=SINCE).text, [], 1
    while True:
        seen += numbers(html)
        older = re.search(r'name="after" value="([^"]*)">Older', html)
        if older is None:
            break
        html = client.post("/log/en/search", data={**SINCE, "after": older[1]}).text
        page += 1
        assert f"Page {page}" in html
        assert 'id="watch"' not in html
    assert len(seen) == len(set(seen)) == len(week)
    newer = re.search(r'name="after" value="([^"]*)"><span aria-hidden="true">←', html)
    back = client.post("/log/en/search", data={**SINCE, "after": newer[1]}).text
    assert f"Page {page - 1}" in back
    assert numbers(back) == seen[(page - 2) * 50 : (page - 1) * 50]


def test_one_record_in_full_and_the_way_back(service, store, client):
    (number, *_rest) = numbers(client.post("/log/en/search", data={**SINCE, "event": "type:110126"}).text)
    alone = client.get(f"/log/en/records/{number}")
    assert "Node authentication (110126, DCM)" in alone.text
    assert "certificate expired" in alone.text
    assert "Follows from the record before" in alone.text
    assert "To the search" in alone.text
    assert uses(store)[0][:2] == (0, f"{service.base}/log/en/records/{number}")
    asked = {**SINCE, "patient": patient(3), "outcome": "failed"}
    carried = client.post(f"/log/de/records/{number}", data=asked).text
    assert "Zurück zu den Ergebnissen" in carried
    form = carried.partition('<form id="carry"')[2]
    assert dict(re.findall(r'name="(\w+)" value="([^"]*)"', form)) == {
        **asked,
        "patient": patient(3).replace("&", "&amp;"),
    }


def test_the_message_of_a_record_is_saved_byte_by_byte(store, client):
    stored = store.find(Criteria(before=int(NOW.timestamp()) * 10**6), limit=1)[0]
    answer = client.get(f"/log/fr/records/{stored.number}/message")
    assert answer.content == stored.message
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="record-{stored.number}.txt"'
    assert uses(store)[0][1].endswith(f"/records/{stored.number}/message")


def test_export_has_every_record_of_the_search_and_is_recorded_first(service, store, client, week):
    answer = client.post("/log/fr/export", data={**SINCE, "after": "1." + "0" * 64})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.search(
        r'attachment; filename="journal-audit-\d{4}-\d\d-\d\d-\d{4}\.csv"', answer.headers["content-disposition"]
    )
    head, *rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""), delimiter=";"))
    assert head[0] == "Numéro"
    assert len(rows) == len(week) > 50
    assert len({row[0] for row in rows}) == len(rows)
    outcome, uri, details, _reason = uses(store)[0]
    assert (outcome, uri, details["search"]) == (
        0,
        f"{service.base}/log/fr/export",
        urlencode({**SINCE, "export": "csv"}),
    )


def test_an_export_above_the_bound_is_refused_whole(tmp_path, week):
    service = Service(tmp_path, week[:11], max_export_rows=10)
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        answer = client.post("/log/en/export", data=SINCE)
        assert answer.status_code == 400
        assert "more than 10 records" in answer.text
        fitting = client.post("/log/en/export", data={**SINCE, "outcome": "failed"})
        assert fitting.status_code == 200
    service.close()


def test_an_export_of_many_chunks(tmp_path):
    sample = SampleLog()
    service = Service(tmp_path, [sample.query(n) for n in range(1201)])
    with httpx2.Client(base_url=service.base, timeout=20) as client:
        body = client.post("/log/en/export", data=SINCE).content.decode("utf-8-sig")
    assert body.count("\r\n") == 1202
    service.close()


@pytest.mark.parametrize(
    ("data", "field", "text"),
    [
        ({"from": ""}, "from", "Indiquez un jour"),
        ({"from": "hier"}, "from", "Ce n’est ni un jour"),
        ({**SINCE, "to": "2026-02-01"}, "to", "La fin précède le début"),
        ({**SINCE, "patient": "9" * 257}, "patient", "256 caractères"),
        ({**SINCE, "patient": "1\0"}, "patient", "Un caractère"),
        ({**SINCE, "event": "type:X"}, "event", "Choisissez"),
    ],
    ids=["nothing", "no-time", "turned", "long", "no-text", "no-choice"],
)
def test_a_fault_is_told_at_its_field_and_recorded(store, client, data, field, text):
    for path in ("search", "export"):
        answer = client.post(f"/log/fr/{path}", data=data)
        assert answer.status_code == 400
        assert re.search(rf'<a href="#{field}">[^<]*{text}', answer.text)
        assert re.search(
            rf'id="{field}"[^>]*aria-describedby="[^"]*{field}-fault"[^>]*aria-invalid="true"', answer.text
        )
        assert uses(store)[0][0] == 8
        assert uses(store)[0][3] == f"refused: {field}"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"from=2026-03-01&who=x", None), (b"from=2026-03-01&from=2026-03-02", None), (b"&".join([b"a=1"] * 30), None),
        (b"from=2026-03-01", "application/json"), (b"from=2026-03-01", "text/plain"), (b"\xff\xfe=\xff", None),
    ],
    ids=["unknown", "twice", "many", "json", "text", "bytes"],
)  # fmt: skip
def test_a_form_that_is_none_of_ours_is_refused(client, body, kind):
    answer = client.post(
        "/log/en/search", content=body, headers={"content-type": kind or "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 400
    assert "The search was not carried out" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/log/xx", 404), ("GET", "/log/en/records/0", 404), ("GET", "/log/en/records/x", 404),
        ("GET", "/log/en/records/999999999999999999999", 404), ("GET", "/log/en/records/99999/message", 404),
        ("GET", "/log/en/a/b/c", 404), ("DELETE", "/log/en/records/1", 405), ("GET", "/log/en/search", 405),
        ("POST", "/log/en", 405), ("PUT", "/log", 405), ("POST", "/log/log.css", 405), ("POST", "/log/nowhere/x", 404),
    ],
)  # fmt: skip
def test_errors_are_pages_in_the_language_asked_for(client, method, path, status):
    answer = client.request(method, path, headers={"accept-language": "en"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "<h1>" in answer.text
    assert "Traceback" not in answer.text
    if status == 405:
        assert answer.headers["allow"]
    german = client.request(method, path.replace("/en", "/de"), headers={"accept-language": "de"})
    assert '<html lang="de">' in german.text


def test_a_large_form_is_refused_by_a_page(client):
    answer = client.post(
        "/log/de/search", content=b"x" * 70_000, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status_code, "Die Anfrage ist zu groß" in answer.text) == (413, True)


def test_another_site_cannot_search_export_or_frame(store, client):
    for path in ("search", "export", "records/1"):
        for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
            answer = client.post(f"/log/en/{path}", data=SINCE, headers=headers)
            assert (answer.status_code, "Refused for your safety" in answer.text) == (403, True)
            assert uses(store)[0][3] == "refused: begun by another site"
    framed = client.get("/log/en", headers={"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"})
    assert framed.status_code == 403
    own = client.post("/log/en/search", data=SINCE, headers={"sec-fetch-site": "same-origin", "origin": "null"})
    assert own.status_code == 200


def test_what_a_record_holds_does_not_act_in_the_page(tmp_path):
    sample = SampleLog()
    evil = "<script>alert(1)</script>\"'&"
    service = Service(
        tmp_path, [sample.query(person=evil, reason=evil, outcome=Outcome.SERIOUS_FAILURE, purpose=EMERGENCY)]
    )
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        for html in (client.post("/log/en/search", data=SINCE).text, client.get("/log/en/records/1").text):
            assert "&lt;script&gt;" in html
            assert "<script" not in html
        asked = client.post("/log/en/search", data={**SINCE, "person": evil, "patient": '"><b>'}).text
        assert "<script" not in asked
        assert 'value="&#34;&gt;&lt;b&gt;"' in asked
    service.close()


@pytest.mark.parametrize("environment", ["test", "production"])
def test_the_environment_stands_on_every_page(tmp_path, week, environment):
    service = Service(tmp_path, week[:2], environment=environment)
    told = {"test": "Test environment", "production": "Production environment"}[environment]
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        for path in ("/log/en", "/log/en/records/1", "/log/en/nothing"):
            assert f'<p class="environment {environment}">{told}</p>' in client.get(path).text
    service.close()


def test_a_database_that_does_not_answer_is_a_page_and_shows_nothing(broken):
    service, client = broken
    store = RecordStore.open(service.url)
    with begin_write(store._engine) as connection:
        connection.exec_driver_sql("DROP TABLE chain_head")
    store.close()
    for answer in (
        client.get("/log/en"),
        client.post("/log/en/search", data=SINCE),
        client.post("/log/en/export", data=SINCE),
        client.get("/log/en/records/1"),
        client.get("/log/en/records/1/message"),
    ):  # it could be read, but not be recorded
        assert answer.status_code == 503
        assert "chain_head" not in answer.text
        assert "19600101" not in answer.text
        assert re.search(r"for the operator: [0-9a-f]{16}", answer.text)


def test_a_defect_of_ours_is_a_page_with_the_number_of_the_request(client, monkeypatch, caplog):
    def defect(*_arguments):
        raise RuntimeError("secret of the house")

    monkeypatch.setattr("atna.record_repository.page.pages.record_shown", defect)
    answer = client.get("/log/en/records/1")
    assert (answer.status_code, "An error on our side" in answer.text) == (500, True)
    assert "secret" not in answer.text
    request = re.search(r"for the operator: ([0-9a-f]{16})", answer.text)[1]
    assert request in caplog.text


def test_an_altered_record_is_told(tmp_path, week):
    service = Service(tmp_path, week[:3])
    store = RecordStore.open(service.url)
    with begin_write(store._engine) as connection:
        connection.exec_driver_sql("UPDATE record SET received_at = received_at + 1 WHERE number = 2")
    store.close()
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        assert "was altered" in client.get("/log/en/records/2").text
        assert "was altered" not in client.get("/log/en/records/1").text
    service.close()


def over_tls(service, folder, name, method, path, body=None):
    """(status, page), asked with the certificate of ``name``."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    with closing(http.client.HTTPSConnection("127.0.0.1", service.port, timeout=10, context=context)) as connection:
        connection.request(method, path, body, {"content-type": "application/x-www-form-urlencoded"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_over_tls_only_listed_partners_read_and_attempts_are_recorded(tmp_path, week):
    folder = issue(tmp_path)
    tls = TlsSettings(certificate=folder / "server.crt", key=folder / "server.key", ca=folder / "ca.crt")
    officer = "CN=server,O=Hospital A"
    service = Service(tmp_path, week, tls, {officer: PartnerSettings(transactions=["ITI-81"])})
    asked = urlencode(SINCE)
    for method, path, body in (
        ("GET", "/log/en", None), ("POST", "/log/en/search", asked), ("POST", "/log/en/export", asked),
        ("GET", "/log/en/records/1", None), ("GET", "/log/en/records/1/message", None),
    ):  # fmt: skip
        status, refused = over_tls(service, folder, "client", method, path, body)
        assert (status, "Not allowed" in refused) == (403, True)
        assert "19600101" not in refused
        assert over_tls(service, folder, "server", method, path, body)[0] == 200
    status, html = over_tls(service, folder, "server", "GET", "/log/fr")
    assert f'Identifié par certificat : <bdi class="code">{officer}</bdi>' in html
    service.close()
    store = RecordStore.open(service.url)
    recorded = uses(store, limit=100)
    assert [use[0] for use in recorded].count(8) == 5
    assert {use[2]["access-rule"] for use in recorded if use[0] == 8} == {"listed-partners-only"}
    store.close()


def test_a_record_that_came_meanwhile_does_not_move_the_pages(tmp_path, week):
    service = Service(tmp_path, week)
    store = RecordStore.open(service.url)
    with httpx2.Client(base_url=service.base, timeout=10) as client:
        first = client.post("/log/en/search", data=SINCE).text
        store.keep([index(SampleLog(NOW + timedelta(minutes=1)).query())])
        older = re.search(r'name="after" value="([^"]*)">Older', first)[1]
        second = client.post("/log/en/search", data={**SINCE, "after": older}).text
        assert not set(numbers(first)) & set(numbers(second))
    store.close()
    service.close()
