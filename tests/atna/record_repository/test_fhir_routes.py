"""Under /fhir every refusal is an OperationOutcome, and a bound is told with the key of its own setting."""

import json
from contextlib import closing

import httpx2
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome
from prometheus_client import REGISTRY

from atna.fhir_reading import read_resource
from atna.fhir_writing import as_json
from tests.atna.fhir_samples import balp
from tests.atna.record_repository.audit_service import Service

JSON, XML = "application/fhir+json", "application/fhir+xml"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    service = Service(f"sqlite:///{tmp_path_factory.mktemp('routes')}/audit.db", max_fhir_bytes=100_000)
    with closing(httpx2.Client(base_url=service.base, timeout=20, trust_env=False)) as client:
        yield client
    service.close()


def issue(answer, media_type=JSON):
    assert answer.headers["content-type"] == media_type
    told = answer.json() if media_type == JSON else read_resource(answer.content, ("OperationOutcome",))
    (found,) = OperationOutcome.model_validate(told).issue
    return answer.status_code, found.code, found.diagnostics


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/fhir/Patient/1"),
        ("POST", "/fhir/Patient"),
        ("PUT", "/fhir/a/b"),
        ("GET", "/fhir/AuditEvent/1/_history"),
    ],
)
def test_a_path_that_leads_nowhere(http, method, path):
    answer = http.request(method, path)
    assert issue(answer) == (404, "not-found", "there is nothing at this address")
    assert issue(http.request(method, path, headers={"accept": XML}), XML)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/fhir/AuditEvent/1", "GET, HEAD"), ("DELETE", "/fhir/AuditEvent/1", "GET, HEAD"),
        ("PATCH", "/fhir/AuditEvent", "GET, POST, HEAD"), ("GET", "/fhir", "POST"),
        ("GET", "/fhir/AuditEvent/_search", "POST"), ("POST", "/fhir/metadata", "GET, HEAD"),
    ],
)  # fmt: skip
def test_a_method_that_a_path_does_not_have(http, method, path, allow):
    answer = http.request(method, path, content=as_json(balp()) if method == "PUT" else None)
    assert issue(answer) == (405, "not-supported", f"should be {allow}")
    assert answer.headers["allow"] == allow


def test_a_slash_at_the_end_leads_to_the_address_without(http):
    answer = http.post("/fhir/AuditEvent/?_format=json", content=as_json(balp()), headers={"content-type": JSON})
    assert (answer.status_code, answer.headers["location"]) == (307, f"{http.base_url}/fhir/AuditEvent?_format=json")


def counted(limit):
    return REGISTRY.get_sample_value("dossier_limit_reached_total", {"limit": limit}) or 0


@pytest.mark.parametrize("path", ["/fhir", "/fhir/AuditEvent"])
def test_a_body_that_is_too_large_is_told_with_the_setting(http, path):
    before = counted("max_fhir_bytes")
    answer = http.post(path, content=b"{" * 100_001, headers={"content-type": JSON})
    text = "the request is larger than the 100000 bytes allowed (setting max_fhir_bytes)"
    assert issue(answer) == (413, "too-long", text)
    assert counted("max_fhir_bytes") == before + 1


def test_a_form_that_is_too_large_names_no_setting(http):
    answer = http.post("/fhir/AuditEvent/_search", content=b"a=" + b"x" * 70_000, headers=FORM)
    assert issue(answer) == (413, "too-long", "the request is larger than the 65536 bytes allowed")


def test_a_batch_that_is_too_large_names_its_own_setting(tmp_path):
    service = Service(f"sqlite:///{tmp_path}/audit.db", max_batch_bytes=1024**2)
    status, told = service.feed(b"x" * (1024**2 + 1))
    service.close()
    assert (status, json.dumps(told).count("(setting max_batch_bytes)")) == (413, 1)


def test_an_encoding_nobody_undoes(http):
    answer = http.post("/fhir/AuditEvent", content=b"{}", headers={"content-type": JSON, "content-encoding": "br"})
    assert issue(answer)[:2] == (415, "not-supported")


def test_a_defect_of_ours_is_told_with_its_number_alone(http, monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("secret of the house")

    monkeypatch.setattr("atna.record_repository.iti81.parse_search", fail)
    status, code, text = issue(http.get("/fhir/AuditEvent"))
    assert (status, code, text.startswith("internal error, request ")) == (500, "exception", True)
    assert "secret" not in text
