"""The Document Registry: judges and keeps metadata (ITI-42, ITI-18, ITI-8)."""

__all__: list[str] = []
