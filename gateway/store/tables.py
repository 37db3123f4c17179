"""The gateway's tables: the audit outbox, patients in other communities. Times are microseconds since 1970, UTC."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text

from atna.store.outbox import outbox_table

__all__ = ["correlation", "metadata", "outbox"]

metadata: Final = MetaData(info={"room": "gateway", "version": 2})

outbox: Final = outbox_table(metadata)

# What a community answered about a patient of ours (ITI-55): identifiers there, one a line, none: it does not know him.
# ``patient`` is our identifier (CX), a blank, and a digest of what the community was told of him; where it knows nobody
# a blank more, and a digest of the security header it told that to.
correlation: Final = Table(
    "correlation",
    metadata,
    Column("community", Text, primary_key=True),
    Column("patient", Text, primary_key=True),
    Column("found", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index("correlation_by_expiry", correlation.c.expires_at)
