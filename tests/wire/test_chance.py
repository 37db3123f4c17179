"""Random numbers for identifiers: never twice, not by another thread and not in a child process either."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from wire.chance import random_hex

MANY = 3000


def test_each_has_128_bits():
    assert all(re.fullmatch("[0-9a-f]{32}", random_hex()) for _ in range(MANY))


def test_threads_never_share_one():
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [random_hex() for _ in range(MANY)], range(8)))
    assert len({one for some in made for one in some}) == 8 * MANY


FORKING = """
import os
from wire.chance import random_hex

random_hex()  # more are drawn already
if child := os.fork():
    os.waitpid(child, 0)
print(*(random_hex() for _ in range(300)), flush=True)
"""


def test_a_child_process_draws_its_own():
    run = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    made = run.stdout.split()
    assert len(set(made)) == len(made) == 600
