"""A hundred documents in one submission, in every kind of store, sealed: all of them or none."""

import os

import pytest

from repository.store.keyring import new_line
from tests.builders import submission, with_slot
from tests.repository.stand import stand, unique_ids, unknown_patient

COUNT = 100
LARGE = 5_300_000  # more than one part of an upload to a bucket


@pytest.fixture
def house(tmp_path, place):
    (tmp_path / "keys").write_text(new_line("k1"))
    with stand(tmp_path, **place) as running:
        yield running


@pytest.fixture(scope="module")
def contents():
    sizes = [LARGE if n % 50 == 0 else 1_000 + 997 * n for n in range(COUNT)]
    return {f"Document{n:02}": os.urandom(size) for n, size in enumerate(sizes, 1)}


def many():
    return submission(entries=COUNT, entry=(with_slot("hash"), with_slot("size")))


def test_a_hundred_documents_come_and_go_in_one_message_each(house, contents):
    objects = many()
    assert house.provide(objects, contents).status == "Success"
    ids = unique_ids(objects)
    assert house.retrieve(*ids).documents() == list(zip(ids, contents.values(), strict=True))
    house.assert_whole()
    assert {row.kek for row in house.rows().values()} == {"k1"}


def test_of_a_hundred_documents_that_are_refused_nothing_stays(house, contents):
    house.registry.script.append(unknown_patient())
    assert house.provide(many(), contents).codes == ["XDSUnknownPatientId"]
    house.assert_nothing_kept()
