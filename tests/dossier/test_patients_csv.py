"""The patients' file: read, refused with line numbers, resumed."""

import pytest

from dossier.patients_csv import CsvRefused, Progress, check_patients, read_patients
from ihe.hl7v2 import Demographics, Identifier

OID = "1.3.6.1.4.1.21367.13.20.1000"
HEAD = "id,authority,family,given,birth,sex\n"


@pytest.fixture
def file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "patients.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def ids(path, after=0):
    return [row.identifier.id for row in read_patients(path, after)]


def test_a_patient_is_read(file):
    (row,) = read_patients(file(HEAD + f" 1 ,urn:oid:{OID},Müller,Änne,1970-01-31,f\n"))
    assert row.identifier == Identifier("1", None, OID, "ISO")
    assert row.demographics == Demographics("Müller", "Änne", "19700131", "F")


def test_columns_in_any_order_with_semicolons_and_a_byte_order_mark(file):
    (row,) = read_patients(file(f"\ufeffSex;Remark;Authority;ID\nM;x;{OID};7\n"))
    assert (row.identifier.id, row.demographics.sex) == ("7", "M")


def test_a_whole_cx_in_one_column(file):
    (row,) = read_patients(file(f"patient\nA\\T\\B^^^&{OID}&ISO\n"))
    assert row.identifier == Identifier("A&B", None, OID, "ISO")


def test_quoted_fields_blank_lines_and_lines_that_end_otherwise(file):
    path = file(HEAD + f'1,{OID},"Van ""der"", Berg",,,\r\n\r\n2,{OID},"two\nlines",,,\r\n3,{OID},,,,')
    rows = list(read_patients(path))
    assert [(row.line, row.through) for row in rows] == [(2, 2), (4, 5), (6, 6)]
    assert rows[0].demographics.family == 'Van "der", Berg'
    assert check_patients(path) == 3


def test_every_fault_is_told_with_its_line_and_without_its_value(file):
    path = file(HEAD + f"1,{OID},,,,\n,{OID},,,,\n3,nowhere,,,secret,Q\n4,{OID},,,19701,\n")
    with pytest.raises(CsvRefused) as caught:
        check_patients(path)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["line 3", *["line 4"] * 3, "line 5"]
    assert "secret" not in str(caught.value) and "nowhere" not in str(caught.value)
    with pytest.raises(CsvRefused, match="line 3: id is missing"):
        ids(path)


@pytest.mark.parametrize("birth", ["2024-02-30", "1970-13-01", "197013", "20230229", "0000"])
def test_a_birth_that_is_no_day_of_the_calendar_is_refused_before_anything_is_sent(file, birth):
    with pytest.raises(CsvRefused, match="line 2: birth is no day of the calendar"):
        check_patients(file(HEAD + f"1,{OID},,,{birth},\n"))


@pytest.mark.parametrize("birth", ["2024-02-29", "197012", "1900"])
def test_a_birth_may_be_less_precise_than_a_day(file, birth):
    assert check_patients(file(HEAD + f"1,{OID},,,{birth},\n")) == 1


def test_many_faults_are_counted(file):
    with pytest.raises(CsvRefused) as caught:
        check_patients(file(HEAD + ",\n" * 30 + f",{OID}\n" * 60))
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1] == "and 40 more"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1 should name the columns"),
        (f"1,{OID}\n", "line 1 should name the columns"),
        ("id,family\n", "line 1 should name the columns"),
        ("id,authority,id\n", "named twice"),
        (HEAD + '1,"x', "line 2"),
    ],
)
def test_a_file_that_is_none(file, text, reason):
    with pytest.raises(CsvRefused, match=reason):
        check_patients(file(text))


def test_another_encoding_and_a_missing_file(file, tmp_path):
    with pytest.raises(CsvRefused, match="UTF-8"):
        check_patients(file(HEAD + f"1,{OID},Müller,,,\n", "latin-1"))
    with pytest.raises(CsvRefused, match="No such file"):
        check_patients(tmp_path / "nothing.csv")


def rows_of(count):
    return "".join(f"{number},{OID},,,,\n" for number in range(1, count + 1))


def test_a_feed_goes_on_after_the_last_acknowledged_line(file):
    path = file(HEAD + rows_of(5))
    progress = Progress(path)
    assert progress.resume() == 0
    for row in list(read_patients(path))[:3]:
        progress.acknowledged(row)
    assert ids(path, Progress(path).resume()) == ["4", "5"]


def test_lines_may_be_added_but_fed_ones_not_changed(file):
    path = file(HEAD + rows_of(3))
    for row in read_patients(path):
        Progress(path).acknowledged(row)
    file(HEAD + rows_of(4))
    assert ids(path, Progress(path).resume()) == ["4"]
    file(HEAD + rows_of(4).replace("1,", "9,", 1))
    with pytest.raises(CsvRefused, match=r"changed at or before line 4.*patients\.csv\.progress"):
        Progress(path).resume()
    file(HEAD + rows_of(2))
    with pytest.raises(CsvRefused, match="changed"):
        Progress(path).resume()


def test_a_finished_feed_begins_anew(file):
    path = file(HEAD + rows_of(1))
    progress = Progress(path)
    (row,) = read_patients(path)
    progress.acknowledged(row)
    progress.finished()
    progress.finished()
    assert progress.resume() == 0
    assert sorted(found.name for found in path.parent.iterdir()) == ["patients.csv"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"line": "x", "sha256": 1}', "\xff"])
def test_a_damaged_progress_file_is_named(file, text):
    progress = Progress(file(HEAD))
    progress.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CsvRefused, match="remove it"):
        progress.resume()
