"""The gateway's tables: the audit outbox. Times are microseconds since 1970, UTC."""

from typing import Final

from sqlalchemy import MetaData

from atna.store.outbox import outbox_table

__all__ = ["metadata", "outbox"]

metadata: Final = MetaData(info={"room": "gateway", "version": 1})

outbox: Final = outbox_table(metadata)
