"""Where the records are kept: tables, the one writer, searches and the check of the chain."""

__all__: list[str] = []
