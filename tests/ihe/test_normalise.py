"""What is always accepted is written one way (class (a) of the decision on strict and lenient)."""

from dataclasses import replace

import pytest

from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects
from ihe.normalise import mend, normalise
from ihe.registry_objects import Kind, Slot, SubmittedObjects
from ihe.rules import check
from schemas import parse_xml
from tests import builders as b

CAPITALS = "URN:UUID:10B545EA-725C-446D-9B95-8AEB444EDDF3"
SMALL = CAPITALS.lower()


def normalised(obj):
    return normalise(SubmittedObjects((obj,))).objects[0]


def test_what_is_written_right_stays_as_it_is_and_parts_name_their_owner():
    objects = b.submission(2, 1)
    once = normalise(objects)
    entry, before = once.of(Kind.DOCUMENT_ENTRY)[0], objects.of(Kind.DOCUMENT_ENTRY)[0]
    assert {one.classified_object for one in entry.classifications} == {"Document01"}
    assert {one.registry_object for one in entry.external_identifiers} == {"Document01"}
    assert (entry.name, entry.mime_type, entry.home, entry.lid) == (before.name, "text/plain", None, None)
    assert [slot.name for slot in entry.slots] == [slot.name for slot in before.slots]
    assert normalise(once) == once


def test_a_wrong_owner_is_left_for_the_rules():
    entry = b.each_classification(v.ENTRY_CLASS, classified_object="other")(b.document_entry())
    assert normalised(entry).coded(v.ENTRY_CLASS)[0].classified_object == "other"


def test_ids_lose_blanks_and_capitals():
    association = replace(
        b.association(f" {v.APND} ", f" {CAPITALS}", "Document01\n", " "), lid=CAPITALS, object_type=v.TYPE_ASSOCIATION
    )
    found = normalised(association)
    assert (found.type, found.source, found.target, found.id, found.lid) == (v.APND, SMALL, "Document01", None, SMALL)


def test_references_to_an_id_in_capitals_find_it():
    objects = b.submission(
        0, extra=(b.document_entry(CAPITALS), b.has_member("SubmissionSet01", SMALL, status="Original"))
    )
    assert check(normalise(objects), b.domain()) == ()


def test_schemes_and_types_in_capitals_are_known():
    entry = b.document_entry()
    loud = replace(
        entry,
        object_type=v.STABLE.upper(),
        classifications=tuple(replace(one, scheme=one.scheme.upper()) for one in entry.classifications),
        external_identifiers=tuple(replace(one, scheme=one.scheme.upper()) for one in entry.external_identifiers),
    )
    assert normalised(loud) == normalised(entry)


def test_a_marker_in_capitals_marks():
    package = b.changed(
        b.folder(),
        (
            b.having(kind=Kind.UNMARKED),
            b.without_code(v.NODE_FOLDER),
            b.with_classification(b.marker(v.NODE_FOLDER.upper())),
        ),
    )
    assert normalised(package).kind is Kind.FOLDER


@pytest.mark.parametrize(
    ("slot", "sent", "kept"),
    [
        ("repositoryUniqueId", " urn:oid:1.2.3", "1.2.3"),
        ("hash", "E543712C0E10501972DE13A5BFCBE826C49FEB75", "e543712c0e10501972de13a5bfcbe826c49feb75"),
        ("sourcePatientId", "77^^^HOSP&1.3.4.5&iso^", "77^^^&1.3.4.5&ISO"),
        ("legalAuthenticator", "^Welby^Marcus^^^", "^Welby^Marcus"),
        ("creationTime", "\n 20240229 ", "20240229"),
        (v.REFERENCE_ID_LIST, "77^^^HOSP&urn:oid:1.3.4&iso^local^^", "77^^^&1.3.4&ISO^local"),
        ("sourcePatientInfo", "PID-5|Doe^Jane^^^", "PID-5|Doe^Jane^^^"),
        ("urn:example:extra", " as it is ^", " as it is ^"),
    ],
)
def test_slots_of_an_entry(slot, sent, kept):
    assert normalised(b.with_slot(slot, sent)(b.document_entry())).slot(slot) == (kept,)


def test_authors_codes_home_and_mime_type():
    entry = b.changed(
        b.document_entry(),
        (
            b.with_author(v.ENTRY_AUTHOR, authorPerson=("^Welby^^^",), authorInstitution=("Lab^^^^^&1.2&ISO^^^^",)),
            b.with_code(v.ENTRY_CLASS, "11502-2", f"urn:oid:{b.LOINC}"),
            b.having(home="1.2.3", mime_type="text/xml; charset=utf-8"),
        ),
    )
    found = normalised(entry)
    assert [slot.values for slot in found.coded(v.ENTRY_AUTHOR)[0].slots] == [("^Welby",), ("Lab^^^^^&1.2&ISO",)]
    assert found.coded(v.ENTRY_CLASS)[0].slots == (Slot("codingScheme", (b.LOINC,)),)
    assert (found.home, found.mime_type) == ("urn:oid:1.2.3", "text/xml")


