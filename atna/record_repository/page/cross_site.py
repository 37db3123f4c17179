"""Whether a request was begun by our own pages, told by what browsers say of it (Fetch Metadata; RFC 6454). Pure.

The certificate that identifies the user goes along with every request, whichever site began it; so the log is not
shown, searched or exported for another one. What says nothing of its origin is no browser of today, and let through.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

__all__ = ["from_elsewhere"]

OURS: Final = frozenset({"same-origin", "none"})


def from_elsewhere(method: str, url: str, headers: Mapping[str, str]) -> bool:
    """Whether to refuse: another site sends a form, or loads a page of ours as anything but a page of its own window.

    ``url`` is what was called; ``headers`` by their small names. With ``Referrer-Policy: no-referrer`` a browser's own
    forms carry ``Origin: null``, so Sec-Fetch-Site, which no page can forge, is asked first.
    """
    site = headers.get("sec-fetch-site")
    if method in {"GET", "HEAD"}:
        return site is not None and site not in OURS and headers.get("sec-fetch-dest", "document") != "document"
    if site is not None:
        return site not in OURS
    origin = headers.get("origin")
    return origin is not None and origin != _origin(url)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
