"""A sink of audit records as a test needs it: takes ``POST …/records`` and ``…/AuditEvent``, confirms, keeps what came."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from atna.iti20_record_audit_event import FrameDecoder

__all__ = ["RecordsSink"]


class RecordsSink:
    """``records`` are the messages in the order they came, ``resources`` the AuditEvents.

    ``answers`` are statuses to give first, afterwards 200 or 201; 0 breaks the connection.
    """

    def __init__(self, *answers):
        self.records = []
        self.resources = []
        self.answers = list(answers)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                fhir = self.path.endswith("/AuditEvent")
                status = sink.answers.pop(0) if sink.answers else 201 if fhir else 200
                if status == 0:
                    self.close_connection = True
                    return
                if status == 201:
                    assert self.headers["content-type"] == "application/fhir+json"
                    sink.resources.append(json.loads(body))
                elif status == 200:
                    sink.records += FrameDecoder(10**9).feed(body)
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        place = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.url, self.fhir = f"{place}/records", f"fhir+{place}/fhir"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
