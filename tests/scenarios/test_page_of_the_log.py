"""What was done at the registry is seen by the security officer: processes of their own, a real browser."""

import re
import time

import httpx2
import pytest

from tests.atna.record_repository.page.browser import MISSING, browser, chromium

PATIENT = "PAGE-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"
SEARCH = {"from": "2020-01-01", "patient": PATIENT}
DELIVERY_S = 30


@pytest.fixture(scope="module")
def seen(dossier_server):
    """The page of a search for the patient, when the records of its feed and of a query have arrived."""
    dossier_server.run("feed", "--patient", PATIENT)
    dossier_server.run("find", "--patient", PATIENT)
    deadline = time.monotonic() + DELIVERY_S
    with httpx2.Client(base_url=dossier_server.audit, timeout=10) as client:
        while True:
            answer = client.post("/log/en/search", data=SEARCH)
            codes = set(re.findall(r'own">(ITI-\d+)', answer.text))
            if {"ITI-8", "ITI-18"} <= codes or time.monotonic() > deadline:
                return answer
            time.sleep(0.3)


def test_an_access_is_on_the_page(seen):
    assert seen.status_code == 200
    assert "Patient identity feed" in seen.text
    assert "Registry stored query" in seen.text
    assert "Test environment" in seen.text


@pytest.mark.skipif(chromium() is None, reason=MISSING)
def test_an_access_is_seen_in_a_browser(dossier_server, seen):
    with browser() as launched:
        page = launched.new_page(
            base_url=dossier_server.audit, locale="fr-LU", extra_http_headers={"accept-language": "fr"}
        )
        page.goto("/log")
        assert page.url.endswith("/log/fr")
        page.locator("#patient").fill(PATIENT)
        page.locator("button.primary").click()
        page.locator(".results tbody tr", has_text="ITI-8").first.locator("button.open").click()
        shown = page.locator("main").inner_text()
        assert "Transmission d’identités de patients (ITI-8, IHE Transactions)" in shown
        assert PATIENT in shown
        assert "Découle de l’enregistrement précédent" in shown
