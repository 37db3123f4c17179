"""The soak of documents at one hundredth of its size: the code of ``python -m tests.soak documents``."""

import pytest

from tests.soak.documents import DocumentsPlan, submit
from tests.soak.test_soak import SETTINGS


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_every_acknowledged_document_is_there_though_the_store_fails(tmp_path, kind, request):
    bucket = request.getfixturevalue("object_store") if kind == "bucket" else None
    plan = DocumentsPlan(seed=11, documents=100, threads=4, faults=10, settings=SETTINGS, bucket=bucket)
    report = submit(plan, tmp_path)
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert report.documents == 100, told
    assert sum(report.faults.values()) >= 10, told
    assert report.scrubbed["verified"] == 100, told
