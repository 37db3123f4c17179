"""atna."""

__all__: list[str] = []
