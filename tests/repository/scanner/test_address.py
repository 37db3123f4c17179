"""The setting ``scanner``."""

import pytest
from pydantic import ValidationError

from repository.scanner.address import ScannerAddress, scanner_address
from repository.scanner.choice import scanner_for
from repository.settings import RepositorySettings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("none", ScannerAddress("none")),
        ("clamd://scan.example:3311", ScannerAddress("clamd", "scan.example", 3311)),
        ("clamd://10.0.0.1", ScannerAddress("clamd", "10.0.0.1", 3310)),
        ("clamd://[::1]:3310", ScannerAddress("clamd", "::1", 3310)),
        ("clamd:///run/clamav/clamd.ctl", ScannerAddress("clamd", path="/run/clamav/clamd.ctl")),
        ("clamd:///run/a%20b.sock", ScannerAddress("clamd", path="/run/a b.sock")),
        ("icap://scan.example/avscan", ScannerAddress("icap", "scan.example", 1344, service="avscan")),
        ("icap://s:1/a/b?allow204=on&x", ScannerAddress("icap", "s", 1, service="a/b?allow204=on&x")),
    ],
)
def test_addresses(text, address):
    assert scanner_address(text) == address
    assert RepositorySettings(scanner=text).scanner == text
    assert scanner_for(RepositorySettings(scanner=text)).scans is (text != "none")


NO_ADDRESS = (
    *("", "None", "clamd://", "clamd:", "clamd://host/path", "clamd://host:99999", "clamd:///a?b"),
    *("icap://host", "icap://host/", "icap:///a", "icap://user@host/a", "icap://host/a b", "icap://host/a#b"),
    *("icap://host/a\r\nX: y", "http://host/a"),
)


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_what_is_no_address_is_told_what_it_may_be(text):
    with pytest.raises(ValidationError, match="none, clamd://HOST:PORT"):
        RepositorySettings(scanner=text)
