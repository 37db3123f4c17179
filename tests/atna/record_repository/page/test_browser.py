"""The page in a real browser: by keyboard, without script, for screen readers, narrow, enlarged, dark, in each language."""

import pytest
from axe_playwright_python.sync_playwright import Axe

from atna.record_repository.page.languages import LANGUAGES, catalog
from tests.atna.record_repository.page.browser import MISSING, browser, chromium
from tests.atna.record_repository.page.sample_log import SampleLog, Service, patient

pytestmark = pytest.mark.skipif(chromium() is None, reason=MISSING)

SINCE, UNTIL = "2026-03-01T00:00", "2026-03-10T00:00"
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A log of one page: what looks at every element of it takes long enough."""
    service = Service(tmp_path_factory.mktemp("log"), SampleLog().week(each_day=4))
    yield service
    service.close()


@pytest.fixture(scope="module")
def launched():
    with browser() as launched:
        yield launched


@pytest.fixture
def open_page(launched, service):
    """Opens a page of the log in a window of its own; what the browser complains of fails the test."""
    contexts, complaints = [], []

    def opened(path="/log/en", *, width=1280, **settings):
        context = launched.new_context(base_url=service.base, viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    # an answer of 4xx is told on the console, too
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def search(page, **fields):
    """Fill the form in and send it."""
    for name, value in {"from": SINCE, "to": UNTIL, **fields}.items():
        field = page.locator(f"#{name}")
        if field.evaluate("element => element.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.locator("button.primary").click()


def violations(page):
    response = Axe().run(page, options={"runOnly": {"type": "tag", "values": list(WCAG)}}).response
    return [
        f"{violation['id']}: {node['html'][:120]} {node['any'][:1]}"
        for violation in response["violations"]
        for node in violation["nodes"]
    ]


def record_of(page, text):
    return page.locator(".results tbody tr", has_text=text).first.locator("button.open")


@pytest.mark.parametrize(("width", "scheme", "language"), [(1280, "light", "lb"), (320, "dark", "fr")])
def test_nothing_stands_in_anybodys_way(open_page, width, scheme, language):
    page = open_page(f"/log/{language}", width=width, color_scheme=scheme)
    search(page)
    page.locator("summary").click()
    assert violations(page) == []
    record_of(page, "ITI-18").click()
    assert violations(page) == []
    page.goto(f"/log/{language}")
    search(page, to="2026-01-01T00:00", patient="x")
    assert page.locator("#to").get_attribute("aria-invalid") == "true"
    assert violations(page) == []
    page.goto(f"/log/{language}/records/99999999")
    assert violations(page) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_from_search_to_record_and_back(open_page, language):
    texts = catalog(language)
    page = open_page(f"/log/{language}", locale=language)
    assert page.locator("html").get_attribute("lang") == language
    search(page, patient=patient(12))
    assert page.get_by_role("heading", name=texts["watch.heading"]).is_visible()
    record_of(page, "ITI-43").click()
    assert page.get_by_role("heading", name=texts["record.what"]).is_visible()
    assert texts["purpose.EMERGENCY"] in page.locator("main").inner_text()
    page.get_by_role("button", name=texts["record.back"]).click()
    assert page.locator("#patient").input_value() == patient(12)
    others = {code for code in LANGUAGES if code != language}
    assert {page.locator(".languages button").nth(n).get_attribute("lang") for n in range(3)} == others


def test_the_language_changes_and_the_search_stays(open_page):
    page = open_page("/log/en")
    search(page, patient=patient(12), outcome="success")
    listed = page.locator(".results button.open").all_inner_texts()
    page.get_by_role("button", name="Lëtzebuergesch").click()
    assert page.locator("html").get_attribute("lang") == "lb"
    assert page.locator("#patient").input_value() == patient(12)
    assert page.locator("#outcome").input_value() == "success"
    assert page.locator(".results button.open").all_inner_texts() == listed
    record_of(page, "ITI-").click()
    page.get_by_role("button", name="Français").click()
    assert page.get_by_role("heading", level=1).inner_text().startswith("Enregistrement")
    page.get_by_role("button", name="Retour aux résultats").click()
    assert page.locator(".results button.open").all_inner_texts() == listed


def tab_to(page, wanted):
    """Press Tab until ``wanted`` has the focus, which is always to be seen; what had it on the way."""
    passed = []
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const style = getComputedStyle(document.activeElement), box = document.activeElement.getBoundingClientRect()
                return {html: document.activeElement.outerHTML.slice(0, 80), outline: style.outlineStyle,
                        width: parseFloat(style.outlineWidth), seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight}
            }"""
        )
        assert focused["outline"] != "none", focused
        assert focused["width"] >= 2, focused
        assert focused["seen"], focused
        passed.append(focused["html"])
        if page.locator(wanted).first.evaluate("element => element === document.activeElement"):
            return passed
    raise AssertionError(f"the keyboard does not lead to {wanted}: {passed}")


