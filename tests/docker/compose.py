"""``docker/compose.yaml`` brought up without an engine: each service as ``container.py`` makes it.

``Pod.up`` starts services in the order of ``depends_on`` and waits for what it asks: a health check that succeeds, or a
one-shot that ends with 0. All share one network of loopback alone, in which every service name is 127.0.0.1.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import yaml
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
CONTAINER = Path(__file__).with_name("container.py")
HEALTHY_S = 90
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}


def compose_file():
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def dockerfile():
    """The instructions as (name, value), continuation lines joined."""
    parser = DockerfileParser(fileobj=io.BytesIO((DOCKER / "Dockerfile").read_bytes()))
    return [(one["instruction"], one["value"]) for one in parser.structure if one["instruction"] != "COMMENT"]


def why_not():
    """Why no container can be made here; empty when one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "containers: only as root on Linux"
    missing = [name for name in ("unshare", "nsenter", "setpriv", "mount") if shutil.which(name) is None]
    if missing:
        return f"containers: {', '.join(missing)} is not installed"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--uts", "--", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    )
    return "" if tried.returncode == 0 else "containers: namespaces are not allowed here"


def duration(text):
    number, unit = text[:-1], text[-1]
    return float(number) * {"s": 1, "m": 60}[unit]


class Pod:
    """``folder`` holds what would be the engine's: volumes, logs. ``docker`` is a copy of docker/ with its secrets."""

    def __init__(self, folder, docker, *, programs=(), path=()):
        self.folder, self.docker = folder, docker
        self.file = compose_file()
        self.image = dict(dockerfile())
        self.running = {}
        self.overrides = {}
        self._healthy = set()
        self._path = path
        self._programs = ["/usr", sys.base_prefix, sysconfig.get_path("purelib"), str(ROOT), *programs]
        self._venv = self._environment_of_the_image()
        self._network = subprocess.Popen(
            ["unshare", "--net", "--", sys.executable, str(CONTAINER), "network"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._network.stdout.readline() == b"up\n"

    def _environment_of_the_image(self):
        """/opt/dossier as the image has it, with the packages of the interpreter that runs the tests."""
        venv = self.folder / "venv"
        base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
        packages = venv / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "image.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
        (venv / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
        (venv / "bin").mkdir()
        (venv / "bin" / "python").symlink_to(base)
        script = venv / "bin" / "dossier"
        script.write_text(
            "#!/opt/dossier/bin/python\nimport sys\nfrom dossier.__main__ import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
        return venv

    def up(self, *names):
        """Start services and what they depend on, side by side where nothing asks for an order, and await them all."""
        for name in self._needed(names):
            if not self.service(name).get("depends_on"):
                self.start(name)
        for name in names:
            self._start_after_others(name)
        for name in names:
            self.await_health(name)

    def _needed(self, names):
        """The services and everything they depend on, those that serve."""
        found = set()
        for name in names:
            found |= {name} | self._needed(self.service(name).get("depends_on", {}))
        return {name for name in found - set(self.running) if self.service(name)["restart"] != "no"}

    def _start_after_others(self, name):
        needed = {other: wanted["condition"] for other, wanted in self.service(name).get("depends_on", {}).items()}
        for other, condition in needed.items():
            if condition == "service_healthy" and other not in self.running:
                self._start_after_others(other)
        for other, condition in needed.items():
            if condition == "service_healthy":
                if other not in self._healthy:
                    self.await_health(other)
            else:
                done = self.run(other)
                assert done.returncode == 0, f"{other}: {done.stdout}{done.stderr}"
        self.start(name)

    def service(self, name):
        return self.file["services"][name] | self.overrides.get(name, {})

    def start(self, name):
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self._command(name, None), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def run(self, name, *words, binds=(), timeout=120):
        """``docker compose run --rm NAME WORDS``: its own command where no words are given."""
        for other in self.service(name).get("depends_on", {}):
            if other not in self.running:
                self.up(other)
        entry = self._entry(name)
        command = [*entry, *words] if words else None
        return self.execute(name, command, binds=binds, timeout=timeout)

    def execute(self, name, command, *, binds=(), timeout=120):
        """``docker compose exec NAME COMMAND``."""
        return subprocess.run(
            self._command(name, command, binds),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def await_health(self, name):
        kind, *check = self.service(name)["healthcheck"]["test"]
        assert kind == "CMD"
        deadline = time.monotonic() + HEALTHY_S
        while True:
            if self.running[name].poll() is None:
                done = self.execute(name, check)
                if done.returncode == 0:
                    self._healthy.add(name)
                    return
            if self.running[name].poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{name} is not healthy: {self.log(name)[-3000:]}")
            time.sleep(1.5)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self, *names):
        """Exit status by name; -9 for what had to be killed after its grace period."""
        began = time.monotonic()
        for name in names:
            self.running[name].send_signal(SIGNALS[self.service(name).get("stop_signal", self.image["STOPSIGNAL"])])
        for name in names:
            grace = duration(self.service(name)["stop_grace_period"])
            try:
                self.running[name].wait(max(0.0, began + grace - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.running[name].kill()
        self._healthy -= set(names)
        return {name: self.running.pop(name).wait() for name in names}

    def close(self):
        for process in self.running.values():
            process.kill()
            process.wait()
        self._network.stdin.close()
        self._network.stdout.close()
        self._network.wait(10)

    def _entry(self, name):
        service = self.service(name)
        return service.get("entrypoint") or (json.loads(self.image["ENTRYPOINT"]) if "build" in service else [])

    def _command(self, name, command, binds=()):
        service = self.service(name)
        uid, gid = (int(one) for one in service["user"].split(":"))
        words = [str(word).replace("$$", "$") for word in service.get("command", [])]
        root = self.folder / f"root-{name}-{time.monotonic_ns()}"
        root.mkdir()
        spec = {
            "root": str(root),
            "command": command or [*self._entry(name), *words],
            "environment": self._environment(service),
            "uid": uid,
            "gid": gid,
            "cwd": self.image["WORKDIR"] if "build" in service else "/",
            "hostname": service.get("hostname", name),
            "hosts": sorted(self.file["services"]),
            "read_only": service["read_only"],
            "programs": self._programs,
            "tmpfs": [one.split(":", 1) for one in service.get("tmpfs", [])],
            "binds": [*self._mounts(name, service, uid, gid), *binds],
        }
        path = self.folder / f"{root.name}.json"
        path.write_text(json.dumps(spec))
        enter = ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"]
        return [*enter, "unshare", "--mount", "--uts", "--propagation", "private", "--",
                sys.executable, str(CONTAINER), str(path)]  # fmt: skip

    def _environment(self, service):
        own = {key: str(value) for key, value in service.get("environment", {}).items()}
        image = {}
        if "build" in service:
            words = self.image["ENV"].split()
            image = dict(word.split("=", 1) for word in words)
        path = [*image.pop("PATH", "").removesuffix(":$PATH").split(":"), *self._path, "/usr/bin"]
        return {"PATH": ":".join(filter(None, path))} | image | own

    def _mounts(self, name, service, uid, gid):
        yield str(self._venv), "/opt/dossier", True
        for kind, folder in (("secrets", "/run/secrets/"), ("configs", "/")):
            for one in service.get(kind, []):
                source, target = (one, one) if isinstance(one, str) else (one["source"], one["target"])
                yield str((self.docker / self.file[kind][source]["file"]).resolve()), folder + target.lstrip("/"), True
        for one in service.get("volumes", []):
            volume, target = one.split(":")
            place = self.folder / "volumes" / volume
            if not place.exists():
                place.mkdir(parents=True)
                os.chown(place, uid, gid)  # as an engine does, from the image's own folder
            yield str(place), target, False
