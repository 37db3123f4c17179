"""Several applications behind one listener, each at its own path."""

from collections.abc import Mapping

from wire.sending import Receive, Scope, Send, send_whole
from wire.soap_app import Asgi

__all__ = ["by_path"]


def by_path(apps: Mapping[str, Asgi]) -> Asgi:
    """The application that hands a request to the one at its path; 404 names the paths there are."""
    known = f"nothing is served at this path; there are {', '.join(apps)}\n".encode()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found = apps.get(scope["path"]) if scope["type"] == "http" else None
        if found is not None:
            await found(scope, receive, send)
        elif scope["type"] == "http":
            await send_whole(send, 404, "text/plain; charset=UTF-8", known)
        else:
            raise NotImplementedError(f"only HTTP is spoken here, not {scope['type']}")

    return app
