"""``python -m tests.atna.record_repository.page.screenshots``: renew the pictures of docs/security_officer.md."""

import tempfile
from pathlib import Path

from tests.atna.record_repository.page.browser import MISSING, browser, chromium
from tests.atna.record_repository.page.sample_log import SampleLog, Service, patient

FOLDER = Path(__file__).resolve().parents[4] / "docs" / "images"
SINCE, UNTIL = "2026-03-03T00:00", "2026-03-09T23:59"


def main():
    if chromium() is None:
        raise SystemExit(MISSING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        service = Service(folder, SampleLog().week(each_day=60), time_zone="Europe/Luxembourg")
        try:
            with browser() as launched:
                draw(launched, service)
        finally:
            service.close()


def draw(launched, service):
    def picture(name, language, locale, height, *, width=1240, dark=False, then=None, **fields):
        scheme = "dark" if dark else "light"
        context = launched.new_context(
            base_url=service.base, viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale
        )
        page = context.new_page()
        page.goto(f"/log/{language}")
        page.locator("#from").fill(SINCE)
        page.locator("#to").fill(UNTIL)
        for field, value in fields.items():
            page.locator(f"#{field}").fill(value)
        page.locator("button.primary").click()
        if then is not None:
            then(page)
        path = FOLDER / f"security_officer_{name}.png"
        page.screenshot(path=path)
        print(f"{path.relative_to(FOLDER.parents[1])}: {path.stat().st_size // 1024} KiB, {page.title()}")
        context.close()

    def open_emergency(page):
        page.locator(".watch button.open").first.click()

    picture("search", "en", "en-GB", 1130)
    picture("record", "fr", "fr-LU", 900, then=open_emergency)
    picture("patient_dark", "de", "de-LU", 800, dark=True, patient=patient(12))
    picture("narrow", "lb", "de-LU", 1000, width=360)


if __name__ == "__main__":
    main()
