"""Version 2: nothing of what records are found by."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From version 1 to 2."""
