"""The soak of hostile octets at one hundredth of its size: the code of ``python -m tests.soak hostile``."""

from tests.soak.hostile import KINDS, HostilePlan, feed


def test_hostile_octets_are_stored_or_counted_and_the_service_lives(tmp_path):
    report = feed(HostilePlan(seed=5, octets=100_000, threads=2), tmp_path)
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert report.octets >= 100_000, told
    assert all(report.done[kind] for kind in KINDS), told
