"""``dossier config check``: what is wrong with settings, certificates and code file, all of it; else what they say."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import typer

from dossier.advice import advice
from dossier.console import print_json
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.services import (
    SERVICES,
    check_certificates,
    check_checkpoint_key,
    check_folders,
    check_keyring,
    endpoints,
    tls_tables,
)
from dossier.settings import Settings, SettingsError
from ihe.affinity_domain import CODED_ATTRIBUTES, CodeFileError
from repository.settings import RepositorySettings
from wire.affinity_domain import SHIPPED, agreed_codes
from wire.certificate_expiry import expiries
from wire.settings import AffinityDomainSettings, TlsSettings

__all__ = ["app"]

app = typer.Typer(help="Settings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Settings."""


@app.command()
def check(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False) -> None:
    """Check settings, certificates and the code file; print every fault, or what they say."""
    try:
        settings = load_settings(config, data, base_port)
        codes = _checked(settings)
    except SettingsError as error:
        if as_json:
            print_json({"faults": error.faults})
        raise
    rows = endpoints(settings, list(SERVICES.values()))
    if as_json:
        print_json(
            {
                "faults": [],
                "endpoints": rows,
                "certificates": list(_certificates(settings)),
                "communities": list(_communities(settings)),
                "codes": codes,
                "scanner": settings.repository.scanner,
                "advice": list(advice(settings)),
            }
        )
        return
    for row in rows:
        typer.echo(f"{row['service']:<18} {row['address']:<48} {row['speaks']}")
    for one in _certificates(settings):
        ends = f"until {one['until'][:10]}, {one['days']} days" if one["days"] >= 0 else f"EXPIRED {one['until'][:10]}"
        typer.echo(f"{one['file']:<18} {one['tls']:<18} {one['path']}  {ends}")
    for one in _communities(settings):
        address = one["query_url"] or "is never asked"
        exchanged = ", ".join(one["transactions"])
        typer.echo(f"community {one['home_community_id']}  {address}  {exchanged}, patient_id {one['patient_id']}")
    typer.echo(f"codes: {codes['file']}")
    for attribute, counted in codes["attributes"].items():
        typer.echo(f"  {attribute:<30} {_counted(counted)}")
    if codes["not_restricted"]:
        typer.echo(f"  not restricted: {', '.join(codes['not_restricted'])}")
    typer.echo(f"scanner: {_scanner(settings.repository)}")
    for line in advice(settings):
        typer.echo(f"advice: {line}")
    typer.echo(f"environment: {settings.affinity_domain.environment}; settings are right")


def _certificates(settings: Settings) -> Iterator[dict[str, Any]]:
    """When the first of each file of certificates or revocation lists ends."""
    now = datetime.now(UTC)
    for table, tls in (*tls_tables(settings), *_own_of_communities(settings)):
        for file, moment in expiries(tls).items():
            yield {
                "tls": table,
                "file": file,
                "path": str(getattr(tls, file)),
                "until": moment.isoformat(),
                "days": (moment - now).days,
            }


def _own_of_communities(settings: Settings) -> Iterator[tuple[str, TlsSettings]]:
    """Files that are named for one community alone."""
    tables = settings.gateway.own_tables()
    for community in settings.gateway.communities:
        if community.home_community_id in tables:
            nobody = TlsSettings(require_client_certificate=False)
            yield tables[community.home_community_id], nobody.model_copy(update=community.own_files)


def _communities(settings: Settings) -> Iterator[dict[str, Any]]:
    """What is agreed with each community, without its table of patients."""
    shown = (
        "home_community_id",
        "query_url",
        "retrieve_url",
        "discovery_url",
        "patient_id",
        "transactions",
        "subjects",
    )
    for community in settings.gateway.communities:
        yield {name: getattr(community, name) for name in shown} | {
            "deadline_s": settings.gateway.deadline_of(community)
        }


def _scanner(repository: RepositorySettings) -> str:
    """What happens to malware in documents, in a line."""
    if repository.scanner == "none":
        return "none: documents are not scanned for malware"
    without = "refused" if repository.scanner_required else "accepted, logged and counted"
    return f"{repository.scanner}; a document that cannot be scanned is {without}"


def _checked(settings: Settings) -> dict[str, Any]:
    """What the code file lists; raises SettingsError with every fault of certificates and code file together."""
    faults: list[str] = []
    codes: dict[str, Any] = {}
    for checked in (check_certificates, check_keyring, check_folders, partial(check_checkpoint_key, starting=False)):
        try:
            checked(settings)
        except SettingsError as error:
            faults += error.faults
    try:
        codes = _codes(settings.affinity_domain)
    except CodeFileError as error:
        faults += [f"affinity_domain.codes: {fault}" for fault in error.faults]
    except OSError as error:
        faults.append(f"affinity_domain.codes: cannot be read: {error.strerror}")
    if faults:
        raise SettingsError(faults)
    return codes


def _codes(domain: AffinityDomainSettings) -> dict[str, Any]:
    """File and attributes; of each how many codes it has, and how many of them cannot be used today."""
    agreed = agreed_codes(domain)
    today = datetime.now(UTC).strftime("%Y%m%d")
    attributes = {}
    for attribute, lines in agreed.lines.items():
        expired = sum(one.valid_to is not None and one.valid_to < today for one in lines)
        later = sum(one.valid_from is not None and one.valid_from > today for one in lines)
        attributes[attribute] = {"codes": len(lines), "expired": expired, "not_yet_valid": later}
    free = sorted({*CODED_ATTRIBUTES, "mimeType"} - set(attributes))
    return {"file": str(domain.codes or SHIPPED), "attributes": attributes, "not_restricted": free}


def _counted(counted: dict[str, int]) -> str:
    more = [f"{counted[key]} {key.replace('_', ' ')}" for key in ("expired", "not_yet_valid") if counted[key]]
    return f"{counted['codes']} codes" + (f" ({', '.join(more)})" if more else "")
