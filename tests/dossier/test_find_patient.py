"""``dossier communities find-patient`` with a real registry here and there, and with partners that play a script."""

import json

import pytest

from ihe.hl7v3_answer import Reason, ResponseCode
from tests.gateway.discovering import HERE, OURS, THEIRS, THERE, community, registry
from tests.gateway.test_discovery import answering, patient
from tests.raw_peer import performing

NOWHERE = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.3"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    with community(tmp_path_factory.mktemp("there"), THERE, time_to_live_s=600) as it:
        it.registry.know("Q7", authority=THEIRS)
        yield it


@pytest.fixture
def find(there, tmp_path, run_command):
    """Run the command of a community that knows P1; status, the rows printed, the errors."""
    with registry(tmp_path / "registry") as own:
        own.know("P1")
        own.know("P2", family="Nobody")

        def run(*words, more="", patient_id=f"P1^^^&{OURS}&ISO", rows=None):
            config = tmp_path / "dossier.toml"
            listed = rows or [(THERE, there.responding)]
            config.write_text(
                f'[affinity_domain]\nhome_community_id = "{HERE}"\n'
                f'[gateway]\nregistry_url = "{own.address}"\ndeadline_s = 5\n'
                + "".join(
                    f'[[gateway.communities]]\nhome_community_id = "{home}"\ndiscovery_url = "{url}"\n'
                    for home, url in listed
                )
                + more
            )
            paths = ("--config", str(config), "--data", str(tmp_path))
            status, out, err = run_command(
                "communities", "find-patient", "--patient", patient_id, *words, *paths, "--json"
            )
            return status, json.loads(out)["communities"] if out else None, err

        yield run


def test_who_the_patient_is_there(find):
    for _ in range(2):
        status, (row,), _err = find()
        assert status == 0
        assert row == {
            "community": THERE,
            "patient": f"Q7^^^&{THEIRS}&ISO",
            "said": "found",
            "family": "Müller",
            "given": "Änne",
            "birth": "19700101",
            "sex": "F",
            "match": 100,
            "time_to_live_s": 600.0,
        }


def test_it_is_asked_each_time_and_on_record(find, there):
    there.records()
    find()
    find()
    answered = [one for one in there.records() if one[0] == "ITI-55"]
    assert answered == [("ITI-55", 0, "answered", THERE, ["Q7"])] * 2


def test_nobody_there_is_an_answer(find):
    status, (row,), _err = find(patient_id=f"P2^^^&{OURS}&ISO")
    assert (status, row["said"], row["patient"]) == (0, "knows no such patient", None)


def test_all_who_match_are_shown_whatever_the_gateway_would_do(find):
    two = {"code": ResponseCode.OK, "patients": [patient("A"), patient("B")]}
    with performing(answering(two)) as peer:
        status, rows, _err = find(rows=[(THERE, peer.url)])
    assert (status, [row["patient"] for row in rows]) == (0, [f"A^^^&{THEIRS}&ISO", f"B^^^&{THEIRS}&ISO"])


def test_somebody_else_is_an_error(find):
    with performing(answering({"code": ResponseCode.OK, "patients": [patient(birth="19700101", sex="M")]})) as peer:
        status, (row,), err = find(rows=[(THERE, peer.url)])
    assert (status, row["said"], row["patient"]) == (1, "it found a patient of another birth or sex (ITI-55)", None)
    assert THERE in err


def test_one_that_cannot_say_costs_the_others_nothing(find, there):
    with performing(answering({"code": ResponseCode.ERROR, "reason": Reason.BUSY})) as peer:
        status, rows, err = find(rows=[(NOWHERE, peer.url), (THERE, there.responding)])
    assert status == 1
    assert {row["community"]: row["said"] for row in rows}[THERE] == "found"
    assert "ResponderBusy" in {row["community"]: row["said"] for row in rows}[NOWHERE]
    assert NOWHERE in err and THERE not in err


def test_only_those_named_are_asked(find, there):
    with performing(answering({"code": ResponseCode.ERROR})) as peer:
        listed = [(NOWHERE, peer.url), (THERE, there.responding)]
        status, rows, _err = find("--community", THERE.removeprefix("urn:oid:"), rows=listed)
    assert (status, [row["community"] for row in rows]) == (0, [THERE])


def test_a_table_for_a_pipe(find, there, run_command, tmp_path):
    find()
    words = ("--config", str(tmp_path / "dossier.toml"), "--data", str(tmp_path))
    status, out, _err = run_command("communities", "find-patient", "--patient", f"P1^^^&{OURS}&ISO", *words)
    assert (status, out.split("\t")[:3]) == (0, [THERE, f"Q7^^^&{THEIRS}&ISO", "found"])


@pytest.mark.parametrize(
    ("words", "how", "told"),
    [
        ((), {"patient_id": "P1"}, "--patient"),
        (("--community", "1.2.3"), {}, "name no community urn:oid:1.2.3"),
        ((), {"more": 'transactions = ["ITI-38"]\n'}, "no community is asked by ITI-55"),
    ],
)
def test_wrong_usage(find, words, how, told):
    status, rows, err = find(*words, **how)
    assert (status, rows) == (2, None)
    assert told in err
