"""How the command line speaks: results on standard output, one clear line for an error, progress on a terminal only.

Exit status: 0 done, 1 refused by a server or not reachable, 2 wrong usage or settings.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

__all__ = ["LONG_TRANSFER_BYTES", "Advance", "CommandError", "note", "print_json", "print_table", "progress"]

LONG_TRANSFER_BYTES: Final = 4 * 2**20
"""Below this a bar would only flicker."""


class CommandError(Exception):
    """Ends a command: ``lines`` are printed on standard error, the process exits with ``status``."""

    def __init__(self, *lines: str, status: int = 1) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines
        self.status = status


class Advance(Protocol):
    """Told how many more bytes have gone."""

    def __call__(self, count: int, /) -> None: ...


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # another locale, or the name of a file that is no UTF-8: JSON has escapes for both
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def print_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """``columns`` maps a key of the rows to its heading. A terminal gets a table, a pipe gets tabs and no heading."""
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(_cell(row.get(key)) for key in columns) + "\n")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    Console().print(table, markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(one) for one in value)
    return str(value).replace("\t", " ").replace("\n", " ")


def note(text: str) -> None:
    """A remark beside the result: on standard error, so that it never mixes with data."""
    sys.stderr.write(f"dossier: {text}\n")


@contextmanager
def progress(label: str, total_bytes: int | None) -> Iterator[Advance]:
    """A bar on standard error while a long transfer runs; nothing when that is no terminal or the transfer is short."""
    short = total_bytes is not None and total_bytes < LONG_TRANSFER_BYTES
    if short or not sys.stderr.isatty():
        yield lambda _count: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda count: bar.advance(task, count)
