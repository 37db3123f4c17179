"""What a gateway hands on of a request as it came: the caller's own security header (ITI TF-2: 3.40, XUA)."""

from typing import Final

from lxml import etree

from ihe import vocabulary as v
from wire.messages import Request

__all__ = ["security_header"]

_SECURITY: Final = f"{{{v.WSSE}}}Security"


def security_header(request: Request) -> bytes:
    """Every wsse:Security header, for ``extra_headers``; nothing where there is none.

    Not a blank is changed and every namespace in scope is declared again on the element, so that a signature over an
    assertion within (exclusive canonicalisation) stays valid.
    """
    return b"".join(
        etree.tostring(header, encoding="UTF-8", with_tail=False)
        for header in request.headers
        if header.tag == _SECURITY
    )
