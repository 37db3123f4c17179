"""The soak of deliveries at one hundredth of its size: the code of ``python -m tests.soak deliveries``."""

from tests.soak.deliveries import DeliveriesPlan, deliver
from tests.soak.test_soak import SETTINGS


def test_every_transaction_has_its_records_though_the_audit_service_was_away_and_is_killed(tmp_path):
    report = deliver(DeliveriesPlan(seed=5, transactions=100, kills=2, threads=3, settings=SETTINGS), tmp_path)
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert report.waiting >= 100, told
    assert report.struck["audit-1"] == 2, told
    assert all(report.acknowledged.get(f"ITI-{number}") for number in (8, 18, 41, 42)), told
