"""``dossier config check``: what is wrong with the settings, all of it."""

from pathlib import Path

import typer

from dossier.console import print_json
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.services import SERVICES, check_certificates, endpoints
from dossier.settings import SettingsError
from ihe.affinity_domain import CodeFileError
from wire.affinity_domain import agreed_codes
from wire.settings import AffinityDomainSettings

__all__ = ["app"]

app = typer.Typer(help="Settings.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Settings."""


@app.command()
def check(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False) -> None:
    """Check settings, certificates and the code file; print every fault, or the table of endpoints."""
    try:
        settings = load_settings(config, data, base_port)
        check_certificates(settings)
        _check_codes(settings.affinity_domain)
    except SettingsError as error:
        if as_json:
            print_json({"faults": error.faults})
        raise
    rows = endpoints(settings, list(SERVICES.values()))
    if as_json:
        print_json({"faults": [], "endpoints": rows})
        return
    for row in rows:
        typer.echo(f"{row['service']:<18} {row['address']:<48} {row['speaks']}")
    typer.echo(f"environment: {settings.affinity_domain.environment}; settings are right")


def _check_codes(domain: AffinityDomainSettings) -> None:
    try:
        agreed_codes(domain)
    except CodeFileError as error:
        raise SettingsError([f"affinity_domain.codes: {fault}" for fault in error.faults]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"affinity_domain.codes: cannot be read: {type(error).__name__}"]) from error
