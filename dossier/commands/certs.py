"""``dossier certs``: a public key infrastructure to try TLS with. For tests only.

``ca``       the authority; with ``--intermediate`` it signs ``intermediate`` alone, and that signs the others
``server``   one certificate for all services, or with ``--server NAME`` one for each, by its host name: only with a
             certificate of its own can a service be told from another in ``affinity_domain.partners``
``client``   one for each ``--client``; it opens no port. ``--expired NAME`` makes one that has expired
``--keys``   RSA, or EC for cheaper handshakes
``ca.crl``   the revocation lists of the authorities. ``--revoke NAME`` puts a certificate on them, also later on, when
             the services already use the folder
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography import x509

from dossier.authority import Authority, KeyKind, write, write_lists
from dossier.console import CommandError

__all__ = ["certs"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
RESERVED: Final = ("ca", "intermediate")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


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
    expired: Annotated[
        list[str] | None, typer.Option("--expired", help="Name of a client whose certificate has expired.")
    ] = None,
    revoke: Annotated[
        list[str] | None,
        typer.Option("--revoke", help="Name whose certificate is revoked, now or in a folder made before."),
    ] = None,
    intermediate: Annotated[bool, typer.Option("--intermediate", help="Let an intermediate authority sign.")] = False,
    days: Annotated[int, typer.Option("--days", min=1, max=825, help="How long they are valid.")] = 90,
    keys: Annotated[
        KeyKind, typer.Option("--keys", help="rsa: every cipher suite of IHE; ec: cheaper handshakes, ECDSA alone.")
    ] = KeyKind.RSA,
    force: Annotated[bool, typer.Option("--force", help="Write over an authority that is already there.")] = False,
) -> None:
    """Make an authority, server certificates (also for localhost, 127.0.0.1, ::1) and clients', to try TLS with."""
    servers, clients, late, more = server or [], client or ["client"], expired or [], host or []
    exists = (out / "ca.pem").exists()
    if exists and revoke and not force and not (server or client or expired or host or intermediate):
        _revoke(out, revoke)
        return
    _check_names(servers or ["server"], clients, late, revoke or [])
    _check_hosts(more)
    if exists and not force:
        raise CommandError(f"{out / 'ca.pem'} exists; --force makes everything anew", status=2)
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        signer = _authorities(out, days, keys, intermediate=intermediate)
        if not servers:
            write(out, "server", *signer.issue("Dossier test server", [*LOOPBACK, *more]))
        for name in servers:
            write(out, name, *signer.issue(name, [*LOOPBACK, name, *more]))
        for name in (*clients, *late):
            write(out, name, *signer.issue(name, [], expired=name in late))
    except OSError as error:
        raise CommandError(f"{out}: {error.strerror}", status=2) from error
    _revoke(out, revoke or [])
    for name in servers or ["server"]:
        where = f"the dossier.toml of {name}" if servers else "dossier.toml"
        typer.echo(f'# for {where}\n[tls]\ncertificate = "{out / name}.pem"\nkey = "{out / name}.key"')
        typer.echo(f'ca = "{out / "ca.pem"}"\nrevocation_list = "{out / "ca.crl"}"')


def _check_names(servers: list[str], clients: list[str], late: list[str], revoked: list[str]) -> None:
    """Every name becomes a file's, so each may be there once."""
    taken = set(RESERVED)
    for kind, names in (("server", servers), ("client", clients), ("client", late)):
        for name in names:
            if _NAME.fullmatch(name) is None or name in taken:
                raise CommandError(f"{name!r} cannot be a {kind}'s name", status=2)
            taken.add(name)
    for name in revoked:
        if name not in taken - {"ca"}:
            raise CommandError(f"{name!r} cannot be revoked: it is not among the names that are made", status=2)


def _check_hosts(hosts: list[str]) -> None:
    """Before anything is written: an authority without its servers would stand in the way of the next attempt."""
    for host in hosts:
        if _NAME.fullmatch(host.removeprefix("*.")) is None and not _is_address(host):
            told = "a name in ASCII (with xn-- where it has other letters) or an IP address"
            raise CommandError(f"--host {host!r}: should be {told}", status=2)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _authorities(out: Path, days: int, keys: KeyKind, *, intermediate: bool) -> Authority:
    """Write them; returns the one that signs the others. What a former set left behind goes."""
    for name in ("intermediate.pem", "intermediate.key", "ca.crl"):
        (out / name).unlink(missing_ok=True)
    root = Authority.make("Dossier test authority", days, path_length=1 if intermediate else 0, kind=keys)
    write(out, "ca", [root.certificate], root.key)
    if not intermediate:
        return root
    below = root.intermediate("Dossier test intermediate authority")
    write(out, "intermediate", [below.certificate], below.key)
    return below


def _revoke(out: Path, names: list[str]) -> None:
    """Write the lists anew: of each authority there is, with what was on them and what ``names`` adds."""
    try:
        authorities = [Authority.read(out, "ca", root=True)]
        if (out / "intermediate.pem").exists():
            authorities.append(Authority.read(out, "intermediate", root=False))
        revoked = {name: _certificate(out, name) for name in names}
        before = _listed(out / "ca.crl")
        lists = []
        for authority in authorities:
            subject = authority.certificate.subject
            serials = before.get(subject, []) + [one.serial_number for one in revoked.values() if one.issuer == subject]
            lists.append(authority.revocation_list(sorted(set(serials))))
        write_lists(out / "ca.crl", lists)
    except OSError as error:
        raise CommandError(f"{error.filename or out}: {error.strerror}", status=2) from error
    except ValueError as error:
        raise CommandError(f"{out}: {error}", status=2) from error


def _certificate(out: Path, name: str) -> x509.Certificate:
    path = out / f"{name}.pem"
    if _NAME.fullmatch(name) is None or name == "ca" or not path.is_file():
        raise CommandError(f"{name!r} cannot be revoked: {out} has no certificate of that name", status=2)
    return x509.load_pem_x509_certificate(path.read_bytes())


def _listed(path: Path) -> dict[x509.Name, list[int]]:
    """The serial numbers on the lists of a file, by authority."""
    if not path.exists():
        return {}
    lists = [x509.load_pem_x509_crl(block) for block in _CRL.findall(path.read_bytes())]
    return {one.issuer: [entry.serial_number for entry in one] for one in lists}
