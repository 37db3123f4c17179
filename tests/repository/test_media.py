"""repository.media: what a document is by its first bytes, against what its mimeType says."""

import gzip
import io
import random
import zipfile
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from repository.media import HEAD_BYTES, MATCHING, contradiction
from tests.builders import changed, having, only
from tests.repository.stand import stand, unique_ids
from tests.repository.test_iti41_provide_and_register_document_set_b import as_it_comes_from_a_source

CDA = '<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Arztbrief für Müller</title></ClinicalDocument>'
DECLARED = f'<?xml version="1.0" encoding="UTF-16"?>\n{CDA}'


def zipped():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("INDEX.HTM", "<html/>")
    return packed.getvalue()


DICOM = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + bytes(200)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>"
TEXTS = {
    "ascii": b"Haemoglobin 14.1 g/dl\n",
    "latin-1": "Hämoglobin 14,1 g/dl\r\n".encode("latin-1"),
    "utf-8": "Гемоглобин".encode(),
    "utf-8 mark": "Hämoglobin".encode("utf-8-sig"),
    "utf-16": "Hämoglobin".encode("utf-16"),
    "utf-16 without mark": "Haemoglobin".encode("utf-16-le"),
    "utf-16 big-endian without mark": "Haemoglobin".encode("utf-16-be"),
    "utf-32": "Hämoglobin".encode("utf-32"),
    "page break": b"one\x0ctwo\x1b[1m",
    "hl7": b"\x0bMSH|^~\\&|LAB|H\rPID|1\r\x1c\r",
    "begins like a bitmap": b"BM is not a bitmap here",
    "begins like a program": b"MZ 4711",
    "empty": b"",
    "rtf": b"{\\rtf1 text}",
    "cut within a character": ("ä" * HEAD_BYTES).encode()[1 : HEAD_BYTES + 1],
}
XML = {
    "declared": DECLARED.encode("utf-16"),
    "utf-16 without mark": DECLARED.encode("utf-16-be"),
    "plain": CDA.encode(),
    "mark and blanks": b"\xef\xbb\xbf\r\n  " + CDA.encode(),
    "latin-1": b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xfc</a>',
    "comment": b"<!-- made by hand --><a/>",
    "xhtml": b'<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><body/></html>',
    "entities": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c SYSTEM "file:///etc/passwd">]><a>&b;&c;</a>',
}
HTML = {"doctype": b"<!DOCTYPE html><html><body>x", "old": b"\r\n<!-- x -->\n<HTML><HEAD>"}
FILES = {
    "application/pdf": {"plain": PDF, "behind blanks": b"\r\n\r\n" + PDF, "behind a header": b"x" * 1000 + PDF},
    "application/dicom": {"part 10": DICOM, "without preamble": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(50)},
    "image/jpeg": {"jfif": JPEG, "exif": b"\xff\xd8\xff\xe1\0\x10Exif\0\0"},
    "image/jpg": {"other name": JPEG},
    "image/png": {"png": PNG},
    "image/gif": {"gif": b"GIF89a\x01\0\x01\0"},
    "image/tiff": {
        "little": b"II*\0\x08\0\0\0",
        "big": b"MM\0*\0\0\0\x08",
        "bigtiff": b"II+\0\x08\0\0\0",
        "cr2": b"II*\0\x10\0\0\0CR\x02\0",
    },
    "application/zip": {"zip": zipped(), "empty": b"PK\x05\x06" + bytes(18)},
    "text/plain": {**TEXTS, "xml": CDA.encode(), **HTML},
    "text/html": {**HTML, "fragment": b"<p>x</p>", "text": b"x"},
    "text/xml": XML,
    "application/xml": XML,
}
RIGHT = [(mime_type, name, data) for mime_type, files in FILES.items() for name, data in files.items()]


@pytest.mark.parametrize(("mime_type", "name", "data"), RIGHT, ids=[f"{m} {n}" for m, n, _ in RIGHT])
def test_right(mime_type, name, data):
    assert contradiction(mime_type, data[:HEAD_BYTES]) is None
    assert contradiction(f" {mime_type.upper()}; charset=utf-8", data[:HEAD_BYTES]) is None


