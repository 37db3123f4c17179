"""The code file changed under a running server: over the wire, with several workers."""

import json
import time
from urllib.request import urlopen

import pytest

from dossier.demo import serving
from ihe import vocabulary as v
from tests.builders import CODE_FILE, LOINC, PATIENT, submission, with_code
from tests.scenarios.wire_peer import WirePeer

OWN = "1.2.3.9"
NEW, LAST_YEAR = f"typeCode,NEW-1,{OWN},New type,2024-02-29,", f"typeCode,OLD-1,{OWN},Old type,,2023-12-31"


@pytest.fixture(scope="module")
def house(tmp_path_factory, run_command):
    """A running Dossier with two workers and a code file of its own; (peer, the file, the admin address)."""
    folder = tmp_path_factory.mktemp("codes")
    codes = folder / "codes.csv"
    codes.write_bytes(CODE_FILE.read_bytes())
    config = folder / "dossier.toml"
    config.write_text(f'[affinity_domain]\ncodes = "{codes}"\n[registry]\nworkers = 2\n')
    data = folder / "data"
    data.mkdir()
    with serving(data, config=config) as running:
        port = ("--base-port", str(running.base_port))
        assert run_command("feed", "--patient", PATIENT, *port)[0] == 0
        peer = WirePeer(running, None)
        yield peer, codes, f"http://127.0.0.1:{running.base_port + 19}"
        peer.close()


def typed(code, scheme=OWN):
    return submission(entry=with_code(v.ENTRY_TYPE, code, scheme))


def until(peer, code, scheme, status):
    """Send new submissions until ten in a row, over connections of their own, are answered so; the last answer."""
    deadline, alike = time.monotonic() + 20, 0
    while alike < 10:
        assert time.monotonic() < deadline
        peer.close()
        answer = peer.register(typed(code, scheme))
        alike = alike + 1 if answer.status == status else 0
        if not alike:
            time.sleep(0.1)
    return answer


def replace(codes, *lines, without="\0"):
    """The shipped file with more lines, without those that contain a word."""
    shipped = CODE_FILE.read_text(encoding="utf-8").splitlines()
    new = codes.with_suffix(".new")
    new.write_text("\n".join([*(line for line in shipped if without not in line), *lines, ""]), encoding="utf-8")
    new.replace(codes)


def test_a_new_code_is_accepted_and_a_removed_one_refused(house):
    peer, codes, _admin = house
    assert peer.register(typed("11502-2", LOINC)).status == "Success"
    before = peer.register(typed("NEW-1"))
    assert before.status == "Failure"
    ((code, context),) = before.errors
    assert code == "XDSRegistryMetadataError"
    assert "typeCode" in context and "'NEW-1' of scheme '1.2.3.9'" in context and "codes.csv" in context
    replace(codes, NEW, LAST_YEAR, without="typeCode,11502-2,")
    assert until(peer, "NEW-1", OWN, "Success").errors == []
    ((_code, context),) = until(peer, "11502-2", LOINC, "Failure").errors
    assert "'11502-2'" in context and "allowed are" in context
    ((_code, context),) = until(peer, "OLD-1", OWN, "Failure").errors
    assert "expired on 2023-12-31 and cannot be used on 2024-02-29" in context


def test_a_broken_file_leaves_the_codes_and_is_shown(house):
    peer, codes, admin = house
    replace(codes, NEW)
    until(peer, "NEW-1", OWN, "Success")
    replace(codes, "typeCode,BROKEN")
    deadline = time.monotonic() + 20
    while (notes := json.load(urlopen(f"{admin}/health/ready"))["notes"]) != {"code_file": "failed"}:
        assert time.monotonic() < deadline, notes
        time.sleep(0.1)
    assert "dossier_code_file_broken 1.0" in urlopen(f"{admin}/metrics").read().decode()
    assert peer.register(typed("NEW-1")).status == "Success"
    replace(codes)
    until(peer, "NEW-1", OWN, "Failure")
    while json.load(urlopen(f"{admin}/health/ready"))["notes"] != {"code_file": "ok"}:
        assert time.monotonic() < deadline + 20
        time.sleep(0.1)