def test_by_keyboard_alone_from_search_to_record_and_back(open_page):
    page = open_page("/log/en")
    assert len(tab_to(page, ".skip")) == 1
    page.keyboard.press("Enter")
    tab_to(page, "#from")
    page.keyboard.type("030120261200AM")  # the field goes on from day to time by itself
    tab_to(page, "#patient")
    page.keyboard.type("1960010100012")
    page.keyboard.press("Enter")
    page.wait_for_url("**/log/en/search")
    assert page.locator("#from").input_value() == SINCE
    assert page.locator(".watch button.open").count() == 2
    number = page.locator(".watch button.open").first.inner_text()
    tab_to(page, ".watch button.open")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/log/en/records/{number}")
    tab_to(page, ".back button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/log/en/search")
    assert page.locator("#patient").input_value() == "1960010100012"


def test_without_script_everything_works(open_page, tmp_path):
    service = Service(tmp_path, SampleLog().week(each_day=20))
    try:
        walk_without_script(open_page(f"{service.base}/log/fr", java_script_enabled=False))
    finally:
        service.close()


def walk_without_script(page):
    page.locator("#from").fill(SINCE)
    page.locator("button.primary").click()
    first = page.locator(".results button.open").all_inner_texts()
    page.locator(".pages button").click()
    assert page.locator(".pages").inner_text().split("\n")[0].startswith("←")
    assert not set(first) & set(page.locator(".results button.open").all_inner_texts())
    page.locator("summary").click()
    assert page.locator(".numbers").is_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Exporter en CSV").click()
    assert download.value.suggested_filename.endswith(".csv")
    content = download.value.path().read_bytes()
    assert content.startswith('\ufeff"Numéro";'.encode())
    assert content.count(b"\r\n") > len(first)
    page.locator(".results button.open").first.click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Télécharger le message").click()
    assert download.value.path().read_bytes().startswith(b"<8")


@pytest.mark.parametrize(("width", "scale"), [(320, 1), (640, 2)], ids=["narrow", "enlarged"])
def test_narrow_or_enlarged_nothing_is_lost(open_page, width, scale):
    page = open_page(width=width, device_scale_factor=scale)
    search(page)
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.evaluate(
            """() => [...document.querySelectorAll('main *, header *, footer *')].filter(element => {
                const box = element.getBoundingClientRect(), style = getComputedStyle(element)
                return box.width > 1 && box.right > innerWidth + 1 && style.position !== 'absolute'
            }).map(element => element.outerHTML.slice(0, 100))"""
        )
        assert outside == []
        record_of(page, "ITI-43").click() if page.locator(".results").count() else None
    assert page.locator("h1").inner_text().startswith("Record ")


def test_a_narrow_table_still_is_one_and_names_its_columns(open_page):
    page = open_page(width=320)
    search(page, event="type:110126")
    table = page.locator(".results").get_by_role("table")
    assert table.get_by_role("row").count() == 2
    assert table.get_by_role("row").last.get_by_role("cell").count() == 6
    label = table.get_by_role("cell").first.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"Time"'


def test_the_timeline_says_in_words_what_it_draws(open_page):
    page = open_page()
    search(page)
    picture = page.get_by_role("img", name="Bar chart of the records by day")
    assert picture.is_visible()
    assert page.locator("rect.bar.failed").first.evaluate("bar => getComputedStyle(bar).fill").startswith("url(")
    page.locator("summary").click()
    rows = page.locator(".numbers tbody tr")
    shown = [int(rows.nth(n).locator("td").last.inner_text()) for n in range(rows.count())]
    assert rows.count() == 10
    assert f"{sum(shown)} records" in page.locator("#results").inner_text()


def test_another_site_cannot_send_the_form(open_page, service):
    page = open_page("/log/en")
    page.route("http://elsewhere.test/", lambda route: route.fulfill(
        content_type="text/html",
        body=f'<form method="post" action="{service.base}/log/en/export"><input name="from" value="{SINCE}"><button>go</button></form>',
    ))  # fmt: skip
    page.goto("http://elsewhere.test/")
    page.locator("button").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Refused for your safety"


def test_on_paper_there_is_the_list_without_the_form(open_page):
    page = open_page()
    search(page, event="type:110126")
    page.emulate_media(media="print")
    assert not page.locator(".search").is_visible()
    assert not page.locator(".languages").is_visible()
    assert page.locator(".results table").is_visible()
    assert page.locator(".environment").is_visible()
