"""A Document Source: what is not said has a default, and what it makes is right by our own rules and schema."""

import hashlib
import itertools
import uuid
from datetime import UTC, datetime

import pytest

from dossier.source import Codebook, UnknownCode, Wishes, compose, guess_mime_type, measure
from ihe import vocabulary as v
from ihe.datatypes import CX
from ihe.ebrim import read_submitted_objects
from ihe.registry_objects import Kind
from schemas import parse_xml, strict_violations
from wire.affinity_domain import agreed_codes
from wire.settings import AffinityDomainSettings

NOW = datetime(2026, 3, 12, 8, 30, tzinfo=UTC)
PATIENT = CX("P 1|x", "1.2.3")


@pytest.fixture(scope="module")
def codes():
    return Codebook(agreed_codes(AffinityDomainSettings()))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "Blood count.pdf"
    path.write_bytes(b"%PDF-1.4 x")
    return path


def composed(codes, *files, **wishes):
    numbers = itertools.count(1)
    documents = [measure(path, lambda _count: None) for path in files]
    wanted = Wishes(**{"patient": PATIENT, "type_code": "11502-2"} | wishes)
    return compose(
        documents, wanted, codes, now=NOW, advance=lambda _count: None, new_uuid=lambda: uuid.UUID(int=next(numbers))
    )


def objects(submission):
    return read_submitted_objects(parse_xml(submission.body))


def entry_of(submission):
    return objects(submission).of(Kind.DOCUMENT_ENTRY)[0]


def code(entry, scheme):
    (found,) = entry.coded(scheme)
    return found.node_representation, found.slots[0].values[0], found.name[0].value


def test_it_is_right_by_the_strict_schema(codes, file):
    request = parse_xml(composed(codes, file, author="Anna Weber").body)
    request[1].text, request[1][:] = "eA==", []  # the schema knows base64, not what MTOM puts in its place
    assert strict_violations(request) == ()


def test_it_is_right_by_the_rules_of_the_registry(codes, file):
    from dataclasses import replace

    from ihe.registry_objects import Slot, SubmittedObjects
    from ihe.rules import check

    given = objects(composed(codes, file, author="Weber, Anna", institution="Lab", comments="c"))
    # what the repository adds
    complete = tuple(
        replace(o, slots=(*o.slots, Slot("repositoryUniqueId", ("1.2.3",)))) if o.kind is Kind.DOCUMENT_ENTRY else o
        for o in given.objects
    )
    assert [finding.error.context for finding in check(SubmittedObjects(complete), codes.domain)] == []


def test_defaults_follow_the_type(codes, file):
    entry = entry_of(composed(codes, file))
    assert code(entry, v.ENTRY_CLASS)[0] == "11502-2"
    assert code(entry, v.ENTRY_TYPE) == ("11502-2", "2.16.840.1.113883.6.1", "Laboratory report.total")
    assert code(entry, v.ENTRY_FORMAT)[0] == "urn:ihe:iti:xds:2017:mimeTypeSufficient"
    assert code(entry, v.ENTRY_PRACTICE_SETTING)[0] == "708184003"
    assert code(entry, v.ENTRY_FACILITY_TYPE)[0] == "22232009"
    assert code(entry, v.ENTRY_CONFIDENTIALITY)[0] == "N"
    assert entry.name[0].value == "Blood count"
    assert entry.mime_type == "application/pdf"
    assert entry.identifier(v.ENTRY_PATIENT_ID) == "P 1\\F\\x^^^&1.2.3&ISO"


