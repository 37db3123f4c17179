"""Who is calling (ITI TF-2: 3.19, 3.40): today the authenticated node, later also the person of the assertion."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as it was authenticated.

    ``address`` is the peer's IP address; ``node`` the RFC 4514 subject of its TLS certificate, ``None`` on plaintext;
    ``fingerprint`` is ``sha256:`` + hex of that certificate. ``organisation`` and ``person`` stay ``None`` until a
    user assertion is believed.
    """

    address: str
    node: str | None = None
    fingerprint: str | None = None
    organisation: str | None = None
    person: str | None = None

    @property
    def partner(self) -> str:
        """The name partners are told apart by in settings, audit and lists of defects."""
        return self.node or self.address

    @property
    def on_plaintext_loopback(self) -> bool:
        """Whether it called without TLS from this machine: as trusted as the machine is."""
        certified = self.node is not None or self.fingerprint is not None
        return not certified and (self.address.startswith("127.") or self.address == "::1")
