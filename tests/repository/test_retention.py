"""Retention rules: what is due, what the registry keeps, what goes and what is recorded of it."""

import json
import os
import pwd
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update

from atna.message import parse
from ihe import vocabulary as v
from repository import retention, sweep
from repository.retention import Fate, RegistrySilent
from repository.store.keyring import new_line
from repository.store.protocol import StoreUnavailable
from repository.store.tables import documents, outbox
from tests.builders import LOINC, PATIENT, submission, with_code, with_identifier, with_slot, without_slot
from tests.repository.dying import WINDOW_S
from tests.repository.stand import SINK, stand, unique_ids
from tests.repository.test_iti86_remove_documents import Locked, forgotten
from tests.repository.test_registration import Busy

ROOT = Path(__file__).resolve().parents[2]
REPORTS, NOTES = f"11502-2^^{LOINC}", f"34133-9^^{LOINC}"
STRIPPED = (with_slot("hash"), with_slot("size"))
DAY = 24 * 3600
CREATED = int(datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC).timestamp() * 1e6)


def rules(*more, days=30, after="stored", registered="keep"):
    return ({"class_code": REPORTS, "days": days, "after": after, "registered": registered}, *more)


@pytest.fixture
def house(tmp_path):
    with stand(tmp_path, retention=rules()) as running:
        yield running


def stored(house, *datas, **more):
    objects = submission(entries=len(datas), entry=(*STRIPPED, *more.pop("entry", ())), **more)
    answer = house.provide(objects, {f"Document{n:02}": data for n, data in enumerate(datas, 1)})
    assert answer.status == "Success", answer.errors
    return objects


def run(house, *, remove=False, room=None):
    """The report, and what was told of each document."""
    told = {}
    report = retention.run(room or house.room, remove=remove, operator="anna", told=told.__setitem__)
    return report, told


def erased(house):
    rows = house.index.outbox.claim(SINK, 10_000)
    messages = [parse(row.message[row.message.index(b"<AuditMessage") :]) for row in rows]
    return [m for m in messages if m.event.event_id.code == "110110"]


def test_nothing_is_due_before_its_time_and_looking_changes_nothing(house):
    objects = stored(house, b"one", b"two")
    forgotten(house, objects)
    house.room.clock.forward(30 * DAY - 60)
    assert run(house)[1] == {}
    house.room.clock.forward(120)
    report, told = run(house)
    assert told == dict.fromkeys(unique_ids(objects), Fate.REMOVABLE)
    (rule,) = report.rules
    assert (rule.rule, rule.due, rule.removable, rule.removed) == (f"class {REPORTS}: 30 days after stored", 2, 2, 0)
    assert rule.oldest == rule.newest == min(row.since for row in house.rows().values())
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 2
    assert erased(house) == []


def test_what_goes_is_gone_as_by_a_request_and_its_record_names_the_rule(house):
    mine, theirs = stored(house, b"one", b"two"), stored(house, b"three", patient="OTHER^^^&1.2.3&ISO")
    forgotten(house, mine, theirs)
    house.room.clock.forward(31 * DAY)
    report, told = run(house, remove=True)
    assert set(told.values()) == {Fate.REMOVED}
    assert (report.rules[0].due, report.rules[0].removed, report.unclassified) == (3, 3, 0)
    house.assert_nothing_kept()
    assert house.retrieve(*unique_ids(mine)).codes == ["XDSDocumentUniqueIdError"] * 2
    records = {m.objects[0].id: m for m in erased(house)}
    assert set(records) == {PATIENT, "OTHER^^^&1.2.3&ISO"}
    record = records[PATIENT]
    assert (record.event.action, int(record.event.outcome), record.event.type_codes) == ("D", 0, ())
    assert {o.id for o in record.objects[1:]} == set(unique_ids(mine))
    details = {detail.type: detail.value.decode() for detail in record.objects[1].details}
    assert details["urn:dossier:operation"] == f"retention: class {REPORTS}: 30 days after stored"
    assert record.participants[0].user_id == "anna"
    assert run(house)[0].rules[0].due == 0
    assert house.provide(mine, {"Document01": b"one", "Document02": b"two"}).status == "Success"
    assert len(house.registry.received) == 3, "judged anew by the registry"


