"""Ids that the registry makes: random, never twice, not in a child process either."""

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from registry.desk import new_uuid

MANY = 3000


def test_ids_are_random_uuids():
    made = {new_uuid() for _ in range(MANY)}
    assert len(made) == MANY
    for one in made:
        assert one == uuid.UUID(one).urn
        assert uuid.UUID(one).version == 4
        assert uuid.UUID(one).variant == uuid.RFC_4122


def test_threads_never_share_one():
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_uuid() for _ in range(MANY)], range(8)))
    assert len({one for some in made for one in some}) == 8 * MANY


FORKING = """
import os
from registry.desk import new_uuid

new_uuid()  # some are drawn already
if child := os.fork():
    os.waitpid(child, 0)
print(*(new_uuid() for _ in range(300)), flush=True)
"""


def test_a_child_process_draws_its_own():
    run = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    made = run.stdout.split()
    assert len(set(made)) == len(made) == 600
