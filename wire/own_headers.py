"""Our own SOAP headers, told to our own registry by those who pass something on to it."""

from xml.sax.saxutils import quoteattr

from ihe import vocabulary as v
from ihe.xua import Caller

__all__ = ["depositor_header", "give_up_header"]


def depositor_header(caller: Caller) -> bytes:
    """Who was authenticated as the one who deposited; what is not known is left out."""
    known = {
        "node": caller.node,
        "fingerprint": caller.fingerprint,
        "organisation": caller.organisation,
        "person": caller.person,
    }
    attributes = "".join(f" {name}={quoteattr(value)}" for name, value in known.items() if value)
    return f'<d:Depositor xmlns:d="{v.DOSSIER}"{attributes}/>'.encode()


def give_up_header(at: float) -> bytes:
    """The time (seconds since 1970, UTC) from which on a registration must not appear any more."""
    return f'<d:GiveUp xmlns:d="{v.DOSSIER}" at="{at:.3f}"/>'.encode()
