"""The page of the audit log for the security officer: rendered on the server, without script, in four languages."""

__all__: list[str] = []
