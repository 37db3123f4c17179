"""The scanner that the settings name."""

from repository.scanner.address import ScannerAddress, scanner_address
from repository.scanner.clamd import Clamd
from repository.scanner.icap import Icap
from repository.scanner.protocol import Bounded, NoScanner, Scanner
from repository.settings import RepositorySettings

__all__ = ["scanner_for"]


def scanner_for(settings: RepositorySettings) -> Scanner:
    """``settings.scanner`` with its bounds; nothing is connected to before it is asked."""
    address = scanner_address(settings.scanner)
    if address.kind == "none":
        return NoScanner()
    return Bounded(_asked(address, settings.scan_timeout_s), settings.max_scans)


def _asked(address: ScannerAddress, timeout_s: float) -> Scanner:
    return Clamd(address, timeout_s) if address.kind == "clamd" else Icap(address, timeout_s)
