"""Who runs a command that is on record."""

import os
import pwd

__all__ = ["operator"]


def operator() -> str:
    """The account of this host that runs the command, as audit records name it.

    Told by the system: what the environment says of it (``USER``) is for anybody to change. An account of a container
    may have a number alone.
    """
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
