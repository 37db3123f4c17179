"""A worker of the audit service for tests that ask it over HTTP."""

import json
import socket
import threading
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from atna.iti20_record_audit_event import encode_frame
from atna.record_repository.app import worker
from atna.settings import AuditSettings
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings

__all__ = ["LIMITS", "Service", "frames"]

LIMITS = LimitSettings(threads=4)


class Service:
    """A worker of the audit service in a thread."""

    def __init__(self, url, tls=None, main=worker, name="http", partners=None, environment="test", **settings):
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = url
        self.port = listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.base = f"{'https' if tls else 'http'}://{self.address}"
        self.sink = f"{self.base}/records"
        self.stop, ready = threading.Event(), threading.Event()
        arguments = {
            "audit": AuditSettings(database_url=url, **settings),
            "domain": AffinityDomainSettings(environment=environment, partners=partners or {}),
            "tls": tls or TlsSettings(),
            "limits": LIMITS,
            "sockets": {name: listener},
            "started": ready.set,
            "stop": self.stop,
        }
        self.thread = threading.Thread(target=main, kwargs=arguments)
        self.thread.start()
        assert ready.wait(10)

    def close(self):
        self.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def get(self, path, **parameters):
        return self.ask(Request(f"{self.base}{path}?{urlencode(parameters, doseq=True)}"))

    def form(self, **parameters):
        return self.ask(Request(f"{self.base}/fhir/AuditEvent/_search", urlencode(parameters).encode()))

    def feed(self, body):
        return self.ask(Request(self.sink, body, {"content-type": "application/octet-stream"}))

    def ask(self, request):
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)


def frames(*messages):
    return b"".join(encode_frame(message) for message in messages)
