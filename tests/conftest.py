"""Fixtures for every test: a whole Dossier on free ports, once for each test process."""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dossier.__main__ import main
from dossier.console import CommandError
from dossier.demo import RunningDossier, serving

# How long an example takes says how busy the machine is; no test is about that.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@dataclass(frozen=True)
class Server:
    """``dossier serve all`` with embedded defaults; every address of it, and ``run`` for another command with --json."""

    running: RunningDossier

    @property
    def base_port(self) -> int:
        return self.running.base_port

    @property
    def data(self) -> Path:
        return self.running.data

    @property
    def registry(self) -> str:
        return f"http://127.0.0.1:{self.base_port + 10}/registry"

    @property
    def repository(self) -> str:
        return f"http://127.0.0.1:{self.base_port + 20}/repository"

    @property
    def responding(self) -> str:
        return f"http://127.0.0.1:{self.base_port + 30}/responding"

    @property
    def initiating(self) -> str:
        return f"http://127.0.0.1:{self.base_port + 30}/initiating"

    @property
    def feed(self) -> tuple[str, int]:
        return "127.0.0.1", self.base_port + 11

    @property
    def audit(self) -> str:
        return f"http://127.0.0.1:{self.base_port + 40}"

    @property
    def admin(self) -> dict[str, str]:
        offsets = {"registry": 19, "repository": 29, "gateway": 39, "audit": 49}
        return {name: f"http://127.0.0.1:{self.base_port + offset}" for name, offset in offsets.items()}

    def run(self, *arguments: str):
        """A command with --json, in this process (a new one for each would take most of a test's time)."""
        status, out, err = command(*arguments, "--base-port", str(self.base_port), "--json")
        if status:
            raise CommandError(f"ended with {status}: {err.strip()}")
        return json.loads(out)

    def run_plain(self, *arguments: str) -> str:
        """A command in a process of its own."""
        return self.running.run_plain(*arguments)


def command(*arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process: exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["dossier", *arguments])
        for name in [name for name in os.environ if name.upper().startswith("DOSSIER_")]:
            patch.delenv(name)
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="session")
def run_command():
    """The command line: ``run_command("find", …)`` gives (exit status, output, errors)."""
    return command


@pytest.fixture(scope="session")
def dossier_server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("dossier")) as running:
        yield Server(running)
