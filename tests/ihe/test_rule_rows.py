"""The rows themselves: complete, readable, of known shapes; each row's violation is a case of ``rule_cases``."""

import pytest

from ihe.rule_rows import AUTHOR, KNOWN_SLOTS, OBJECT_ROWS, RECIPIENT, SIZE, Kind, Place

ROWS = [row for rows in OBJECT_ROWS.values() for row in rows]


def test_attributes_stand_once_in_each_table():
    for rows in (*OBJECT_ROWS.values(), AUTHOR):
        names = [row.attribute for row in rows]
        assert len(set(names)) == len(names)


def test_values_have_a_datatype():
    typed = {Place.SLOT, Place.XML, Place.IDENTIFIER}
    assert all(row.type is not None for row in ROWS if row.place in typed)


def test_every_kind_has_its_unique_id_and_patient():
    for kind in (Kind.DOCUMENT_ENTRY, Kind.SUBMISSION_SET, Kind.FOLDER):
        assert {"uniqueId", "patientId", "entryUUID"} <= {row.attribute for row in OBJECT_ROWS[kind]}


def test_known_slots_are_those_of_the_framework():
    assert "submissionTime" in KNOWN_SLOTS[Kind.SUBMISSION_SET]
    assert "submissionTime" not in KNOWN_SLOTS[Kind.DOCUMENT_ENTRY]
    assert "SubmissionSetStatus" in KNOWN_SLOTS[Kind.ASSOCIATION]


@pytest.mark.parametrize(
    "text", ["Lab", "|^Welby", "||^^Internet^a@b.c", "Lab|11375|", "Lab^^^^^^^^^1.2.3|^Welby^Marcus"]
)
def test_recipients(text):
    RECIPIENT.parse(text)
    RECIPIENT.parse(RECIPIENT.normalise(text + "^^"))


@pytest.mark.parametrize("text", ["", "|", "||", "Lab|^W|^^Internet^a@b.c|x", "^L|^W", "|^^Marcus", "||0035226"])
def test_no_recipients(text):
    with pytest.raises(ValueError, match=r"allowed|component"):
        RECIPIENT.parse(text)


@pytest.mark.parametrize("text", ["0", "061224", str(2**63 - 1)])
def test_sizes(text):
    SIZE.parse(text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1e3", "٣", str(2**63), "1" * 5000])
def test_no_sizes(text):
    with pytest.raises(ValueError, match="digits"):
        SIZE.parse(text)
