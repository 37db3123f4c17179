"""``make bench-10m`` at a five-hundredth of its size: loads, broken off and taken up again, asked, split, asked again."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from bench import bulk
from bench.servers import postgresql
from registry.store.opening import open_registry

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def test_the_whole_run(tmp_path):
    command = [sys.executable, "-m", "bench.ten_million", "--entries", "20000", "--seconds", "0.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    # 1: the ratio missed its goal, which says nothing at this size and on a busy machine
    assert done.returncode in (0, 1), done.stderr
    assert done.stderr == ""
    assert done.stdout.count("   ratio ") == 8, done.stdout
    assert "32 partitions, 10,000 → 20,000 entries" in done.stdout


def counted(url):
    ask = "SELECT (SELECT count(*) FROM entry), (SELECT count(*) FROM pg_indexes WHERE schemaname = 'public')"
    with psycopg.connect(bulk.raw(url)) as connection:
        return connection.execute(ask).fetchone()


def test_a_load_goes_on_where_it_stopped():
    with postgresql() as databases:
        url = databases.database("registry")
        open_registry(url)[0].dispose()
        _, indexes = counted(url)
        for blocks in (1, 2, 2):
            bulk.load(url, blocks, print)
            assert counted(url) == (blocks * bulk.BLOCK, indexes + 2)
