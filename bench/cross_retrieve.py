"""``python -m bench.cross_retrieve [--gigabytes G]``: a document of 1 GiB out of a repository through both gateways.

A whole domain on this machine, and the gateway of another one. Time against the same document taken from its repository
directly, and against dd and sha1sum of its bytes; memory of every process above idle.
"""

import argparse
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.load import MARK
from bench.messages import REPOSITORY, patient_id, provide_head
from bench.servers import Dossier, dossier, resident_bytes
from bench.transfer import fetch, made, peaks, send
from ihe import ebrs
from ihe import vocabulary as v

HERE, THERE = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.1", "urn:oid:1.3.6.1.4.1.21367.2011.2.7.2"
GOAL_MIB = 64


def _across(unique_id: str) -> bytes:
    return (
        f'<x:RetrieveDocumentSetRequest xmlns:x="{v.XDSB}"><x:DocumentRequest>'
        f"<x:HomeCommunityId>{THERE}</x:HomeCommunityId><x:RepositoryUniqueId>{REPOSITORY}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{unique_id}</x:DocumentUniqueId></x:DocumentRequest></x:RetrieveDocumentSetRequest>"
    ).encode()


def _put(server: Dossier, file: Path, sha1: str) -> str:
    patient = patient_id(1)
    command = [sys.executable, "-m", "dossier", "feed", "--patient", patient, "--base-port", str(server.base_port)]
    subprocess.run(command, check=True, capture_output=True)
    unique = f"{secrets.randbelow(10**15):015}"
    answer = send(server, file, provide_head(patient, file.stat().st_size, sha1).replace(MARK, unique.encode()))
    if b"ResponseStatusType:Success" not in answer:
        raise RuntimeError(f"the large document was refused: {answer[:2000]!r}")
    return f"2.25.2{unique}"


def _config(folder: Path, home: str, communities: str = "") -> dict[str, str]:
    file = folder / "dossier.toml"
    file.write_text(f'[affinity_domain]\nhome_community_id = "{home}"\n{communities}')
    return {"CONFIG": str(file)}


def measure(folder: Path, gigabytes: float) -> list[str]:
    """The lines that tell what was measured."""
    here, there = folder / "here", folder / "there"
    here.mkdir(), there.mkdir()
    with dossier(there, **_config(there, THERE)) as theirs:
        partner = f'[[gateway.communities]]\nhome_community_id = "{THERE}"\n'
        partner += f'query_url = "http://127.0.0.1:{theirs.gateway}/responding"\n'
        with dossier(here, "gateway", **_config(here, HERE, partner)) as ours:
            sha1, bare = made(folder / "large", gigabytes)
            size = (folder / "large").stat().st_size
            unique_id = _put(theirs, folder / "large", sha1)
            (folder / "large").unlink()
            pids = {
                f"{where} {name}": pid for where, one in (("A", ours), ("B", theirs)) for name, pid in one.pids.items()
            }
            took, grown = {}, {}
            for way, port, path, body in (
                ("directly", theirs.repository, "/repository", ebrs.retrieve_request([(REPOSITORY, unique_id)])),
                ("through both gateways", ours.gateway, "/initiating", _across(unique_id)),
            ):
                idle = {name: resident_bytes(pid) for name, pid in pids.items()}
                with peaks(list(pids.values())) as peak:
                    began = time.monotonic()
                    got = fetch(port, path, body)
                    took[way] = time.monotonic() - began
                    grown[way] = dict(zip(pids, peak(), strict=True))
                if got != (sha1, size):
                    raise RuntimeError(f"the large document did not come byte for byte {way}")
                grown[way] = {name: (top - idle[name]) / 2**20 for name, top in grown[way].items()}
    across = "through both gateways"
    lines = [
        f"{gigabytes:g} GiB {way}: {seconds:.1f} s, {seconds / bare:.2f} of dd + sha1sum ({bare:.1f} s)"
        for way, seconds in took.items()
    ]
    lines.append(f"{across} / directly: {took[across] / took['directly']:.2f}")
    worst = sorted(grown[across].items(), key=lambda pair: -pair[1])
    lines.append("MiB above idle: " + ", ".join(f"{name} {mib:.0f}" for name, mib in worst if mib >= 1))
    return [*lines, f"worst process: {worst[0][1]:.0f} MiB above idle (goal {GOAL_MIB})"]


def main() -> None:
    ask = argparse.ArgumentParser(prog="bench.cross_retrieve")
    ask.add_argument("--gigabytes", type=float, default=1.0, help="size of the document, GiB")
    with tempfile.TemporaryDirectory(prefix="dossier-bench-") as folder:
        print(*measure(Path(folder), ask.parse_args().gigabytes), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
