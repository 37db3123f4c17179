"""The command line: ``dossier COMMAND``. Every command lives in ``dossier.commands``, one module each."""

import contextlib
import os
import sys
import traceback
from io import TextIOWrapper, UnsupportedOperation

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
    _open_streams()
    try:
        try:
            app(standalone_mode=True)
        finally:
            sys.stdout.flush()  # here, where a failure can be told
    except SettingsError as error:
        _end([f"settings: {fault}" for fault in error.faults], 2)
    except CommandError as error:
        _end(error.lines, error.status)
    except KeyboardInterrupt:
        _end(["interrupted"], 130)
    except BrokenPipeError:
        # The reader of our output went away (``dossier find ... | head``): nothing to tell, and nobody to tell it to.
        _drop_output()
        sys.exit(1)
    except OSError as error:  # a full disk behind our output, mostly; what a command can say more of, it says itself
        _drop_output()
        _end([f"{error.filename or 'input or output'}: {error.strerror or type(error).__name__}"], 1)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect of ours, told in one line
        if os.environ.get("DOSSIER_TRACE"):
            traceback.print_exc()
        _end([f"defect in this command ({type(error).__name__}); DOSSIER_TRACE=1 shows where"], 1)


def _open_streams() -> None:
    """Make every standard stream one that can be used.

    A closed one leads nowhere: else the next file that is opened, a database say, has its number and is given what is
    printed. A character that the locale does not know is escaped: else it would end a command that has done its work.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is still to be printed goes nowhere: the interpreter would try once more when it ends, and complain."""
    with contextlib.suppress(UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(lines: "list[str] | tuple[str, ...]", status: int) -> None:
    for line in lines:
        sys.stderr.write(f"dossier: {line}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
