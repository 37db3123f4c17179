"""``dossier audit``: what was done, by whom (ITI-81); the log itself is the matter of ``audit_log``."""

import http.client
import json
import ssl
from typing import Annotated, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import parse_qsl, urlencode, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import typer

from dossier.commands import audit_log
from dossier.console import CommandError, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Peers, check_address, check_texts
from ihe.datatypes import parse_cx
from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context

__all__ = ["app", "fetch_events"]

app = typer.Typer(help="The audit trail.", invoke_without_command=True)
audit_log.add_to(app)

TIMEOUT_S: Final = 60.0
PAGE: Final = 500
COLUMNS: Final = {
    "recorded": "when",
    "event": "event",
    "action": "action",
    "outcome": "outcome",
    "users": "who",
    "patients": "patient",
    "source": "recorded by",
}


@app.callback()
def audit(
    context: typer.Context,
    patient: Annotated[str | None, typer.Option("--patient", help="'ID^^^&OID&ISO', or the ID alone.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="UserID or UserName.")] = None,
    since: Annotated[str, typer.Option("--since", help="Date or time, e.g. 2026-03-12 or 2026-03-12T08:00Z.")] = "1970",
    event: Annotated[str | None, typer.Option("--event", help="ITI-41 and so on, or a DICOM event code.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest.")] = 100,
    audit_url: Annotated[str | None, typer.Option("--audit-url", help="Base address of the audit service.")] = None,
    config: Config = None,
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """List audit records, the latest last (ITI-81)."""
    if context.invoked_subcommand is not None:
        return
    check_texts({"--patient": patient, "--user": user, "--since": since, "--event": event})
    check_address("--audit-url", audit_url)
    date = _date("--since", since)
    peers = Peers.find(config, base_port)
    query = {"date": date}
    if patient is not None:
        query["patient.identifier"] = _patient(patient)
    if user is not None:
        query["user"] = _token(user)
    if event is not None:
        query["subtype" if event.upper().startswith("ITI-") else "type"] = event.upper()
    url = (audit_url or peers.audit).rstrip("/")
    try:
        rows = [_row(found) for found in reversed(fetch_events(url, query, peers.tls, limit))]
    except (LookupError, TypeError, AttributeError) as error:  # JSON of another shape than FHIR's, wherever it departs
        raise CommandError(f"{url}: the answer is no Bundle of AuditEvents") from error
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows)


def _date(option: str, since: str) -> str:
    """The ``date`` of a search; CommandError for what ITI-81 would refuse."""
    # Not at the top: lxml and what comes with it would make every other command slower to start.
    from atna.record_repository.search_values import ParameterError, date_bounds

    date = f"ge{since.strip()}"
    try:
        date_bounds(option, date)
    except ParameterError as error:
        raise CommandError(f"{option} should be a day or time that exists, e.g. 2026-03-12", status=2) from error
    return date


def _patient(text: str) -> str:
    try:
        cx = parse_cx(text)
    except ValueError:
        return _token(text)
    return f"urn:oid:{cx.authority}|{_token(cx.id)}"


def _token(text: str) -> str:
    """A value of a FHIR search: its own separators escaped."""
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("|", "\\|")


def fetch_events(url: str, query: dict[str, str], tls: TlsSettings, limit: int) -> list[dict[str, Any]]:
    """AuditEvent resources, the latest first; by POST, since a patient's identifier has no place in a URL."""
    found: list[dict[str, Any]] = []
    page = dict(query)
    while len(found) < limit:
        page["_count"] = str(min(PAGE, limit - len(found)))
        bundle = _post(f"{url}/fhir/AuditEvent/_search", page, tls)
        found += [entry["resource"] for entry in bundle.get("entry", []) if "resource" in entry]
        following = next((link["url"] for link in bundle.get("link", []) if link.get("relation") == "next"), None)
        if following is None:
            break
        page = query | {"_after": dict(parse_qsl(urlsplit(following).query)).get("_after", "")}
    return found


def _post(url: str, form: dict[str, str], tls: TlsSettings) -> dict[str, Any]:
    scheme = urlsplit(url).scheme
    if scheme not in {"http", "https"}:
        raise CommandError(f"{url}: should be an http or https address", status=2)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/fhir+json"}
    request = Request(url, urlencode(form).encode(), headers)  # noqa: S310 - the scheme is checked above
    try:
        handlers = [HTTPSHandler(context=client_context(tls))] if scheme == "https" else []
        with build_opener(ProxyHandler({}), *handlers).open(request, timeout=TIMEOUT_S) as answer:
            bundle = json.load(answer)
    except HTTPError as error:
        raise CommandError(f"{url}: refused: {_diagnostics(error)}") from error
    except TlsFault as error:
        raise CommandError(str(error), status=2) from error
    except http.client.HTTPException as error:  # its text is what came, whatever that is
        raise CommandError(f"{url}: no readable answer ({type(error).__name__})") from error
    except (URLError, OSError) as error:
        raise CommandError(f"{url}: cannot be reached: {_plainly(error)}") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{url}: the answer is no JSON") from error
    if not isinstance(bundle, dict):
        raise CommandError(f"{url}: the answer is no Bundle")
    return bundle


def _diagnostics(error: HTTPError) -> str:
    """The text of an OperationOutcome, else the status."""
    try:
        issue = json.load(error)["issue"][0]
        return str(issue.get("diagnostics") or issue["details"]["text"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError, http.client.HTTPException):
        return f"HTTP {error.code}"


def _plainly(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ssl.SSLError):
        return f"TLS: {reason.reason or reason}"
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__).lower()


def _row(event: dict[str, Any]) -> dict[str, Any]:
    subtypes = [one.get("code") for one in event.get("subtype", [])]
    users = [
        agent.get("name") or _named(agent.get("who", {})) or agent.get("altId") for agent in event.get("agent", [])
    ]
    entities = event.get("entity", [])
    roles = [entity.get("role", {}).get("code") for entity in entities]
    patients = [_cx(entity.get("what", {})) for entity, role in zip(entities, roles, strict=True) if role == "1"]
    objects = [_named(entity.get("what", {})) for entity, role in zip(entities, roles, strict=True) if role != "1"]
    return {
        "recorded": event.get("recorded"),
        "event": subtypes[0] if subtypes else event.get("type", {}).get("display"),
        "type": event.get("type", {}).get("code"),
        "action": event.get("action"),
        "outcome": event.get("outcome"),
        "users": [user for user in users if user],
        "patients": [patient for patient in patients if patient],
        "objects": [one for one in objects if one],
        "source": _named(event.get("source", {}).get("observer", {})),
    }


def _named(reference: dict[str, Any]) -> str | None:
    """What a Reference of FHIR is called: an AuditEvent that came as FHIR may have no identifier."""
    value = reference.get("identifier", {}).get("value") or reference.get("reference") or reference.get("display")
    return None if value is None else str(value)


def _cx(reference: dict[str, Any]) -> str | None:
    identifier = reference.get("identifier", {})
    system = str(identifier.get("system", ""))
    if "value" not in identifier or not system.startswith("urn:oid:"):
        return _named(reference)
    return f"{identifier['value']}^^^&{system.removeprefix('urn:oid:')}&ISO"
