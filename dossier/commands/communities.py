"""``dossier communities``: the communities of partners by hand.

check          whether each of them can be worked with: address, TLS, transactions, home
find-patient   who a patient of ours is there
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dossier.console import CommandError, note, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, Patient, load_settings, read_identifier
from dossier.services import check_certificates
from dossier.settings import room_arguments
from gateway.settings import Community, GatewaySettings
from ihe.datatypes import normalise_oid_urn, print_cx

if TYPE_CHECKING:
    from gateway.by_hand import Said

__all__ = ["app"]

app = typer.Typer(help="The communities of partners.", no_args_is_help=True)

COLUMNS: Final = {"community": "community", "what": "what", "answer": "", "result": "result", "remedy": "to do"}
ANSWERS: Final = {True: "ok", False: "no", None: "-"}
AT_ONCE: Final = 16
FOUND: Final = {
    "community": "community",
    "patient": "patient there",
    "said": "said",
    "family": "family",
    "given": "given",
    "birth": "birth",
    "sex": "sex",
    "match": "match",
    "time_to_live_s": "holds (s)",
}


@app.callback()
def _group() -> None:
    """The communities of partners."""


@app.command()
def check(
    homes: Annotated[
        list[str] | None, typer.Argument(metavar="[HOME]...", help="Home community ids; without any, all of them.")
    ] = None,
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Ask each community of the settings what nobody has, and say what is wrong and how to mend it."""
    # Not at the top: a SOAP client would make every other command slower to start.
    from gateway.probe import probe

    settings = load_settings(config, data, base_port)
    check_certificates(settings)
    chosen = _chosen(settings.gateway, homes or [])
    tls, home = settings.tls["gateway"], settings.affinity_domain.home_community_id
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda one: probe(one, settings.gateway, tls, home), chosen))
    pairs = list(zip((one.home_community_id for one in chosen), found, strict=True))
    wrong = [home for home, findings in pairs if any(one.holds is False for one in findings)]
    if as_json:
        told = [{"home_community_id": home, "findings": [asdict(one) for one in findings]} for home, findings in pairs]
        print_json({"communities": told, "wrong": wrong})
    else:
        rows = [
            asdict(one) | {"community": home, "answer": ANSWERS[one.holds]}
            for home, findings in pairs
            for one in findings
        ]
        print_table(COLUMNS, rows)
    if wrong:
        raise CommandError(f"something is wrong with {', '.join(wrong)}")
    note(f"{len(pairs)} {'community' if len(pairs) == 1 else 'communities'} checked, nothing is wrong")


@app.command(name="find-patient")
def find_patient(
    patient: Patient,
    homes: Annotated[
        list[str] | None,
        typer.Option("--community", metavar="HOME", help="Home community id, repeatable; without it, all of them."),
    ] = None,
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Ask communities who a patient of ours is there (ITI-55), now and not from memory."""
    from atna.store.engine import DatabaseRefused
    from gateway.app import find_patient as ask_them
    from gateway.store.protocol import StoreUnavailable

    settings = load_settings(config, data, base_port)
    check_certificates(settings)
    patient_id = print_cx(read_identifier("--patient", patient))
    chosen = [one.home_community_id for one in _chosen(settings.gateway, homes or []) if _discovers(one)]
    if not chosen:
        raise CommandError("no community is asked by ITI-55: give it discovery_url, and list ITI-55", status=2)
    arguments = room_arguments(settings, "gateway")
    del arguments["limits"]
    try:
        told = ask_them(**arguments, patient_id=patient_id, homes=chosen)
    except (StoreUnavailable, DatabaseRefused) as error:
        raise CommandError(str(error)) from error
    rows = [row for said in told for row in _rows(said)]
    if as_json:
        print_json({"patient": patient_id, "communities": rows})
    else:
        print_table(FOUND, rows)
    failed = [said.home for said in told if said.problem is not None]
    if failed:
        raise CommandError(f"no answer that says who the patient is: {', '.join(failed)}")


def _discovers(community: Community) -> bool:
    return community.discovery_url is not None and "ITI-55" in community.transactions


def _rows(said: "Said") -> Iterator[dict[str, Any]]:
    """A row for each patient; one that says why not where there is none."""
    blank: dict[str, Any] = dict.fromkeys(FOUND)
    if said.problem is not None or not said.ids:
        yield blank | {"community": said.home, "said": said.problem or "knows no such patient"}
    for identifier, found in zip(said.ids, said.patients, strict=True):
        yield {
            "community": said.home,
            "patient": identifier,
            "said": "found",
            "family": found.demographics.family,
            "given": found.demographics.given,
            "birth": found.demographics.birth,
            "sex": found.demographics.sex,
            "match": found.match,
            "time_to_live_s": said.time_to_live_s,
        }


def _chosen(gateway: GatewaySettings, homes: list[str]) -> list[Community]:
    if not gateway.communities:
        raise CommandError("there is no community: the settings name them as [[gateway.communities]]", status=2)
    wanted = {normalise_oid_urn(home) for home in homes}
    known = {one.home_community_id for one in gateway.communities}
    if wanted - known:
        raise CommandError(f"the settings name no community {', '.join(sorted(wanted - known))}", status=2)
    return [one for one in gateway.communities if not wanted or one.home_community_id in wanted]
