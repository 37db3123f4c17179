"""The address of a database in settings: ``sqlite:///PATH`` or ``postgresql+psycopg://USER:PASSWORD@HOST/NAME``.

Looked at without the library that opens it, so that a wrong one is told with all other faults of the settings and
before anything starts. The grammar is SQLAlchemy's (docs.sqlalchemy.org: core/engines, Database URLs): a password may
hold ``/`` and ``#`` as they are, ``@`` only as ``%40``.
"""

import re
from typing import Annotated, Final

from pydantic import AfterValidator

__all__ = ["DatabaseUrl"]

_SQLITE: Final = re.compile(r"sqlite(\+pysqlite)?:///(?!:memory:)[^?]+(\?.*)?")
_POSTGRESQL: Final = re.compile(
    r"postgresql(\+\w+)?://"
    r"([^:/]*(:[^@]*)?@)?"  # user and password
    r"(\[[^/?]+\]|[^/:?@]+)?(:[0-9]*)?"  # host and port; without them ?host= names the folder of a socket
    r"(/[^?]*)?(\?.*)?"
)


def _database_url(text: str) -> str:
    if _SQLITE.fullmatch(text) is None and _POSTGRESQL.fullmatch(text) is None:
        raise ValueError(
            "should be sqlite:////path/name.db (a file, not memory) or postgresql+psycopg://user:password@host/name, "
            "where @ in the password is written %40"
        )
    return text


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
