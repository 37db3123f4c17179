"""Contexts name their object, and stay short whatever a peer sends."""

import pytest

from ihe import vocabulary as v
from ihe.errors import ErrorCode
from ihe.findings import finding, named, without_id
from ihe.normalise import normalise
from ihe.rules import check
from tests import builders as b


def test_an_object_is_named_by_kind_and_id():
    assert named(b.document_entry("Document01")) == "DocumentEntry Document01"
    assert named(b.folder(None)) == "Folder without id"
    assert named(b.has_member("A", "B")) == "Association HasMember from A"
    assert named(b.association(None, "A", "B")) == "Association without id"


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        (named(b.document_entry("Document01")), "DocumentEntry"),
        (named(b.document_entry("urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248")), "DocumentEntry"),
        (named(b.document_entry("my document 1")), "DocumentEntry"),
        (named(b.folder(None)), "Folder"),
        (named(b.has_member("A", "B")), "Association HasMember"),
        (named(b.association(v.RPLC, "A", "B")), "Association RPLC"),
        ("$XDSDocumentEntryPatientId", "$XDSDocumentEntryPatientId"),
    ],
)
def test_a_fault_is_one_whichever_object_has_it(where, kind):
    found = finding(where, "author 1, authorPerson", "from here, is no XCN", "rule")
    assert without_id(found.error.context) == f"{kind}, author 1, authorPerson: from here, is no XCN"
    assert without_id("the header wsa:Action is missing") == "the header wsa:Action is missing"


def test_a_finding_is_a_metadata_error_unless_it_says_otherwise():
    one = finding("Folder F", "title", "is missing", "Folder.title")
    assert (one.error.code, one.error.context, one.lenient) == (
        ErrorCode.REGISTRY_METADATA,
        "Folder F, title: is missing",
        False,
    )


def test_ids_of_any_length_make_short_contexts():
    found = check(normalise(b.submission(extra=(b.association(v.RPLC, "Document01", "x" * 100_000),))), b.domain())
    assert found
    assert all(len(one.error.context) < 1000 for one in found)
