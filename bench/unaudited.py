"""A Dossier without audit records, to measure what they cost: ``python -m bench.unaudited serve all …``.

Nothing of this is in the product: no setting turns the records off. It takes the place of ``dossier`` and of the module
that its children run, lives outside the packages that are installed, and ends where the environment is "production".
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from dossier import supervisor, worker

OWN = "bench.unaudited"
CHILD = "dossier.worker"


def _started(command: Sequence[str], **more: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([OWN if word == CHILD else word for word in command], **more)


class _Subprocess:
    """``subprocess`` as the supervisor sees it: its children run this module."""

    Popen = staticmethod(_started)

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


def main() -> None:
    """The command line."""
    from dossier.__main__ import main as run

    supervisor.subprocess = _Subprocess()  # type: ignore[assignment]
    sys.argv[0] = "dossier"
    run()


def child() -> int:
    """One child: what it is told to serve, with everything that makes and keeps records taken out."""
    from atna.store import outbox
    from registry.asked import Asked

    resolve, commit = worker._resolve, outbox.GroupCommit.commit

    def resolved(target: str) -> Any:
        room = resolve(target)

        def checked(**told: Any) -> Any:
            domain = told.get("domain")
            if domain is not None and domain.environment == "production":
                raise SystemExit("without audit records nothing is served in production")
            return room(**told)

        return checked

    def commit_the_rest(self: Any, _messages: Sequence[bytes], beside: Any = ()) -> None:
        if beside:
            commit(self, [], beside)

    worker._resolve = resolved
    outbox.GroupCommit.commit = commit_the_rest  # type: ignore[method-assign]
    Asked.records = lambda *_: []  # type: ignore[method-assign]
    return worker.main()


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].isdigit():
        sys.exit(child())
    main()
