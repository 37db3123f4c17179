"""dossier."""

__all__: list[str] = []