def test_an_xml_document_has_the_format_of_its_class(codes, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text("<a/>")
    assert code(entry_of(composed(codes, path)), v.ENTRY_FORMAT)[0] == "urn:ihe:lab:xd-lab:2008"
    assert code(entry_of(composed(codes, path, type_code="60591-5")), v.ENTRY_FORMAT)[0] == "urn:epSOS:ps:ps:2010"


def test_what_is_given_counts(codes, file):
    entry = entry_of(
        composed(
            codes, file, class_code="REPORTS", format_code="urn:ihe:iti:xds-sd:pdf:2008", title="T", created="20250101",
            language="fr-LU", mime_type="text/plain", confidentiality="R", facility="264372000", practice="394802001",
        )
    )  # fmt: skip
    assert code(entry, v.ENTRY_CLASS)[0] == "REPORTS"
    assert code(entry, v.ENTRY_CONFIDENTIALITY)[0] == "R"
    assert entry.slot("creationTime") == ("20250101",)
    assert entry.slot("languageCode") == ("fr-LU",)
    assert (entry.name[0].value, entry.mime_type) == ("T", "text/plain")


def test_size_hash_and_time_are_those_of_the_file(codes, file):
    entry = entry_of(composed(codes, file))
    assert entry.slot("size") == (str(file.stat().st_size),)
    assert entry.slot("hash") == (hashlib.sha1(file.read_bytes()).hexdigest(),)
    changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    assert entry.slot("creationTime") == (changed.strftime("%Y%m%d%H%M%S"),)


def test_the_submission_set_holds_every_document(codes, file, tmp_path):
    second = tmp_path / "b.txt"
    second.write_text("b")
    submission = composed(codes, file, second)
    found = objects(submission)
    (submission_set,) = found.of(Kind.SUBMISSION_SET)
    links = found.of(Kind.ASSOCIATION)
    assert [link.source for link in links] == [submission_set.id] * 2
    assert [link.target for link in links] == [entry.id for entry in found.of(Kind.DOCUMENT_ENTRY)]
    assert {link.slot("SubmissionSetStatus") for link in links} == {("Original",)}
    assert submission_set.slot("submissionTime") == ("20260312083000",)
    assert [b"".join(part.chunks()) for part in submission.parts] == [file.read_bytes(), b"b"]
    assert [part.size for part in submission.parts] == [file.stat().st_size, 1]


def test_a_replacement_names_the_old_entry(codes, file):
    links = objects(composed(codes, file, replace="urn:uuid:11111111-1111-1111-1111-111111111111")).of(Kind.ASSOCIATION)
    (replaces,) = [link for link in links if link.type == v.RPLC]
    assert replaces.target == "urn:uuid:11111111-1111-1111-1111-111111111111"


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("Anna Maria Weber", "^Weber^Anna Maria"),
        ("Weber, Anna", "^Weber^Anna"),
        ("Weber", "^Weber"),
        ("7^Weber^Anna", "7^Weber^Anna"),
    ],
)
def test_authors(codes, file, text, person):
    (author,) = entry_of(composed(codes, file, author=text)).coded(v.ENTRY_AUTHOR)
    assert author.slots[0].values == (person,)
    assert author.node_representation == ""


def test_nobody_named_is_no_author(codes, file):
    assert entry_of(composed(codes, file)).coded(v.ENTRY_AUTHOR) == ()


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"type_code": "0815"}, "typeCode: 0815 is not in the code file"),
        ({"type_code": "prescription"}, "perhaps 57833-6"),
        ({"type_code": "XX-Document"}, "classCode: none is known for type XX-Document; give --class"),
        ({"confidentiality": "X"}, "confidentialityCode: X is not"),
    ],
)
def test_unknown_codes_are_named(codes, file, wishes, words):
    with pytest.raises(UnknownCode, match=words):
        composed(codes, file, **wishes)


def test_an_unknown_suffix_asks_for_the_mime_type(codes, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(b"x")
    with pytest.raises(UnknownCode, match="give --mime"):
        composed(codes, path)
    assert guess_mime_type(path) is None


def test_a_code_in_several_schemes_asks_for_one(codes):
    from ihe.affinity_domain import affinity_domain, read_codes

    text = "attribute,code,scheme,display_name,valid_from,valid_to\ntypeCode,A,1.1,a,,\ntypeCode,A,1.2,b,,\n"
    book = Codebook(affinity_domain("urn:oid:1.2", (), read_codes(text)))
    with pytest.raises(UnknownCode, match=r"several schemes \(1\.1, 1\.2\)"):
        book.find("typeCode", "A")
    assert book.find("typeCode", "A^^1.2").display_name == "b"
    assert book.find("classCode", "B^^2.1").scheme == "2.1"
    with pytest.raises(UnknownCode, match="does not restrict"):
        book.find("classCode", "B")


def test_the_file_is_read_in_blocks(codes, tmp_path, monkeypatch):
    from dossier import source

    monkeypatch.setattr(source, "BLOCK", 4)
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    told = []
    document = measure(path, told.append)
    assert (document.size, told) == (10, [4, 4, 2])
