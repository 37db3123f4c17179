"""Malware scanners a repository can ask: ``none``, clamd, ICAP. How to write another: ``protocol.Scanner``."""

__all__: list[str] = []