def test_what_is_still_registered_is_told_and_stays(house):
    kept, gone = stored(house, b"one"), stored(house, b"two")
    forgotten(house, gone)
    house.room.clock.forward(31 * DAY)
    report, told = run(house, remove=True)
    assert told == {unique_ids(kept)[0]: Fate.REGISTERED, unique_ids(gone)[0]: Fate.REMOVED}
    assert (report.rules[0].due, report.rules[0].registered, report.rules[0].removed) == (2, 1, 1)
    assert len(house.retrieve(*unique_ids(kept)).documents()) == 1


def test_a_rule_may_say_that_registered_documents_go(tmp_path):
    with stand(tmp_path, retention=rules(registered="remove")) as house:
        stored(house, b"one")
        house.room.clock.forward(31 * DAY)
        assert set(run(house, remove=True)[1].values()) == {Fate.REMOVED}
        assert house.objects() == {}


def test_a_registry_that_does_not_answer_ends_it_with_nothing_removed(house):
    objects = stored(house, b"one")
    house.registry.silent = True
    house.room.clock.forward(31 * DAY)
    with pytest.raises(RegistrySilent):
        run(house, remove=True)
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 1
    assert house.records()[2] == ("ITI-18", 12)


def test_only_the_class_of_a_rule_is_reached(tmp_path):
    more = {"class_code": NOTES, "days": 400, "after": "stored"}
    with stand(tmp_path, retention=rules(more)) as house:
        reports = stored(house, b"one")
        notes = stored(house, b"two", entry=(with_code(v.ENTRY_CLASS, "34133-9", LOINC),))
        others = stored(house, b"three", entry=(with_code(v.ENTRY_CLASS, "11502-2", "9.9.9"),))
        forgotten(house, reports, notes, others)
        house.room.clock.forward(100 * DAY)
        assert run(house, remove=True)[1] == {unique_ids(reports)[0]: Fate.REMOVED}
        house.room.clock.forward(400 * DAY)
        assert run(house, remove=True)[1] == {unique_ids(notes)[0]: Fate.REMOVED}
        assert len(house.retrieve(*unique_ids(others)).documents()) == 1


def test_creation_counts_from_the_end_of_its_precision_and_needs_a_time(tmp_path):
    with stand(tmp_path, retention=rules(after="creation")) as house:
        exact, year = stored(house, b"one"), stored(house, b"two", entry=(with_slot("creationTime", "2024"),))
        undated = stored(house, b"three", entry=(without_slot("creationTime"),))
        forgotten(house, exact, year, undated)

        def on(*date):
            house.room.clock.ahead += int(datetime(*date, tzinfo=UTC).timestamp() * 1e6) - house.room.clock()

        on(2024, 3, 30, 12, 0, 0)
        assert run(house)[1] == {}
        on(2024, 3, 30, 12, 0, 2)
        report, told = run(house)
        assert told == {unique_ids(exact)[0]: Fate.REMOVABLE}
        assert (report.rules[0].oldest, report.rules[0].undated) == (CREATED, 1)
        on(2025, 1, 30, 23, 59, 58)
        assert len(run(house)[1]) == 1
        on(2025, 1, 31, 0, 0, 1)
        assert len(run(house)[1]) == 2


