"""kill -9 at the steps that take back, and at every step of the sweep: nothing is lost, nothing is left over.

The steps that bring a document in are those of ``test_registration``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from repository import sweep
from repository.room import StagedDocument
from repository.store.keyring import new_line
from tests.builders import submission, with_slot
from tests.repository.dying import WINDOW_S
from tests.repository.stand import Act, ScriptedRegistry, provide, served, stand, unique_ids, unknown_patient

ROOT = Path(__file__).parents[2]
LARGE = os.urandom(6_000_000)
"""More than one part of a multipart upload."""
PLAIN = (with_slot("hash"), with_slot("size"))
WRONG_HASH = (with_slot("hash", "0" * 40), with_slot("size"))

# Why a submission is taken back: size of its document, what the registry does, what the store does, its metadata
WHY = {
    "refused": (b"small", unknown_patient, None, PLAIN),
    "refused large": (LARGE, unknown_patient, None, PLAIN),
    "wrong hash": (LARGE, Act, None, WRONG_HASH),
    "store away": (b"small", Act, ("finish", "unanswered"), PLAIN),
    "store away large": (LARGE, Act, ("finish", "unanswered"), PLAIN),
    "store stuck large": (LARGE, Act, ("abort", "timeout"), WRONG_HASH),
    "no answer": (LARGE, lambda: Act(takes=False, answer=None), None, PLAIN),
    "answer lost": (LARGE, lambda: Act(answer=None), None, PLAIN),
    "in parts": (LARGE, Act, None, PLAIN),
}
BACK = [
    ("refused", "store", "delete", "after", 1),
    ("refused", "index", "abandon", "before", 1),
    ("refused", "index", "abandon", "after", 1),
    ("refused large", "store", "delete", "before", 1),
    ("wrong hash", "upload", "abort", "before", 1),
    ("wrong hash", "upload", "abort", "after", 1),
    ("wrong hash", "index", "unstage", "after", 1),
    ("store away", "store", "delete", "before", 1),
    ("store away", "index", "abandon", "after", 1),
    ("store away large", "upload", "abort", "after", 1),
    ("store away large", "index", "leave", "before", 1),
    ("store away large", "index", "leave", "after", 1),
    ("store stuck large", "index", "leave", "after", 1),
    ("no answer", "index", "told", "before", 1),
    ("no answer", "index", "told", "after", 1),
    ("answer lost", "registry", "ask", "after", 1),
    ("answer lost", "index", "complete", "before", 1),
    ("in parts", "upload", "write", "after", 1),
    ("in parts", "upload", "write", "after", 3),
]


def killed(folder, registry_url, **plan):
    """Start a repository that will die; gives the process."""
    plan = {"job": "serve", "moment": "after", "nth": 1, "fault": None, "settings": {}} | plan
    command = [sys.executable, "-m", "tests.repository.dying", str(folder), registry_url, json.dumps(plan)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def ended(process):
    try:
        return process.wait(30)
    finally:
        process.kill()
        process.stdout.close()


def swept(house):
    """Twice: what a store may still do late is waited for."""
    for whole in (False, True):
        house.room.clock.forward(WINDOW_S)
        report = sweep.run_once(house.room, staging_age_s=0, orphans=whole)
        assert report.orphans == report.damaged == report.unanswered == 0
    house.assert_whole()


def name_of(case):
    return "-".join(str(part) for part in case).replace(" ", "_")


@pytest.mark.parametrize("case", BACK, ids=name_of)
def test_a_death_while_something_is_taken_back(tmp_path, place, case):
    why, part, method, moment, nth = case
    data, act, fault, entry = WHY[why]
    (tmp_path / "keys").write_text(new_line("first"))
    registry = ScriptedRegistry()
    registry.script.append(act())
    registry.silent = why == "no answer"
    objects = submission(entry=entry)
    with served(registry, "/registry", name="registry") as registry_url:
        process = killed(
            tmp_path, registry_url, part=part, method=method, moment=moment, nth=nth, fault=fault, settings=place
        )
        address = process.stdout.readline().strip()
        try:
            with pytest.raises(OSError):
                provide(address, objects, {"Document01": data})
        finally:
            assert ended(process) == 9
    registry.silent = False
    registry.script.clear()
    with stand(tmp_path, registry=registry, **place) as house:
        swept(house)
        assert len(house.objects()) == (why == "answer lost")
        if entry is PLAIN:
            assert house.provide(objects, {"Document01": data}).status == "Success"
            assert house.retrieve(*unique_ids(objects)).documents() == [(unique_ids(objects)[0], data)]
            swept(house)


SWEEP = [
    ("index", "unresolved", "after", 1),
    ("registry", "ask", "after", 1),
    ("registry", "ask", "after", 2),
    ("store", "size", "after", 1),
    ("index", "complete", "before", 1),
    ("index", "complete", "after", 1),
    ("index", "release", "before", 1),
    ("index", "release", "after", 1),
    ("store", "delete", "after", 1),
    ("store", "delete", "before", 2),
    ("store", "delete", "after", 3),
    ("index", "discard", "after", 1),
    ("index", "forget", "before", 1),
    ("index", "forget", "after", 2),
    ("store", "objects", "before", 1),
]


@pytest.mark.parametrize("case", SWEEP, ids=name_of)
def test_a_death_of_the_sweep_itself(tmp_path, place, case):
    part, method, moment, nth = case
    (tmp_path / "keys").write_text(new_line("first"))
    registry = ScriptedRegistry()
    with stand(tmp_path, registry=registry, **place) as house:
        held, refused = submission(entries=2, entry=PLAIN), submission(entries=2, entry=PLAIN)
        for objects, takes in ((held, True), (refused, False)):
            registry.script.append(Act(takes=takes, answer=None))
            registry.silent = True
            assert house.provide(objects).codes == ["XDSRegistryNotAvailable"]
            registry.silent = False
        StagedDocument(house.room).write(b"half")
    with served(registry, "/registry", name="registry") as registry_url:
        process = killed(
            tmp_path, registry_url, job="sweep", part=part, method=method, moment=moment, nth=nth, settings=place
        )
        assert ended(process) == 9
    with stand(tmp_path, registry=registry, **place) as house:
        swept(house)
        assert len(house.retrieve(*unique_ids(held)).documents()) == 2
        assert len(house.objects()) == 2
        outcomes = [row for row in house.records() if row[0] == "ITI-41"]
        assert outcomes.count(("ITI-41", 0)) == 1, "the one that was completed, once"
        assert house.provide(refused).status == "Success"
