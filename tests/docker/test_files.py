"""Dockerfile, compose file, settings and first start agree with each other and with the code they bring up."""

import json
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer.main
from cryptography import x509

from dossier.__main__ import app
from dossier.settings import MODELS, load
from tests.docker.compose import DOCKER, ROOT, compose_file, dockerfile, duration
from tests.docker.conftest import prepare

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
VERSION = PROJECT["project"]["version"]
OURS = ("registry", "repository", "gateway", "audit", "migrate", "tools")
ONCE = {"migrate", "tools", "bucket"}


def values(name):
    return [value for instruction, value in dockerfile() if instruction == name]


def services():
    return compose_file()["services"].items()


# --- the image


def test_the_image_is_built_of_every_package_and_of_nothing_else():
    copied = {words.split()[0].rstrip("/") for words in values("COPY") if not words.startswith(("--from", "pyproject"))}
    assert copied == set(PACKAGES)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    first = next(words for words in values("COPY") if words.startswith("pyproject")).split()[:-1]
    assert sent == {*PACKAGES, *first}
    assert all((ROOT / name).exists() for name in sent)


def test_both_stages_stand_on_one_pinned_base():
    bases = {words.partition(" AS ")[0] for words in values("FROM")}
    assert len(bases) == 1
    (base,) = bases
    assert re.fullmatch(r"python:\d\.\d+\.\d+-slim-[a-z]+", base)
    assert tuple(map(int, re.findall(r"\d+", base)[:2])) >= (3, 11)
    assert f'base.name="docker.io/library/{base}"' in values("LABEL")[0]


