"""``dossier communities``: the communities of partners by hand.

check   whether each of them can be worked with: address, TLS, transactions, home
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from dossier.console import CommandError, note, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.services import check_certificates
from gateway.settings import Community, GatewaySettings
from ihe.datatypes import normalise_oid_urn

__all__ = ["app"]

app = typer.Typer(help="The communities of partners.", no_args_is_help=True)

COLUMNS: Final = {"community": "community", "what": "what", "answer": "", "result": "result", "remedy": "to do"}
ANSWERS: Final = {True: "ok", False: "no", None: "-"}
AT_ONCE: Final = 16


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
    tls = settings.tls["gateway"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(lambda one: probe(one, settings.gateway, tls), chosen))
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


def _chosen(gateway: GatewaySettings, homes: list[str]) -> list[Community]:
    if not gateway.communities:
        raise CommandError("there is no community: the settings name them as [[gateway.communities]]", status=2)
    wanted = {normalise_oid_urn(home) for home in homes}
    known = {one.home_community_id for one in gateway.communities}
    if wanted - known:
        raise CommandError(f"the settings name no community {', '.join(sorted(wanted - known))}", status=2)
    return [one for one in gateway.communities if not wanted or one.home_community_id in wanted]
