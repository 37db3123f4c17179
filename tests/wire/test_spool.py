"""Bounded room on disk (wire/spool.py)."""

import os
from pathlib import Path

import pytest

from wire.spool import Spool, SpoolFull

MIB = 2**20
FULL = Path("/dev/full")


def read(file, start=0, end=None):
    return b"".join(file.blocks(start, file.size if end is None else end))


@pytest.mark.parametrize("size", [0, 1, 1000, MIB, MIB + 1, 5 * MIB])
def test_what_was_appended_can_be_read_again_and_again(tmp_path, size):
    file = Spool(tmp_path, 100 * MIB).open()
    data = os.urandom(size)
    for start in range(0, size, 300_001):
        file.append(data[start : start + 300_001])
    assert file.size == size
    assert read(file) == read(file) == data
    assert read(file, size // 3, size // 2) == data[size // 3 : size // 2]
    file.close()


def test_nothing_has_a_name_and_nothing_is_left(tmp_path):
    spool = Spool(tmp_path, 100 * MIB)
    file = spool.open()
    file.append(bytes(3 * MIB))
    assert list(tmp_path.iterdir()) == []
    assert spool.held_bytes == 3 * MIB
    file.close()
    file.close()
    assert spool.held_bytes == 0
    with pytest.raises(SpoolFull):
        file.append(b"x")
    with pytest.raises(OSError, match="closed"):
        next(file.blocks(0, 1))


def test_all_files_share_the_bound(tmp_path):
    spool = Spool(tmp_path, 2 * MIB)
    one, two = spool.open(), spool.open()
    one.append(bytes(MIB))
    two.append(b"y" * MIB)
    with pytest.raises(SpoolFull, match=str(2 * MIB)):
        two.append(b"x")
    assert read(two) == b"y" * MIB
    one.close()
    two.append(b"x")
    assert read(two) == b"y" * MIB + b"x"
    two.close()


@pytest.mark.parametrize("before", [0, 1000, MIB // 4])
def test_a_disk_that_is_full_leaves_what_was_there(tmp_path, monkeypatch, before):
    spool = Spool(tmp_path, 100 * MIB)
    monkeypatch.setattr(Spool, "file", lambda _self: FULL.open("wb", buffering=0))
    file = spool.open()
    file.append(b"a" * before)
    with pytest.raises(SpoolFull):
        file.append(b"b" * (MIB + 1))
    assert (file.size, spool.held_bytes) == (before, before)
    assert read(file) == b"a" * before
    file.close()
    assert spool.held_bytes == 0


def test_a_directory_that_is_not_there(tmp_path):
    file = Spool(tmp_path / "gone", 100 * MIB).open()
    file.append(b"in memory")
    with pytest.raises(SpoolFull, match="temporary files"):
        file.append(bytes(MIB))
    assert read(file) == b"in memory"
    file.close()
