"""The Audit Record Repository: takes audit records in, keeps them, answers ITI-81 (ITI TF-1: 9)."""

__all__: list[str] = []
