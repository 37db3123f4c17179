"""Identifiers longer than any registry takes: refused where they would be kept, and never told in their full length."""

import secrets

import pytest

from ihe import vocabulary as v
from tests.builders import LOINC, REPOSITORY, having, submission, with_code, with_identifier, with_slot
from tests.postgres import postgres_server, postgres_url
from tests.repository.stand import stand, unique_ids
from tests.repository.test_iti86_remove_documents import remove

__all__ = ["postgres_server", "postgres_url"]

LONG = secrets.token_hex(2000)
"""An index of PostgreSQL takes 2,704 bytes, as far as they cannot be compressed."""
TOLD = f"{LONG[:127]}…"


@pytest.fixture(params=["sqlite", "postgres_url"])
def house(tmp_path, request):
    """A repository on each kind of database."""
    more = {} if request.param == "sqlite" else {"database_url": request.getfixturevalue(request.param)}
    with stand(tmp_path, **more) as running:
        yield running


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        (
            {"entry": with_identifier(v.ENTRY_UNIQUE_ID, LONG)},
            "DocumentEntry Document01: uniqueId has 4000 characters; allowed are at most 256",
        ),
        ({"unique_id": LONG}, "SubmissionSet.uniqueId has 4000 characters; allowed are at most 256"),
    ],
    ids=["entry", "set"],
)
def test_a_unique_id_that_no_index_takes_is_the_sources_to_mend(house, changes, context):
    answer = house.provide(submission(**changes))
    assert answer.errors == [("XDSRepositoryMetadataError", context)]
    assert house.registry.received == []
    house.assert_nothing_kept()


def test_the_longest_ids_and_codes_that_a_registry_takes_go_through(house):
    ids = with_identifier(v.ENTRY_UNIQUE_ID, LONG[:256])
    objects = submission(entry=(ids, with_code(v.ENTRY_CLASS, LONG[:256], LONG[-256:])), unique_id=LONG[:256])
    assert house.provide(objects).status == "Success"
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 1
    house.assert_whole()


def test_a_class_that_no_index_takes_is_the_registrys_to_judge(house):
    assert house.provide(submission(entry=with_code(v.ENTRY_CLASS, LONG, LOINC))).status == "Success"
    assert [row.class_code for row in house.rows().values()] == [None]


@pytest.mark.parametrize(
    ("entry", "documents"),
    [
        (having(id=LONG), {LONG[::-1]: b"x"}),
        ((with_identifier(v.ENTRY_UNIQUE_ID, LONG), with_slot("size", "7"), with_slot("hash", "0" * 40)), None),
    ],
    ids=["not paired", "other bytes"],
)
def test_no_error_tells_a_long_id_in_full(house, entry, documents):
    answer = house.provide(submission(entry=entry), documents)
    assert len(answer.errors) > 1
    assert any(TOLD in context for _, context in answer.errors)
    assert not [context for _, context in answer.errors if len(context) > 512]


def test_who_asks_for_a_long_id_is_answered_with_its_beginning(house):
    unknown = [("XDSDocumentUniqueIdError", f"document {TOLD} is not known here")]
    foreign = f"repository {TOLD} is not this one, which is {REPOSITORY} (document {TOLD})"
    assert house.retrieve(LONG).errors == remove(house.address, LONG).errors == unknown
    assert house.retrieve((LONG, LONG)).errors == [("XDSUnknownRepositoryId", foreign)]
    assert remove(house.address, (LONG, LONG)).errors == [("XDSUnknownRepositoryId", foreign)]
