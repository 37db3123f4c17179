"""The affinity domain as the rules ask it: settings joined with the code file the operator keeps, or ours.

A process looks at the operator's file once a second. A changed file is read when two looks in a row find it the same,
so that one being written is left alone; what is read is used from the next request on, whole or not at all. A file with
a fault changes nothing: the codes that were in use stay, the log says every fault, and metrics and the admin port show
it until the file is right.
"""

import threading
from importlib import resources
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Gauge

from ihe.affinity_domain import AffinityDomain, CodeFileError, affinity_domain, read_codes
from wire.settings import AffinityDomainSettings

__all__ = ["Agreement", "agreed_codes"]

LOOK_EVERY_S: Final = 1.0
LOGGED_FAULTS: Final = 20
SHIPPED: Final = "the code file shipped with the product"

BROKEN: Final = Gauge(
    "dossier_code_file_broken", "1 while a changed code file cannot be used", multiprocess_mode="livemax"
)

_log = structlog.get_logger(__name__)

Stamp = tuple[int, int, int] | None
"""Modification time (ns), size and inode of the file; ``None``: there is no such file."""


def agreed_codes(domain: AffinityDomainSettings) -> AffinityDomain:
    """Read the operator's code file or the one shipped. Raises CodeFileError and OSError."""
    if domain.codes is not None:
        data, name = domain.codes.read_bytes(), domain.codes.name
    else:
        data, name = (resources.files("ihe") / "codes.csv").read_bytes(), SHIPPED
    codes = read_codes(_text(data))
    return affinity_domain(
        domain.home_community_id, domain.assigning_authorities, codes, domain.matricules, code_file=name
    )


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CodeFileError([f"line {line}: not UTF-8 text"]) from error


class Agreement:
    """The affinity domain as it is agreed now; call it for the value, which never changes itself. Thread safe.

    Raises CodeFileError and OSError when made; from then on a file that cannot be used only leaves the old codes.
    """

    def __init__(self, settings: AffinityDomainSettings) -> None:
        self._settings = settings
        # Before the file is read: if it changes meanwhile, the next look sees another one.
        self._judged = _stamp(settings.codes)
        self._seen = self._judged
        self._domain = agreed_codes(settings)
        self._broken = False

    def __call__(self) -> AffinityDomain:
        return self._domain

    @property
    def up_to_date(self) -> bool:
        """Whether the codes in use are those of the file."""
        return not self._broken

    def watch(self, stop: threading.Event) -> None:
        """Look at the file in a thread of its own until ``stop``; nothing to do for the file shipped."""
        if self._settings.codes is not None:
            threading.Thread(target=self._watch, args=(stop,), name="code file", daemon=True).start()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_EVERY_S):
            self.look()

    def look(self) -> None:
        """Use the file's codes if it has changed and been left alone since the last look."""
        stamp = _stamp(self._settings.codes)
        settled, self._seen = stamp == self._seen, stamp
        if stamp == self._judged or not settled:
            return
        self._judged = stamp
        try:
            self._domain = agreed_codes(self._settings)
        except CodeFileError as error:
            self._keep_the_old(error.faults)
        except OSError as error:
            self._keep_the_old((f"cannot be read: {error.strerror}",))
        else:
            self._broken = False
            BROKEN.set(0)
            _log.info("code file read again", file=str(self._settings.codes), codes=dict(self._domain.how_many()))

    def _keep_the_old(self, faults: tuple[str, ...]) -> None:
        self._broken = True
        BROKEN.set(1)
        _log.error(
            "code file not used, the codes in use stay",
            file=str(self._settings.codes),
            faults=list(faults[:LOGGED_FAULTS]),
            fault_count=len(faults),
        )


def _stamp(path: Path | None) -> Stamp:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
