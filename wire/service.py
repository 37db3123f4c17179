"""What the services do alike: listen over HTTP, answer for their health, and send the audit records they write.

Each of the first two, and ``watching``, gives a ``Listener`` for ``wire.running.run_listeners``.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from atna.node_events import application_activity
from atna.recorder import Recorder
from atna.sender import Sender
from atna.store.outbox import Outbox
from wire.accepting import accept_until
from wire.admin import Check, admin_app
from wire.forwarded import Forwarded
from wire.handshake import HandshakeFailed
from wire.http_server import serve_http
from wire.reloading import keep_fresh, listener_context
from wire.running import Listener
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings
from wire.sinks import Sinks

__all__ = ["admin_listener", "http_listener", "recorder", "sending_records", "watching"]


def recorder(service: str, domain: AffinityDomainSettings, *, unique_id: str | None = None) -> Recorder:
    """The recorder of a process of this ``service`` (``registry``); ``unique_id`` where a domain has several of it."""
    name = service if unique_id is None else f"{service} {unique_id}"
    home = domain.home_community_id
    host = socket.gethostname() or "localhost"
    return Recorder(f"{name}@{home}", home, f"dossier-{service}", host, environment=domain.environment)


def http_listener(
    app: Any,
    listener: socket.socket,
    *,
    table: str,
    tls: TlsSettings,
    limits: LimitSettings,
    workers: int,
    handshake_failed: HandshakeFailed | None = None,
) -> Listener:
    """``app`` (ASGI) on a bound socket; ``table`` names its TLS settings (``registry.tls``). Raises TlsFault.

    ``workers``: the processes of the service, which share the socket.
    """
    return partial(
        _served,
        app,
        listener,
        limits=limits,
        tls=listener_context(tls, table),
        allow_plaintext=tls.allow_plaintext,
        forwarded=Forwarded(tls),
        handshake_failed=handshake_failed,
        shared=workers > 1,
    )


def admin_listener(
    listener: socket.socket,
    checks: Mapping[str, Check],
    *,
    notes: Mapping[str, Check] | None = None,
    tls: TlsSettings,
    limits: LimitSettings,
) -> Listener:
    """The admin port: plain HTTP; ``tls`` says whether that may leave this machine. See ``wire.admin``."""
    app = admin_app(checks, notes)
    return partial(_served, app, listener, limits=limits, tls=None, allow_plaintext=tls.allow_plaintext)


def watching(sources: Sequence[Callable[[], object]]) -> Listener:
    """Nothing that listens: looks at the certificate files of clients as listeners do at theirs (``keep_fresh``)."""
    return partial(_watched, sources)


async def _watched(sources: Sequence[Callable[[], object]], stop: asyncio.Event, started: Callable[[], None]) -> None:
    nothing = partial(asyncio.sleep, 0)
    await accept_until(stop, keep_fresh(*sources), drain=nothing, tls=None, started=started)


async def _served(app: Any, listener: socket.socket, stop: Any, started: Callable[[], None], **how: Any) -> None:
    await serve_http(app, [listener], stop=stop, started=started, **how)


@contextmanager
def sending_records(  # noqa: PLR0917 - what a record needs on its way
    service: str,
    recorder: Recorder,
    record: Callable[[Sequence[bytes]], object],
    outbox: Outbox,
    tls: TlsSettings,
    stop: threading.Event,
    *,
    handshake_failed: HandshakeFailed,
) -> Iterator[None]:
    """What there must be one of beside the block: the sender of audit records; start and stop are on record.

    ``record`` makes records durable; ``handshake_failed`` is told of sinks that are not who they should be. Sets
    ``stop`` on the way out; what the sender then has not sent waits for the next start.
    """

    def note(*, started: bool) -> None:
        message = application_activity(
            started=started, application=service, process_id=recorder.process_id, address=recorder.host
        )
        record([recorder.record(message)])

    note(started=True)
    sinks = Sinks(tls, handshake_failed)
    sending = threading.Thread(target=Sender(outbox, sinks, pace=sinks.pace).run, args=(stop,), name="audit sender")
    sending.start()
    try:
        yield
    finally:
        stop.set()
        try:
            note(started=False)
        finally:
            sending.join()
            sinks.close()
