"""Pages as HTML: templates, what every page shows, and the headers that go with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from atna.record_repository.page.languages import LANGUAGES, Texts, catalog
from wire.rest import RestResponse

__all__ = ["FILES", "Frame", "asset", "page", "problem"]

HTML: Final = "text/html; charset=utf-8"
FILES: Final[Mapping[str, str]] = {"log.css": "text/css; charset=utf-8", "log.svg": "image/svg+xml"}
_SAFE: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
SAFE_HEADERS: Final[Mapping[str, str]] = {**_SAFE, "cache-control": "no-store"}
"""For everything that shows something of the log: kept nowhere, run nothing, load nothing but our style."""

_LONG: Final = "public, max-age=604800, immutable"


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page shows around its content.

    ``here`` is the path behind the language (``/search``); ``carried`` are the fields of the search that go along with
    every button of the page, so that no address holds any of them. ``caller`` is the subject of the certificate, or
    the address of who called without one.
    """

    texts: Texts
    environment: str
    caller: str
    certified: bool
    here: str = ""
    carried: tuple[tuple[str, str], ...] = ()
    time_zone: str = ""

    def at(self, here: str, carried: Sequence[tuple[str, str]] = ()) -> "Frame":
        """The same around another page."""
        return replace(self, here=here, carried=tuple(carried))


def page(frame: Frame, template: str, status: int = HTTPStatus.OK, **content: Any) -> RestResponse:
    """One page."""
    languages = [(code, catalog(code)["page.language"]) for code in LANGUAGES]
    html = (
        _environment()
        .get_template(template)
        .render(
            t=frame.texts,
            frame=frame,
            languages=languages,
            root=f"/log/{frame.texts.language}",
            version=_version(),
            **content,
        )
    )
    headers = {**SAFE_HEADERS, "content-language": frame.texts.language}
    return RestResponse(status, html.encode(), HTML, headers)


def problem(frame: Frame, status: int, *, key: str = "", request_id: str = "") -> RestResponse:
    """A page that says what is wrong; ``key`` where a status has several reasons."""
    known = f"problem.{key or status}"
    if f"{known}.title" not in catalog(frame.texts.language):
        known = "problem.500" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "problem.400"
    shown_id = request_id if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""
    return page(frame, "problem.html", status, known=known, request_id=shown_id)


@cache
def asset(name: str) -> RestResponse:
    """One of ``FILES``, the same for everybody; its address has a hash of all of them, so it may be kept."""
    return RestResponse(HTTPStatus.OK, _file(name), FILES[name], {**_SAFE, "cache-control": _LONG})


@cache
def _version() -> str:
    return sha256(b"".join(_file(name) for name in FILES)).hexdigest()[:12]


def _file(name: str) -> bytes:
    return (resources.files(__package__) / "files" / name).read_bytes()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
