"""How the gateway's schema became what it is: one module for each version, run by ``atna.store.migrating``."""

from pathlib import Path
from typing import Final

__all__ = ["FOLDER"]

FOLDER: Final = Path(__file__).parent
