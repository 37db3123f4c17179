"""A sink of audit records as a test needs it: takes the feed of ``POST …/records``, confirms, and keeps what came."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from atna.iti20_record_audit_event import FrameDecoder

__all__ = ["RecordsSink"]


class RecordsSink:
    """``records`` are the messages in the order they came; ``answers`` are statuses to give first, else 200."""

    def __init__(self, *answers):
        self.records = []
        self.answers = list(answers)
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = sink.answers.pop(0) if sink.answers else 200
                if status == 200:
                    sink.records += FrameDecoder(10**9).feed(body)
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/records"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
