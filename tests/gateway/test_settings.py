import pytest
from pydantic import ValidationError

from gateway.patients import PatientMap
from gateway.settings import Community, GatewaySettings

HOME = "urn:oid:1.2.250.1"


@pytest.mark.parametrize(
    ("community", "fault"),
    [
        ({"home_community_id": "x"}, "is no OID"),
        ({"home_community_id": HOME, "patient_id": "discover"}, "needs discovery_url"),
        ({"home_community_id": HOME, "patient_id": "table"}, "needs patients"),
        ({"home_community_id": HOME, "query_url": "gateway.example"}, "should be an address"),
        ({"home_community_id": HOME, "certificate": __file__}, "belong together"),
        ({"home_community_id": HOME, "transactions": ["ITI-18"]}, "ITI-38"),
    ],
)
def test_what_a_community_lacks_is_told(community, fault):
    with pytest.raises(ValidationError, match=fault):
        Community.model_validate(community)


@pytest.mark.parametrize("other", ["7^^^&1.2.3&iso", "7^^^Lux&1.2.3&ISO", " 7^^^&1.2.3&ISO "])
def test_a_patient_of_ours_stands_in_the_table_once(other):
    rows = {"7^^^&1.2.3&ISO": "A7^^^&1.2.250&ISO", "8^^^&1.2.3&ISO": "A8^^^&1.2.250&ISO", other: "B7^^^&1.2.250&ISO"}
    with pytest.raises(ValidationError, match="rows 1, 3 are of the same patient of ours") as refused:
        Community.model_validate({"home_community_id": HOME, "patient_id": "table", "patients": rows})
    assert "1.2.3" not in str(refused.value)


def test_patients_with_one_id_of_two_authorities_are_two():
    rows = {"7^^^&1.2.3&ISO": "A7^^^&1.2.250&ISO", "7^^^&1.2.4&ISO": "A7^^^&1.2.250&ISO"}
    assert Community.model_validate({"home_community_id": HOME, "patient_id": "table", "patients": rows}).patients


def test_a_home_or_a_repository_stands_once():
    with pytest.raises(ValidationError, match=r"listed more than once: 1\.2\.3, urn:oid:1\.2\.250\.1"):
        GatewaySettings.model_validate(
            {
                "communities": [{"home_community_id": HOME}, {"home_community_id": "1.2.250.1"}],
                "repositories": [{"unique_id": "1.2.3", "url": "http://127.0.0.1:1/"}] * 2,
            }
        )


def test_no_community_may_take_longer_than_all():
    settings = GatewaySettings(
        deadline_s=5,
        communities=[
            {"home_community_id": "1.2.1", "deadline_s": 2},
            {"home_community_id": "1.2.2", "deadline_s": 9},
            {"home_community_id": "1.2.3"},
        ],
    )
    assert [settings.deadline_of(community) for community in settings.communities] == [2, 5, 5]


def test_a_patient_is_named_as_here_or_as_the_table_says():
    settings = GatewaySettings.model_validate(
        {
            "communities": [
                {"home_community_id": "1.2.1"},
                {
                    "home_community_id": "1.2.2",
                    "patient_id": "table",
                    "patients": {"7^^^&1.2.3&ISO": "A7^^^&1.2.250&ISO"},
                },
            ]
        }
    )
    same, table = settings.communities
    patients = PatientMap(settings)
    assert patients.at(same, "8^^^&1.2.3&ISO", 0) == ("8^^^&1.2.3&ISO",)
    assert patients.at(table, "7^^^Lux&1.2.3&ISO", 0) == ("A7^^^&1.2.250&ISO",)
    assert patients.at(table, "8^^^&1.2.3&ISO", 0) == ()