def test_codes_lose_blanks_and_an_author_with_a_blank_one_is_an_author():
    entry = b.with_code(v.ENTRY_CONFIDENTIALITY, " R\n", b.CONFIDENTIALITY)(b.document_entry())
    assert normalised(entry).coded(v.ENTRY_CONFIDENTIALITY)[0].node_representation == "R"
    blank = b.with_author(v.ENTRY_AUTHOR, authorPerson=("^Welby^^^",))(entry)
    (author,) = normalised(b.each_classification(v.ENTRY_AUTHOR, node_representation=" ")(blank)).coded(v.ENTRY_AUTHOR)
    assert (author.node_representation, author.slots) == ("", (Slot("authorPerson", ("^Welby",)),))


@pytest.mark.parametrize(
    ("sent", "kept"), [("false", "false"), (" TRUE\n", "true"), ("1", "1"), ("maybe", None), ("", None), (None, None)]
)
def test_is_opaque_is_a_boolean_or_left_out(sent, kept):
    assert normalised(b.having(is_opaque=sent)(b.document_entry())).is_opaque == kept


def test_identifiers():
    package = b.changed(
        b.submission_set(),
        (
            b.with_identifier(v.SUBMISSION_SET_UNIQUE_ID, "urn:oid:1.2.3 "),
            b.with_identifier(v.SUBMISSION_SET_SOURCE_ID, " 1.2.4"),
            b.with_identifier(v.SUBMISSION_SET_PATIENT_ID, "7^^^&1.2&ISO^^"),
        ),
    )
    found = normalised(package)
    assert found.identifier(v.SUBMISSION_SET_UNIQUE_ID) == "1.2.3"
    assert found.identifier(v.SUBMISSION_SET_SOURCE_ID) == "1.2.4"
    assert found.identifier(v.SUBMISSION_SET_PATIENT_ID) == "7^^^&1.2&ISO"


def test_the_unique_id_of_a_document_is_opaque():
    for sent in ("urn:oid:1.2.3", CAPITALS, "1.2.3^AbC^"):
        entry = b.with_identifier(v.ENTRY_UNIQUE_ID, f" {sent} ")(b.document_entry())
        assert normalised(entry).identifier(v.ENTRY_UNIQUE_ID) == sent


def test_mending_makes_what_a_lenient_registry_took_readable():
    sent = b.submission(
        entry=(
            b.with_slot("URI"),
            b.with_slot("serviceStartTime", " "),
            b.with_slot("creationTime", "20240229003000.5+0100"),
            b.more_slots(Slot(v.REFERENCE_ID_LIST, ("1^^^^local",)), Slot(v.REFERENCE_ID_LIST, ("", "2^^^^local"))),
            b.more_slots(Slot("languageCode", ("fr-LU",))),
        )
    )
    objects = normalise(sent)
    assert all(one.lenient for one in check(objects, b.domain()))
    entry = mend(objects).of(Kind.DOCUMENT_ENTRY)[0]
    assert (entry.slot("URI"), entry.slot("serviceStartTime")) == (None, None)
    assert entry.slot("creationTime") == ("20240228233000",)
    assert entry.slot(v.REFERENCE_ID_LIST) == ("1^^^^local", "2^^^^local")
    assert entry.slot("languageCode") == ("fr-LU",)
    assert check(mend(objects), b.domain()) == ()


def test_mending_leaves_a_right_submission_alone():
    objects = normalise(b.submission(2, 1))
    assert mend(objects) == objects


def test_a_submission_comes_back_from_its_xml():
    objects = b.submission(2, 1, relations=[(v.RPLC, b.new_uuid())])
    read = read_submitted_objects(parse_xml(b.submit_objects_request_xml(objects)))
    assert check(normalise(read), b.domain()) == ()
    unset = {"object_type": None}
    assert [replace(one, **unset) for one in normalise(read).objects] == [
        replace(one, **unset) for one in normalise(objects).objects
    ]


def test_a_provide_and_register_request_holds_metadata_and_documents():
    objects = b.submission(2)
    root = parse_xml(b.provide_and_register_xml(objects, content_ids={"Document02": "two@example.org"}))
    assert len(read_submitted_objects(root).objects) == len(objects.objects)
    first, second = (child for child in root if child.tag == f"{{{v.XDSB}}}Document")
    assert first.text
    assert [first.get("id"), second.get("id")] == ["Document01", "Document02"]
    assert second[0].get("href") == "cid:two@example.org"