def test_a_document_is_due_when_every_copy_of_it_is(house):
    same = (with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"),)
    first = stored(house, b"one", entry=same)
    house.room.clock.forward(20 * DAY)
    second = stored(house, b"one", entry=same)
    forgotten(house, first, second)
    house.room.clock.forward(15 * DAY)
    assert run(house, remove=True)[1] == {}
    house.room.clock.forward(20 * DAY)
    report, told = run(house, remove=True)
    assert told == {"1.2.3": Fate.REMOVED}
    assert report.rules[0].removed == 1
    house.assert_nothing_kept()


def test_a_copy_of_another_class_is_due_by_its_own_rule(tmp_path):
    more = {"class_code": NOTES, "days": 90, "after": "creation"}
    with stand(tmp_path, retention=rules(more)) as house:
        same = with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3")
        note = (with_code(v.ENTRY_CLASS, "34133-9", LOINC), with_slot("creationTime", "20010101"))
        forgotten(house, stored(house, b"one", entry=(same, *note)), stored(house, b"one", entry=(same,)))
        (since,) = (row.since for row in house.rows().values() if row.class_code == REPORTS)
        house.room.clock.forward(29 * DAY)
        assert run(house, remove=True)[1] == {}
        house.room.clock.forward(2 * DAY)
        report, told = run(house)
        assert told == {"1.2.3": Fate.REMOVABLE}
        assert (report.rules[0].oldest, report.rules[0].newest) == (since, since)
        assert run(house, remove=True)[0].rules[0].removed == 1
        house.assert_nothing_kept()


def test_records_that_cannot_be_delivered_end_it(house):
    objects = stored(house, b"one")
    forgotten(house, objects)
    house.room.clock.forward(31 * DAY)
    with pytest.raises(StoreUnavailable, match="audit records"):
        run(house, remove=True, room=replace(house.room, index=Busy(house.index)))
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 1


def test_many_documents_go_batch_by_batch(house, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 4)
    objects = [stored(house, *(b"%d" % n for n in range(5))) for _ in range(3)]
    same = (with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"),)
    copies = [stored(house, b"one", entry=same) for _ in range(6)]
    forgotten(house, *objects, *copies)
    house.room.clock.forward(31 * DAY)
    assert run(house)[0].rules[0].due == 16
    assert run(house, remove=True)[0].rules[0].removed == 16
    house.assert_nothing_kept()


def test_documents_of_an_older_database_are_counted_and_left_alone(house):
    objects = stored(house, b"one")
    forgotten(house, objects)
    with house.index._engine.begin() as connection:
        connection.execute(update(documents).values(class_code=None, created=None))
    house.room.clock.forward(1000 * DAY)
    report, told = run(house, remove=True)
    assert (told, report.unclassified) == ({}, 1)
    assert len(house.objects()) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_what_a_store_does_not_delete_is_held_only_in_plain(tmp_path, sealed):
    if sealed:
        (tmp_path / "keys").write_text(new_line("k1"))
    with stand(tmp_path, retention=rules()) as house:
        objects = stored(house, b"one")
        forgotten(house, objects)
        house.room.clock.forward(31 * DAY)
        locked = replace(house.room, store=Locked(house.store))
        told = run(house, remove=True, room=locked)[1]
        assert set(told.values()) == {Fate.REMOVED if sealed else Fate.HELD}
        assert house.retrieve(*unique_ids(objects)).codes == ["XDSDocumentUniqueIdError"]
        assert [(row.state, row.kek) for row in house.rows().values()] == [("removing", None)]
        house.room.clock.forward(WINDOW_S)
        sweep.run_once(house.room)
        house.assert_nothing_kept()


def test_somebody_else_may_remove_what_is_due_meanwhile(house, monkeypatch):
    objects = stored(house, b"one", b"two")
    forgotten(house, objects)
    house.room.clock.forward(31 * DAY)
    one, _ = unique_ids(objects)
    real, first = retention.take_away, []

    def beaten(room, going, messages):
        if not first:
            first.append(True)
            real(room, [document for document in going if document.unique_id == one], [])
        return real(room, going, messages)

    monkeypatch.setattr(retention, "take_away", beaten)
    assert run(house, remove=True)[1] == {unique_ids(objects)[1]: Fate.REMOVED}
    assert [o.id for m in erased(house) for o in m.objects] == [PATIENT, unique_ids(objects)[1]]


def test_the_class_is_kept_as_the_registry_writes_it(house):
    stored(house, b"one", entry=(with_code(v.ENTRY_CLASS, "11502-2", f"urn:oid:{LOINC}"),))
    (row,) = house.rows().values()
    assert (row.class_code, row.created) == (REPORTS, CREATED)


# ------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def settings(house, tmp_path):
    """A file of settings for the command line, on the store and database of the house; rules count from creation."""
    own = house.room.settings
    file = tmp_path / "dossier.toml"
    names = ("database_url", "unique_id", "store", "registry_url")
    lines = [f'{name} = "{getattr(own, name)}"' for name in names]
    rule = ["[[repository.retention]]", f'class_code = "{REPORTS}"', "days = 1"]
    file.write_text("\n".join(["[repository]", *lines, *rule]))
    return str(file)


def test_the_command_shows_and_only_when_told_removes(house, settings, run_command):
    gone, kept = stored(house, b"one"), stored(house, b"two")
    forgotten(house, gone)
    (one,), (two,) = unique_ids(gone), unique_ids(kept)
    base = ("store", "retention", "--config", settings)
    status, out, err = run_command(*base, "--json")
    assert (status, err) == (0, "")
    shown = json.loads(out)
    assert (shown["removed"], shown["unclassified"]) == (False, 0)
    (rule,) = shown["rules"]
    assert {name: rule[name] for name in ("due", "removable", "registered", "removed")} == {
        "due": 2,
        "removable": 1,
        "registered": 1,
        "removed": 0,
    }
    assert rule["oldest"] == rule["newest"] == "2024-02-29T12:00:01Z"
    status, out, _ = run_command(*base, "--list")
    assert status == 0
    assert {tuple(line.split()) for line in out.splitlines()[:2]} == {("removable", one), ("registered", two)}
    assert PATIENT not in out
    assert len(house.retrieve(one, two).documents()) == 2
    status, out, _ = run_command(*base, "--remove", "--list", "--json")
    assert status == 0
    assert {(row["unique_id"], row["fate"]) for row in json.loads(out)["documents"]} == {
        (one, "removed"),
        (two, "registered"),
    }
    assert house.retrieve(one, two).documents() == [(two, b"two")]


@pytest.mark.parametrize("number", [os.getuid(), 54321], ids=["an account", "a number alone"])
def test_the_record_names_the_account_whatever_the_environment_says(house, settings, run_command, monkeypatch, number):
    objects = stored(house, b"one")
    forgotten(house, objects)
    known = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.setattr(os, "getuid", lambda: number)
    assert run_command("store", "retention", "--config", settings, "--remove")[0] == 0
    with house.index._engine.connect() as connection:  # the command has sinks of its own
        rows = connection.execute(select(outbox.c.message).where(outbox.c.sink != SINK)).scalars()
        messages = [parse(bytes(row)[row.index(b"<AuditMessage") :]) for row in rows]
    (record,) = [m for m in messages if m.event.event_id.code == "110110"]
    assert record.participants[0].user_id == ("uid 54321" if number == 54321 else known)


def test_the_command_without_a_registry_ends_with_1_and_removes_nothing(house, settings, run_command):
    objects = stored(house, b"one")
    house.registry.silent = True
    status, _, err = run_command("store", "retention", "--config", settings, "--remove")
    assert (status, "nothing more was removed" in err) == (1, True)
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 1


def test_without_a_rule_the_command_says_how_to_name_one(run_command, tmp_path):
    status, _, err = run_command("store", "retention", "--data", str(tmp_path))
    assert (status, "[[repository.retention]]" in err) == (2, True)


def test_a_command_that_dies_in_the_middle_leaves_each_document_whole_or_gone(house, settings):
    objects = stored(house, b"one", b"two", b"three")
    forgotten(house, objects)
    script = (
        "import os, sys\nfrom repository.store.directory import DirectoryStore\nreal, seen = DirectoryStore.delete, []\n"
        "def delete(store, key):\n    seen.append(key)\n    os._exit(9) if len(seen) == 2 else real(store, key)\n"
        "DirectoryStore.delete = delete\nfrom dossier.__main__ import main\n"
        f"sys.argv = ['dossier', 'store', 'retention', '--remove', '--config', {settings!r}]\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 9, done.stderr
    assert len(house.objects()) == 2
    assert house.retrieve(*unique_ids(objects)).codes == ["XDSDocumentUniqueIdError"] * 3
    house.room.clock.forward(WINDOW_S)
    sweep.run_once(house.room)
    house.assert_nothing_kept()
