"""JSON or XML: which form of FHIR a client asks for, and which one it sends (FHIR R4 RESTful API: 3.1.0.1.6). Pure.

``_format`` counts before ``Accept``; of equal wishes JSON. Asked for without a word, or for anything: JSON.
"""

import re
from typing import Final

from atna.fhir_reading import Form

__all__ = ["MEDIA_TYPES", "NotAcceptable", "WrongMediaType", "asked_for", "sent_as"]

MEDIA_TYPES: Final = {Form.JSON: "application/fhir+json", Form.XML: "application/fhir+xml"}
"""What we answer with."""

_NAMES: Final = {
    Form.JSON: ("application/fhir+json", "application/json", "text/json", "application/json+fhir"),
    Form.XML: ("application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir"),
}
_VERSIONS: Final = frozenset({"4.0", "4.0.1"})
_QUALITY: Final = re.compile(r"[01](\.[0-9]{0,3})?", re.ASCII)
MOST_RANGES: Final = 50


class NotAcceptable(ValueError):  # noqa: N818 - an outcome, not a defect
    """Neither form is acceptable to the client (406)."""


class WrongMediaType(ValueError):  # noqa: N818 - an outcome, not a defect
    """A body that says it is something else (415)."""


def asked_for(accept: str | None, format_: str | None = None) -> Form:
    """The form to answer in. Raises NotAcceptable."""
    if format_ is not None:
        # In a query string "+" means a blank.
        name, parameters = _range(format_.strip().replace(" ", "+") if ";" not in format_ else format_)
        for form in (Form.JSON, Form.XML):
            if name in {form.value, *_NAMES[form]} and _speaks(parameters):
                return form
        raise NotAcceptable("_format should be json or xml, of FHIR 4.0")
    if accept is None or not accept.strip():
        return Form.JSON
    ranges = [_range(part) for part in accept.split(",")[:MOST_RANGES]]
    best = max((Form.JSON, Form.XML), key=lambda form: _wish(form, ranges))
    if _wish(best, ranges) <= 0:
        raise NotAcceptable("this server speaks application/fhir+json and application/fhir+xml, of FHIR 4.0")
    return best


def sent_as(content_type: str | None) -> Form:
    """The form a body is in by its Content-Type. Raises WrongMediaType."""
    name, parameters = _range(content_type or "")
    for form in (Form.JSON, Form.XML):
        if name in _NAMES[form]:
            if parameters.get("charset", "utf-8").strip('"').lower() not in {"utf-8", "utf8"}:
                raise WrongMediaType("FHIR is sent as UTF-8")
            if not _speaks(parameters):
                raise WrongMediaType("fhirVersion should be 4.0")
            return form
    raise WrongMediaType("should be application/fhir+json or application/fhir+xml")


def _range(text: str) -> tuple[str, dict[str, str]]:
    name, *rest = text.split(";")
    pairs = (part.partition("=") for part in rest)
    return name.strip().lower(), {key.strip().lower(): value.strip() for key, _, value in pairs}


def _speaks(parameters: dict[str, str]) -> bool:
    return parameters.get("fhirversion", "4.0").strip('"') in _VERSIONS


def _wish(form: Form, ranges: list[tuple[str, dict[str, str]]]) -> float:
    """The quality of the most exact range that names the form; the greatest over its names."""
    found = 0.0
    if any(one == MEDIA_TYPES[form] and not _quality(parameters) for one, parameters in ranges):
        return found
    for name in _NAMES[form]:
        for wanted in (name, f"{name.partition('/')[0]}/*", "*/*"):
            exact = [parameters for one, parameters in ranges if one == wanted and _speaks(parameters)]
            if exact:
                found = max(found, *(_quality(parameters) for parameters in exact))
                break
    return found


def _quality(parameters: dict[str, str]) -> float:
    text = parameters.get("q", "1")
    return min(1.0, float(text)) if _QUALITY.fullmatch(text) else 0.0
