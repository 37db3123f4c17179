"""A ``host:port`` of the settings."""

import ipaddress
from dataclasses import dataclass

__all__ = ["Address", "is_loopback"]


@dataclass(frozen=True, slots=True)
class Address:
    """A ``host:port`` of the settings."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """``127.0.0.1:8010``, ``[::1]:8010`` or ``name:8010``; raises ValueError with a plain reason."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError("should be host:port with a port from 1 to 65535, e.g. 127.0.0.1:8010")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a name or an IP address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
