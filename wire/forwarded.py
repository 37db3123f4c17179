"""Who calls through a proxy that ends TLS before us: the header Client-Cert (RFC 9440), from listed proxies alone.

Client-Cert         the caller's certificate: ``:base64 of DER:``, or as nginx escapes it (percent-encoded PEM)
Client-Cert-Chain   its intermediates, ``:…:, :…:``; may be left out
Checked             as in a handshake of our own: ``ca``, validity, revocation lists, ``peers``, purpose. A proxy is
                    believed that the caller holds the key, and nothing else.
Refused (403)       the header from anybody who is not listed: either somebody claims to be another, or a proxy is
                    missing in the settings and every caller would pass for the proxy. Nor does a listed proxy get in
                    without the header: it speaks for others, never for itself.

The proxy has to take the header away from what its own clients send (RFC 9440: 4).
"""

import base64
import binascii
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from wire.reloading import Reloading
from wire.settings import TlsSettings
from wire.tls import Peer, TlsFault, listed, peer_of, verification_reason

__all__ = ["Forwarded", "ForwardedRefused", "Verifier"]

CERTIFICATE: Final = b"client-cert"
CHAIN: Final = b"client-cert-chain"
MOST_INTERMEDIATES: Final = 8
_PEM: Final = b"-----BEGIN"
_PURPOSES: Final = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})

Headers = Sequence[tuple[bytes, bytes]]


class ForwardedRefused(Exception):  # noqa: N818 - an outcome
    """The caller is not who it should be, or cannot be told; ``reason`` in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Verifier:
    """Checks a certificate without a handshake, by the rules of one. Raises TlsFault for files that cannot be used."""

    def __init__(self, tls: TlsSettings) -> None:
        self._store = crypto.X509Store()
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN
        self._load(tls.ca, "ca")
        if tls.revocation_list is not None:
            self._load(tls.revocation_list, "revocation_list")
            flags |= crypto.X509StoreFlags.CRL_CHECK
            if tls.revocation_check == "chain":
                flags |= crypto.X509StoreFlags.CRL_CHECK_ALL
        self._store.set_flags(flags)
        self._peers = listed(tls) if tls.peers else None

    def _load(self, path: object, name: str) -> None:
        try:
            self._store.load_locations(str(path))
        except crypto.Error as error:
            raise TlsFault(f"{name} {path} holds nothing that can be used") from error

    def check(self, certificate: x509.Certificate, intermediates: Sequence[x509.Certificate], peer: Peer) -> None:
        """Nothing when ``certificate``, which is ``peer``'s, is good; raises ForwardedRefused."""
        chain = [crypto.X509.from_cryptography(one) for one in intermediates]
        context = crypto.X509StoreContext(self._store, crypto.X509.from_cryptography(certificate), chain or None)
        try:
            context.verify_certificate()
        except crypto.X509StoreContextError as error:
            code, _depth, text = error.errors
            raise ForwardedRefused(f"forwarded {verification_reason(code, text)}") from error
        if not _for_clients(certificate):
            raise ForwardedRefused("forwarded certificate made for another purpose")
        if self._peers is not None and self._peers.isdisjoint({peer.node, peer.fingerprint}):
            raise ForwardedRefused(f"not listed in peers: {peer.node or peer.fingerprint}")


class Forwarded:
    """The proxies of one listener; ``Forwarded(None)`` knows none. Raises TlsFault."""

    def __init__(self, tls: TlsSettings | None) -> None:
        proxies = () if tls is None else tls.proxies
        self._networks = [network for proxy in proxies if (network := _network(proxy)) is not None]
        self._certificates = frozenset(proxy for proxy in proxies if _network(proxy) is None)
        self.verifier: Callable[[], Verifier] | None = None
        if tls is not None and proxies:
            self.verifier = Reloading(tls, Verifier)

    def caller(self, peer: Peer, headers: Headers) -> Peer:
        """Who asks: the peer itself, or whom a listed proxy names. Header names in lower case.

        The address stays the proxy's. Raises ForwardedRefused.
        """
        found = [value for name, value in headers if name == CERTIFICATE]
        if self.verifier is None or not self._is_proxy(peer):
            if found:
                raise ForwardedRefused("forwarded certificate from a peer that is not in tls.proxies")
            return peer
        if len(found) != 1:
            raise ForwardedRefused("no forwarded certificate from a proxy" if not found else "two Client-Cert headers")
        try:
            certificate = _certificate(found[0])
            intermediates = [_certificate(item) for item in _items(headers)]
        except (ValueError, binascii.Error) as error:
            raise ForwardedRefused("forwarded certificate that cannot be read") from error
        caller = peer_of(peer.address, certificate.public_bytes(Encoding.DER))
        self.verifier().check(certificate, intermediates, caller)
        return caller

    def _is_proxy(self, peer: Peer) -> bool:
        if not self._certificates.isdisjoint({peer.node, peer.fingerprint}):
            return True
        try:
            address = ipaddress.ip_address(peer.address)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _items(headers: Headers) -> Iterable[bytes]:
    items = [item.strip() for name, value in headers if name == CHAIN for item in value.split(b",") if item.strip()]
    if len(items) > MOST_INTERMEDIATES:
        raise ValueError("too many intermediates")
    return items


def _certificate(value: bytes) -> x509.Certificate:
    """A certificate as RFC 9440 writes it, or as nginx does ($ssl_client_escaped_cert); ValueError for others."""
    value = value.strip()
    if value.startswith(_PEM):
        return x509.load_pem_x509_certificate(unquote_to_bytes(value))
    if len(value) < 2 or not value.startswith(b":") or not value.endswith(b":"):
        raise ValueError("no byte sequence")
    return x509.load_der_x509_certificate(base64.b64decode(value[1:-1], validate=True))


def _for_clients(certificate: x509.Certificate) -> bool:
    """As in a handshake: no word on purposes allows all."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except ValueError:
        return False
    return not _PURPOSES.isdisjoint(purposes)
