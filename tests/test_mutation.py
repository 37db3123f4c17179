"""The mutation run stays alive: every tenth mutant of the rules; ``make mutation`` tries them all."""

import re
import subprocess
import sys
from pathlib import Path

from tests.mutants import GROUPS, mutants
from tests.mutation import EQUIVALENT

ROOT = Path(__file__).resolve().parents[1]


def test_each_mutant_has_a_name_and_each_explanation_a_mutant():
    found = mutants()
    names = {one.name for one in found}
    assert len(names) == len(found)
    assert {one.group for one in found} == set(GROUPS)
    assert EQUIVALENT.keys() <= names


def test_a_mutant_is_gone_when_it_was_tried():
    for one in mutants()[::25]:
        with one.change():
            pass
    assert [one.name for one in mutants()] == [one.name for one in mutants()]


def test_mutants_of_the_rules_are_killed_and_what_changes_nothing_survives():
    command = [sys.executable, "-m", "tests.mutation", "--group", "rules", "--sample", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    tried, killed, survived = map(
        int, re.search(r"rules: (\d+) mutants, (\d+) killed, (\d+) surv", done.stdout).groups()
    )
    explained = len(re.findall(r"^equivalent: ihe", done.stdout, re.MULTILINE))
    assert tried > 30
    assert survived == explained == tried - killed > 0
