"""The command line: ``dossier COMMAND``. Every command lives in ``dossier.commands``, one module each."""

import os
import sys
import traceback

import typer

from dossier.commands import (
    audit,
    certs,
    communities,
    config,
    database,
    defects,
    demo,
    feed,
    fetch,
    find,
    health,
    patients,
    serve,
    store,
    submit,
)
from dossier.console import CommandError
from dossier.settings import SettingsError

__all__ = ["app", "main"]

app = typer.Typer(
    name="dossier",
    help="Dossier, the open server of a shared health record: an IHE XDS.b affinity domain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("serve")(serve.serve)
app.command("feed")(feed.feed)
app.command("submit")(submit.submit)
app.command("find")(find.find)
app.command("fetch")(fetch.fetch)
app.command("defects")(defects.defects)
app.command("certs")(certs.certs)
app.command("health")(health.health)
app.command("demo")(demo.demo)
app.add_typer(audit.app, name="audit")
app.add_typer(communities.app, name="communities")
app.add_typer(config.app, name="config")
app.add_typer(store.app, name="store")
app.add_typer(patients.app, name="patients")
app.add_typer(database.app, name="db")


def main() -> None:
    """Run a command; whatever goes wrong is one line (or one a fault) and an exit status, never a trace."""
    try:
        app(standalone_mode=True)
    except SettingsError as error:
        _end([f"settings: {fault}" for fault in error.faults], 2)
    except CommandError as error:
        _end(error.lines, error.status)
    except KeyboardInterrupt:
        _end(["interrupted"], 130)
    except BrokenPipeError:
        # The reader of our output went away (``dossier find ... | head``): nothing to tell, and nobody to tell it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect of ours, told in one line
        if os.environ.get("DOSSIER_TRACE"):
            traceback.print_exc()
        _end([f"defect in this command ({type(error).__name__}); DOSSIER_TRACE=1 shows where"], 1)


def _end(lines: "list[str] | tuple[str, ...]", status: int) -> None:
    for line in lines:
        sys.stderr.write(f"dossier: {line}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
