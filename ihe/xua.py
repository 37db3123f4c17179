"""Who is calling (ITI TF-2: 3.19, 3.40): today the authenticated node, later also the person of the assertion."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AssertedCode:
    """A role or a purpose of use as an assertion has it: code, codeSystem (or its name), displayName."""

    code: str
    system: str
    display: str


@dataclass(frozen=True, slots=True)
class User:
    """The person of a believed assertion (ITI TF-2: 3.40.4.2, 3.20).

    ``name`` is the text of Subject/NameID, ``alias`` its SPProvidedID ("" without one), ``issuer`` the text of Issuer.
    """

    name: str
    issuer: str
    alias: str = ""
    roles: tuple[AssertedCode, ...] = ()
    purposes_of_use: tuple[AssertedCode, ...] = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as far as it was authenticated.

    ``address`` is the peer's IP address; ``node`` the RFC 4514 subject of its TLS certificate, ``None`` on plaintext;
    ``fingerprint`` is ``sha256:`` + hex of that certificate. ``organisation``, ``person`` and ``user`` stay ``None``
    until a user assertion is believed.
    """

    address: str
    node: str | None = None
    fingerprint: str | None = None
    organisation: str | None = None
    person: str | None = None
    user: User | None = None

    @property
    def partner(self) -> str:
        """The name partners are told apart by in settings, audit and lists of defects."""
        return self.node or self.address

    @property
    def on_plaintext_loopback(self) -> bool:
        """Whether it called without TLS from this machine: as trusted as the machine is."""
        certified = self.node is not None or self.fingerprint is not None
        return not certified and (self.address.startswith("127.") or self.address == "::1")