@pytest.mark.parametrize(
    ("mime_type", "data", "found"),
    [
        ("application/pdf", PNG, "image/png"),
        ("application/pdf", b"the report follows by post", "text/plain"),
        ("application/pdf", b"x" * 1025 + PDF, "text/plain"),
        ("application/pdf", b"", "empty"),
        ("application/pdf", zipped(), "application/zip"),
        ("application/pdf", bytes(range(256)), "of an unknown type"),
        ("application/dicom", JPEG, "image/jpeg"),
        ("application/dicom", b"text", "text/plain"),
        ("image/jpeg", PNG, "image/png"),
        ("image/jpeg", b"\xff\xd8", "text/plain"),
        ("image/png", JPEG, "image/jpeg"),
        ("image/tiff", PDF, "application/pdf"),
        ("image/gif", b"<svg/>", "text/xml"),
        ("application/zip", gzip.compress(b"x", mtime=0), "application/gzip"),
        ("text/plain", PDF, "application/pdf"),
        ("text/plain", DICOM, "application/dicom"),
        ("text/plain", b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff", "application/x-msdownload"),
        ("text/html", PDF, "application/pdf"),
        ("text/xml", PDF, "application/pdf"),
        ("text/xml", b"Haemoglobin < 14.1", "text/plain"),
        ("text/xml", b"<!doctype html><html><p>", "text/html"),
        ("text/xml", b"", "empty"),
        ("application/xml", b"{}", "text/plain"),
    ],
)
def test_wrong(mime_type, data, found):
    told = contradiction(mime_type, data)
    assert told is not None
    assert told.found == found
    assert told.said in MATCHING


@pytest.mark.parametrize(
    "mime_type", ["multipart/related", "application/hl7-v3+xml", "video/mpeg", "", "text/rtf", "nonsense"]
)
def test_what_we_do_not_know_is_not_judged(mime_type):
    for data in (PDF, PNG, b"", b"text"):
        assert contradiction(mime_type, data) is None


@given(st.binary(max_size=400), st.sampled_from([*MATCHING, "x/y"]))
def test_no_bytes_upset_it(data, mime_type):
    contradiction(mime_type, data)


# ------------------------------------------------------------------------------------------- over the wire


def mismatches(said, found):
    return REGISTRY.get_sample_value("dossier_media_mismatches_total", {"said": said, "found": found}) or 0


def typed(*mime_types):
    """A submission whose entries have these mimeTypes."""
    changes = [only(f"Document{number:02}", having(mime_type=one)) for number, one in enumerate(mime_types, 1)]
    objects = as_it_comes_from_a_source(entries=len(mime_types))
    return type(objects)(tuple(changed(one, tuple(changes)) for one in objects.objects))


@contextmanager
def house_with(tmp_path, **settings):
    with stand(tmp_path, **settings) as house, capture_logs() as logs:
        yield house, logs


LARGE = random.Random(1).randbytes(3 * 2**20)


def test_a_contradiction_is_recorded_by_default_and_the_answer_is_the_same(tmp_path):
    objects = typed("application/pdf", "image/png", "text/plain")
    documents = {"Document01": b"no pdf", "Document02": JPEG + LARGE, "Document03": b"text"}
    before = mismatches("application/pdf", "text/plain"), mismatches("image/png", "image/jpeg")
    with house_with(tmp_path) as (house, logs):
        answer = house.provide(objects, documents)
        assert (answer.status, answer.errors) == ("Success", [])
        house.assert_whole()
        assert house.records() == [("ITI-41", 0), ("ITI-42", 0)]
    told = [(line["said"], line["found"], line["document"]) for line in logs if line["event"] == "iti41.media_mismatch"]
    pdf, png, _ = unique_ids(objects)
    assert told == [("application/pdf", "text/plain", pdf), ("image/png", "image/jpeg", png)]
    after = mismatches("application/pdf", "text/plain"), mismatches("image/png", "image/jpeg")
    assert after == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("mtom", [True, False])
def test_a_contradiction_is_refused_by_setting(tmp_path, mtom):
    objects = typed("application/pdf", "image/png", "text/plain")
    documents = {"Document01": b"no pdf", "Document02": JPEG + LARGE, "Document03": b"text"}
    pdf, png, _ = unique_ids(objects)
    with house_with(tmp_path, media_check="refuse") as (house, _):
        answer = house.provide(objects, documents, mtom=mtom)
        assert answer.status == "Failure"
        assert answer.errors == [
            ("InvalidDocumentContent", f"{pdf}: mimeType is application/pdf, the document is text/plain"),
            ("InvalidDocumentContent", f"{png}: mimeType is image/png, the document is image/jpeg"),
        ]
        house.assert_nothing_kept()
        assert house.records() == [("ITI-41", 8)]
        assert house.registry.received == []
        right = {"Document01": PDF, "Document02": PNG + LARGE, "Document03": b"text"}
        assert house.provide(objects, right, mtom=mtom).status == "Success"
        house.assert_whole()


def test_nothing_is_compared_when_it_is_off(tmp_path):
    with house_with(tmp_path, media_check="off") as (house, logs):
        assert house.provide(typed("application/pdf"), {"Document01": b"no pdf"}).status == "Success"
    assert [line for line in logs if line["event"] == "iti41.media_mismatch"] == []


def test_entries_that_share_a_document_are_judged_each(tmp_path):
    objects = typed("text/xml", "text/plain")
    cids = {"Document01": "one@source", "Document02": "one@source"}
    with house_with(tmp_path, media_check="refuse") as (house, _):
        answer = house.provide(objects, dict.fromkeys(cids, b"plain"), cids=cids)
        assert answer.errors == [
            ("InvalidDocumentContent", f"{unique_ids(objects)[0]}: mimeType is text/xml, the document is text/plain")
        ]
