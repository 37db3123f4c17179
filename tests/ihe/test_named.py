"""What a refused request is about is told though nothing of it was checked."""

import pytest

from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request
from ihe.named import NamedQuery, NamedSubmission, query_named, submission_named
from schemas import parse_xml
from tests.builders import PATIENT, submission, submit_objects_request_xml


def test_a_submission():
    objects = submission()
    named = submission_named(parse_xml(submit_objects_request_xml(objects)))
    assert named.patient_id == PATIENT
    assert named.unique_id.startswith("2.25.")


@pytest.mark.parametrize(
    "text",
    [
        "<a/>",
        f'<a><ExternalIdentifier xmlns="{v.RIM}"/></a>',
        f'<a><ExternalIdentifier xmlns="{v.RIM}" identificationScheme="{v.SUBMISSION_SET_UNIQUE_ID}" value=" "/></a>',
    ],
)
def test_nothing_is_told_of_what_names_nothing(text):
    assert submission_named(parse_xml(text.encode())) == NamedSubmission(None, None)
    assert query_named(parse_xml(text.encode())) == NamedQuery(None, None, ())


def test_ids_are_bounded():
    text = (
        f'<a><ExternalIdentifier xmlns="{v.RIM}" identificationScheme="{v.SUBMISSION_SET_UNIQUE_ID.upper()}"'
        f' value="{"1" * 999}"/></a>'
    )
    assert submission_named(parse_xml(text.encode())).unique_id == "1" * 256


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (f"'{PATIENT}'", (PATIENT,)),
        (PATIENT, (PATIENT,)),
        (f"('{PATIENT}','Q^^^&1.2.3&ISO')", (PATIENT, "Q^^^&1.2.3&ISO")),
        ("'no patient'", ()),
        ([f"('{PATIENT}'", "no patient)"], (PATIENT,)),
    ],
)
def test_patients_of_a_query_however_they_are_written(values, found):
    body = adhoc_query_request("urn:uuid:x", {"$XDSDocumentEntryPatientId": values, "$other": "'A^^^&1.2&ISO'"})
    assert query_named(parse_xml(body)) == NamedQuery("urn:uuid:x", None, found)


def test_patients_are_bounded():
    many = ",".join(f"'P{number}^^^&1.2.3&ISO'" for number in range(500))
    named = query_named(parse_xml(adhoc_query_request("urn:uuid:x", {"$patientId": f"({many})"})))
    assert len(named.patient_ids) == 100
