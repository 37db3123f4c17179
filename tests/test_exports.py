"""Names others rely on: commands, settings keys, rooms. One that disappears here breaks somebody's installation."""

import importlib
import importlib.resources
import inspect
import pkgutil

import click
import pytest
import typer.main

import dossier
from dossier.__main__ import app
from dossier.services import SERVICES
from dossier.settings import MODELS

PACKAGES = ("schemas", "ihe", "atna", "consent", "wire", "registry", "repository", "gateway", "dossier")

COMMANDS = {
    "serve": {"config", "data", "base_port"},
    "feed": {"patient", "family", "given", "birth", "sex", "file", "as_json"},
    "submit": {"files", "patient", "type_code", "class_code", "title", "replace", "as_json"},
    "communities check": {"homes", "config", "as_json"},
    "communities find-patient": {"patient", "homes", "config", "as_json"},
    "find": {"across", "patient", "type_code", "since", "until", "author", "status", "as_json"},
    "fetch": {"home", "unique_ids", "out", "as_json"},
    "audit": {"patient", "user", "since", "event", "as_json"},
    "audit verify": {"partition", "public_key", "kept", "as_json"},
    "audit key": {"new", "known", "as_json"},
    "audit checkpoint": {"as_json"},
    "audit retention": {"apply", "as_json"},
    "audit export": {"partition", "out", "as_json"},
    "config check": {"config"},
    "certs": {"out", "host", "server", "client", "days", "force"},
    "store sweep": {"config"},
    "store retention": {"config", "remove", "listed", "as_json"},
    "db upgrade": {"config"},
    "db status": {"config", "as_json"},
    "defects": {"partner", "as_json"},
    "health": {"actor", "live", "config", "as_json"},
    "demo": set(),
}
SETTINGS = {
    "affinity_domain": "home_community_id assigning_authorities codes unknown_patient strictness authority_names partners "
    "matricule_authority matricule environment",
    "registry": "listen workers database_url read_database_url max_leaf_results max_registration_s feed_listen "
    "feed_other_events",
    "repository": "listen workers unique_id database_url store registry_url max_document_bytes max_request_bytes "
    "max_inline_bytes upload_buffer_bytes identical_retry max_retrieve_documents max_remove_documents remove_registered "
    "retention max_documents max_uploads scanner scanner_required scan_timeout_s max_scans media_check",
    "gateway": "listen workers database_url registry_url repositories communities callers deadline_s spool_bytes "
    "spool_total_bytes max_answer_bytes max_request_bytes breaker_failures breaker_pause_s "
    "max_discovered time_to_live_s remember_s max_remember_s remember_nobody_s several",
    "audit": "listen workers syslog_tls_listen syslog_udp_listen database_url sinks retention_days "
    "checkpoint_key checkpoint_records checkpoint_interval_s time_zone max_export_rows",
    "tls": "certificate key ca require_client_certificate minimum_version revocation_list",
    "admin": "log_level log_format",
}


def every_module():
    for package in PACKAGES:
        root = importlib.import_module(package)
        yield package
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if not found.name.endswith("__main__"):
                yield found.name


@pytest.mark.parametrize("name", tuple(every_module()))
def test_what_is_announced_is_there(name):
    module = importlib.import_module(name)
    announced = getattr(module, "__all__", [])
    assert [one for one in announced if not hasattr(module, one)] == []
    assert len(set(announced)) == len(announced)


def commands(group, prefix=""):
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


def test_the_command_line():
    found = {name: {p.name for p in command.params} for name, command in commands(typer.main.get_command(app))}
    for name, parameters in COMMANDS.items():
        assert name in found
        assert parameters <= found[name], name


def test_every_option_says_what_it_is():
    silent = [
        f"{name} {parameter.opts[0]}"
        for name, command in commands(typer.main.get_command(app))
        for parameter in command.params
        if isinstance(parameter, click.Option)
        and not parameter.help
        and parameter.name not in {"family", "given", "status"}
    ]
    assert silent == []


def test_settings_keys_stay():
    for section, keys in SETTINGS.items():
        assert set(keys.split()) <= set(MODELS[section].model_fields), section


@pytest.mark.parametrize("service", tuple(SERVICES.values()), ids=lambda service: service.name)
def test_every_room_offers_its_two_mains(service):
    module = importlib.import_module(service.module)
    for name in ("worker", "single"):
        parameters = inspect.signature(getattr(module, name)).parameters
        assert {"sockets", "started", "stop", "tls", "limits", "domain"} <= set(parameters)


def test_the_samples_are_in_the_package():
    folder = importlib.resources.files(dossier) / "samples"
    assert {"laboratory-report.xml", "patient-summary.xml", "consultation-report.pdf"} <= {
        path.name for path in folder.iterdir()
    }