def test_the_image_runs_as_nobody_in_particular_and_is_told_everything_in_exec_form():
    assert values("USER") == ["10001:10001"]
    assert json.loads(values("ENTRYPOINT")[0]) == ["dossier"]
    assert json.loads(values("CMD")[0]) == ["serve", "all"]
    check = values("HEALTHCHECK")[0].partition("CMD")[2]
    assert json.loads(check)[:4] == ["python", "-P", "-m", "dossier.commands.health"]
    assert values("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_has_the_version_of_the_project():
    assert f"VERSION={VERSION}" in values("ARG")
    for name in OURS:
        assert compose_file()["services"][name]["image"] == f"dossier-xds:{VERSION}"
    for file in ("Dockerfile", "prepare.sh", "README.md"):
        assert set(re.findall(r"dossier-xds:([\w.]+)", (DOCKER / file).read_text(encoding="utf-8"))) == {VERSION}


# --- the compose file


@pytest.mark.parametrize(("name", "service"), services())
def test_every_container_is_bounded(name, service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert service["tmpfs"][0].startswith("/tmp:rw,noexec,nosuid,nodev,size=")
    assert "latest" not in service["image"] and re.search(r":\d+\.\d+", service["image"])
    assert service["logging"]["options"]["max-size"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & set(service)


@pytest.mark.parametrize(("name", "service"), services())
def test_every_service_has_a_health_check_and_every_task_ends(name, service):
    if name in ONCE:
        assert service["restart"] == "no"
        assert service["healthcheck"] == {"disable": True}
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


SLOW_WEED = """#!/bin/sh
read -r line
echo "$line" >> "$WEED_ASKED"
case $line in
  s3.bucket.list) [ "$(wc -l < "$WEED_ASKED")" -gt "$WEED_REFUSALS" ] || exit 1; printf '%s' "$WEED_BUCKETS";;
esac
"""


def made_bucket(folder, *, buckets, refusals):
    """What the task that makes the bucket asked of a weed that refuses some times first, and its exit status."""
    weed, asked = folder / "weed", folder / "asked"
    weed.write_text(SLOW_WEED)
    weed.chmod(0o755)
    asked.touch()
    service = compose_file()["services"]["bucket"]
    words = [word.replace("$$", "$") for word in (*service["entrypoint"], *service["command"])]
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "WEED_ASKED": str(asked)}
    environment |= {"WEED_BUCKETS": buckets, "WEED_REFUSALS": str(refusals)}
    done = subprocess.run(words, env=environment, timeout=60, stdin=subprocess.DEVNULL)
    return asked.read_text().splitlines(), done.returncode


def test_the_bucket_is_made_although_the_filer_is_late(tmp_path):
    asked, status = made_bucket(tmp_path, buckets="  others\tsize:0\n", refusals=2)
    assert asked == ["s3.bucket.list"] * 3 + ["s3.bucket.create -name documents"]
    assert status == 0


def test_a_bucket_that_is_there_is_left_alone(tmp_path):
    assert made_bucket(tmp_path, buckets="  documents\tsize:0\n", refusals=0) == (["s3.bucket.list"], 0)


def test_databases_and_objects_are_on_the_inner_network_alone():
    file = compose_file()
    assert file["networks"]["back"] == {"internal": True}
    for name, service in services():
        if name in {"db", "s3"}:
            assert service["networks"] == ["back"]
        if name not in {"registry", "repository", "gateway", "audit"}:
            assert "ports" not in service


def test_what_is_published_is_what_is_listened_on():
    told = tomllib.loads((DOCKER / "dossier.toml").read_text(encoding="utf-8"))
    published = {
        "registry": ("listen", "feed_listen"),
        "repository": ("listen",),
        "gateway": ("listen",),
        "audit": ("listen", "syslog_tls_listen"),
    }
    for name, keys in published.items():
        ports = [told[name][key].rpartition(":")[2] for key in keys]
        assert compose_file()["services"][name]["ports"] == [f"{port}:{port}" for port in ports]
        assert set(ports) <= set(values("EXPOSE")[0].split())


def test_an_engine_waits_longer_for_a_stop_than_the_services_take():
    from wire.settings import LimitSettings

    for name in OURS[:4]:
        assert duration(compose_file()["services"][name]["stop_grace_period"]) > LimitSettings().drain_s + 5


def test_no_secret_stands_in_the_compose_file():
    for _name, service in services():
        for key, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|SECRET|KEYS$|DATABASE_URL", key) is not None
            assert not secret or (key.endswith("_FILE") and value.startswith("/run/secrets/")), key


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name):
    for variable in compose_file()["services"][name]["environment"]:
        if variable == "DOSSIER_CONFIG":
            continue
        section, _, key = variable.removeprefix("DOSSIER_").lower().removesuffix("_file").partition("__")
        table, _, of_table = key.partition("__")
        assert key in MODELS[section].model_fields or (table == "tls" and of_table in MODELS["tls"].model_fields), (
            variable
        )


# --- the first start


def test_what_is_mounted_is_what_the_first_start_makes(prepared):
    file = compose_file()
    for kind in ("secrets", "configs"):
        for name, one in file[kind].items():
            assert (prepared / one["file"]).is_file(), name
    used = {
        (kind, one if isinstance(one, str) else one["source"])
        for _name, service in services()
        for kind in ("secrets", "configs")
        for one in service.get(kind, [])
    }
    assert used == {(kind, name) for kind in ("secrets", "configs") for name in file[kind]}


def test_folders_are_closed_and_files_readable_to_the_containers(prepared):
    for folder in (prepared / "certs", prepared / "secrets"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.iterdir():
            readable = stat.S_IMODE(path.stat().st_mode) & 0o004
            assert bool(readable) == (path.name != "ca.key"), path.name
    mounted = {one["file"] for one in compose_file()["secrets"].values()}
    assert "./certs/ca.key" not in mounted


def test_a_certificate_names_its_service_and_the_host(prepared):
    for name in ("registry", "repository", "gateway", "audit", "s3"):
        found = x509.load_pem_x509_certificate((prepared / "certs" / f"{name}.pem").read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", name, "dossier.example.org"}
        assert found.subject.rfc4514_string() == f"CN={name}"


def test_repository_and_operator_are_partners_by_their_certificates(prepared):
    told = tomllib.loads((DOCKER / "dossier.toml").read_text(encoding="utf-8"))
    found = x509.load_pem_x509_certificate((prepared / "certs" / "repository.pem").read_bytes())
    partners = told["affinity_domain"]["partners"]
    assert found.subject.rfc4514_string() in partners
    operator = x509.load_pem_x509_certificate((prepared / "certs" / "operator.pem").read_bytes())
    assert partners[operator.subject.rfc4514_string()]["transactions"] == ["ITI-81"]


def test_a_second_start_changes_no_secret_and_makes_what_was_removed(prepared):
    def held():
        return {path.name: path.read_bytes() for path in (prepared / "secrets").iterdir()}

    before = held()
    prepare(prepared, "dossier.example.org")
    assert held() == before
    (prepared / "secrets" / "audit_password").unlink()
    prepare(prepared, "dossier.example.org")
    after = held()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"audit_password", "audit_database_url"}
    assert after["audit_password"] in after["audit_database_url"]
    assert len(after["audit_password"]) == 64


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_each_container_are_right(prepared, tmp_path, name):
    file = compose_file()
    service = file["services"][name]
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for one in service["secrets"]:
        source, target = (one, one) if isinstance(one, str) else (one["source"], one["target"])
        (secrets / target).write_bytes((prepared / file["secrets"][source]["file"]).read_bytes())
    text = (DOCKER / "dossier.toml").read_text(encoding="utf-8").replace("/run/secrets", str(secrets))
    config = tmp_path / "dossier.toml"
    config.write_text(text)
    environ = {key: value.replace("/run/secrets", str(secrets)) for key, value in service["environment"].items()}
    settings = load(config, environ=environ, data=tmp_path)
    assert settings.affinity_domain.environment == "production"
    assert settings.repository.encryption == ("on" if name == "repository" else "off")
    trusted = {service: settings.tls[service].ca.name for service in ("registry", "repository", "gateway", "audit")}
    others = dict.fromkeys(trusted, "ca.pem")
    assert trusted == others | ({"gateway": "partners.pem"} if name == "gateway" else {})


def commands(group, prefix=""):
    for name, command in group.commands.items():
        yield f"{prefix}{name}"
        yield from commands(command, f"{prefix}{name} ") if hasattr(command, "commands") else ()


def test_every_command_of_the_guide_is_there():
    guide = (DOCKER / "README.md").read_text(encoding="utf-8")
    words = r"((?:[a-z]+ ){0,2}[a-z]+)"
    lines = re.findall(rf"(?m)(?:exec \w+ dossier|^    tools|run --rm tools|dossier-xds:{VERSION}) {words}", guide)
    known = set(commands(typer.main.get_command(app)))

    def command_in(line):
        parts = line.split()
        return next((found for n in (3, 2, 1) if (found := " ".join(parts[:n])) in known), None)

    assert {"store sweep", "audit verify", "health", "find"} <= {command_in(line) for line in lines}
    unknown = [line for line in lines if command_in(line) is None or (line.startswith("store") and " " not in line)]
    assert unknown == []
    later = [line for line in lines if command_in(line) == "store"]
    if later:
        pytest.skip(f"this version has no {', '.join(sorted(later))}")


def test_shell_scripts_are_right_for_a_plain_shell():
    for script in ("prepare.sh", "postgres-init.sh"):
        path = Path(DOCKER, script)
        assert path.stat().st_mode & stat.S_IXUSR
        assert subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True).stderr == ""
