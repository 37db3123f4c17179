"""``dossier certs``: a public key infrastructure to try TLS with. For tests only.

``ca``       the authority
``server``   one certificate for all services, or with ``--server NAME`` one for each, by its host name: only with a
             certificate of its own can a service be told from another in ``affinity_domain.partners``
``client``   one for each ``--client``; it opens no port
"""

import ipaddress
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dossier.console import CommandError

__all__ = ["certs"]

BACKDATED: Final = timedelta(minutes=5)
"""Clocks of test machines differ."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def certs(
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder to write to.")] = Path("certs"),
    host: Annotated[
        list[str] | None, typer.Option("--host", help="More names or addresses of every server; may be repeated.")
    ] = None,
    server: Annotated[
        list[str] | None,
        typer.Option("--server", help="Host name of a server with a certificate of its own; may be repeated."),
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option("--client", help="Name of a client; may be repeated. Default: client.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=825, help="How long they are valid.")] = 90,
    force: Annotated[bool, typer.Option("--force", help="Write over an authority that is already there.")] = False,
) -> None:
    """Make an authority, server certificates (also for localhost, 127.0.0.1, ::1) and clients', to try TLS with."""
    servers, clients, more = server or [], client or ["client"], host or []
    _check_names(servers or ["server"], clients)
    if (out / "ca.pem").exists() and not force:
        raise CommandError(f"{out / 'ca.pem'} exists; --force makes everything anew", status=2)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _Authority(days)
        _write(out, "ca", authority.certificate, authority.key)
        if not servers:
            _write(out, "server", *authority.issue("Dossier test server", [*LOOPBACK, *more]))
        for name in servers:
            _write(out, name, *authority.issue(name, [*LOOPBACK, name, *more]))
        for name in clients:
            _write(out, name, *authority.issue(name, []))
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror}", status=2) from error
    for name in servers or ["server"]:
        where = f"the dossier.toml of {name}" if servers else "dossier.toml"
        typer.echo(f'# for {where}\n[tls]\ncertificate = "{out / name}.pem"\nkey = "{out / name}.key"')
        typer.echo(f'ca = "{out / "ca.pem"}"')


def _check_names(servers: list[str], clients: list[str]) -> None:
    """Every name becomes a file's, so each may be there once."""
    taken = {"ca"}
    for kind, names in (("server", servers), ("client", clients)):
        for name in names:
            if _NAME.fullmatch(name) is None or name in taken:
                raise CommandError(f"{name!r} cannot be a {kind}'s name", status=2)
            taken.add(name)


class _Authority:
    def __init__(self, days: int) -> None:
        self._begin = datetime.now(UTC) - BACKDATED
        self._end = self._begin + timedelta(days=days)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "Dossier test authority"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "For tests only"),
            ]
        )
        builder = self._builder(self._name, self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        own = self.key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._begin)
            .not_valid_after(self._end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )

    def issue(self, name: str, hosts: list[str]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate for both ends of a connection: a server of this house calls others as a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(h) for h in hosts]), critical=False)
        return builder.sign(self.key, hashes.SHA256()), key


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(out: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (out / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = out / f"{name}.key"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
