"""The soak of documents at one hundredth of its size: the code of ``python -m tests.soak documents``."""

from tests.soak.documents import DocumentsPlan, submit
from tests.soak.test_soak import SETTINGS


def test_every_acknowledged_document_is_there_though_the_store_fails(tmp_path):
    report = submit(DocumentsPlan(seed=11, documents=100, threads=4, settings=SETTINGS), tmp_path)
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert report.documents == 100, told
    assert sum(report.faults.values()) >= 10, told
    assert report.scrubbed["verified"] == 100, told
