"""The benchmark of the audit log, small: it keeps, it checks, and each harm to one record is found by the script alone."""

import itertools

from atna.record_repository.indexing import index
from bench import audit_log


def test_a_small_log_is_checked_and_each_harm_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(audit_log, "BEFORE", 500)
    audit_log.checks(tmp_path, 800)
    said = capsys.readouterr().out
    assert "dossier audit verify, 1300 records" in said
    assert "one record of 800 removed: partition 2026-12: record 901: a record is missing" in said
    assert "one record of 800 altered: partition 2026-12: record 901: the record or its place was altered" in said


def test_its_records_are_read_whole_and_no_two_are_alike():
    made = [index(one) for one in itertools.islice(audit_log.records(), 1000)]
    assert all(one.readable and one.patients and one.users for one in made)
    assert len({one.sha256 for one in made}) == 1000
    assert 2000 < len(made[0].message) < 2500


def test_throughput_is_measured_on_what_is_kept(tmp_path, capsys):
    audit_log.throughput("SQLite", f"sqlite:///{tmp_path}/audit.db", 0.2, lambda: 0.0)
    assert "/s (goal 2000)" in capsys.readouterr().out
