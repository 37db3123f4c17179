"""What a gateway costs: a query through both gateways over the direct one, and asking five slow communities at once.

Whole Dossiers on this machine in plain HTTP, one connection, one request to each in turn, so that what else the machine
does meets all of them alike.
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from bench.load import MARK, Plan, in_turn, soap_head
from bench.messages import find_documents, patient_id, register
from bench.servers import Dossier, dossier, free_base_port

RESULTS = 10
COMMUNITIES = 5
SLOW_S = 0.2
QUERY_GOAL, FAN_OUT_GOAL = 2.5, 1.3
HOME = "urn:oid:1.3.6.1.4.1.21367.2011.2.7."


def measure(folder: Path, seconds: float) -> list[tuple[str, str, str, str, str]]:
    """Rows of the table of ``python -m bench``: what, product, floor, ratio, goal."""
    with ExitStack() as stack:
        there = stack.enter_context(_domain(folder / "there", 1, {}))
        _filled(there)
        known = {f"{HOME}1": f"http://127.0.0.1:{there.base_port + 30}/responding"}
        here = stack.enter_context(_domain(folder / "here", 2, known))
        query = _query(there, here, seconds)
    with ExitStack() as stack:
        slow = {f"{HOME}{10 + number}": stack.enter_context(_slow(number)) for number in range(COMMUNITIES)}
        hub = stack.enter_context(_domain(folder / "hub", 3, slow))
        return [query, _fan_out(hub, seconds)]


def _query(there: Dossier, here: Dossier, seconds: float) -> tuple[str, str, str, str, str]:
    message = (find_documents(patient_id(1)),)
    direct = Plan(there.registry, soap_head("/registry"), message, 1, seconds)
    through = Plan(here.base_port + 30, soap_head("/initiating"), message, 1, seconds)
    in_turn([direct, through], min(2.0, seconds))
    bare, ours = in_turn([direct, through], seconds)
    what = f"ITI-18 through both gateways, {RESULTS} results"
    return what, f"p50 {ours:.1f} ms", f"ITI-18 p50 {bare:.1f} ms", f"{ours / bare:.2f}", f"≤ {QUERY_GOAL}"


def _fan_out(hub: Dossier, seconds: float) -> tuple[str, str, str, str, str]:
    plan = Plan(hub.base_port + 30, soap_head("/initiating"), (find_documents(patient_id(1)),), 1, seconds)
    in_turn([plan], min(2.0, seconds))
    (ours,) = in_turn([plan], seconds)
    what = f"ITI-18 to {COMMUNITIES} communities of {1000 * SLOW_S:.0f} ms each"
    ratio = f"{ours / (1000 * SLOW_S):.2f}"
    return what, f"p50 {ours:.0f} ms", f"{1000 * SLOW_S:.0f} ms", ratio, f"≤ {FAN_OUT_GOAL}"


@contextmanager
def _domain(folder: Path, number: int, known: dict[str, str]) -> Iterator[Dossier]:
    folder.mkdir()
    communities = [
        {"home_community_id": home, "query_url": url, "retrieve_url": url, "patient_id": "same"}
        for home, url in known.items()
    ]
    home, partners = f"{HOME}{number}", json.dumps(communities)
    settings = {"AFFINITY_DOMAIN__HOME_COMMUNITY_ID": home, "GATEWAY__COMMUNITIES": partners}
    with dossier(folder, **settings) as server:
        yield server


def _filled(server: Dossier) -> None:
    """One patient with as many documents as the query is to give."""
    at = ["--patient", patient_id(1), "--base-port", str(server.base_port)]
    subprocess.run([sys.executable, "-m", "dossier", "feed", *at], check=True, stdout=subprocess.DEVNULL)
    headers = {"content-type": "application/soap+xml; charset=UTF-8"}
    for number in range(RESULTS):
        message = register(patient_id(1)).replace(MARK, b"%015d" % (number + 1))
        url = f"http://127.0.0.1:{server.registry}/registry"
        answer = httpx2.post(url, content=message, headers=headers, trust_env=False)
        if "ResponseStatusType:Success" not in answer.text:
            raise RuntimeError(f"a submission was refused: {answer.text[:2000]}")


@contextmanager
def _slow(number: int) -> Iterator[str]:
    port = free_base_port() + 60
    command = [sys.executable, "-m", "bench.partner", str(port), f"{HOME}{10 + number}", str(SLOW_S)]
    process = subprocess.Popen(command)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/responding"
    finally:
        process.terminate()
        process.wait(20)
