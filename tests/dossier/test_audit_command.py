"""``dossier audit`` against a peer that answers anything but FHIR: one line, and nothing of what came."""

import socket
import threading

import pytest


@pytest.fixture
def answering():
    """``answering(bytes)`` is the address of a server that gives this answer once."""
    running = []

    def serve(answer):
        listening = socket.create_server(("127.0.0.1", 0))

        def run():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # what is left unread would be a reset, which takes the answer with it
                    pass

        thread = threading.Thread(target=run)
        thread.start()
        running.append((listening, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield serve
    for listening, thread in running:
        thread.join(5)
        listening.close()


def http(body, status=b"200 OK"):
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http(b"<html>Muster</html>"), "the answer is no JSON"),
        (http(b"[" * 100_000), "the answer is no JSON"),
        (http(b'[{"a": "Muster"}]'), "the answer is no Bundle"),
        (http(b'{"entry": 5, "link": "Muster"}'), "the answer is no Bundle of AuditEvents"),
        (http(b'{"entry": [{"resource": {"agent": [null]}}]}'), "the answer is no Bundle of AuditEvents"),
        (http(b'{"issue": ["Muster"]}', b"403 No"), "refused: HTTP 403"),
        (b"\x1b[2JMuster\r\n\r\n", "no readable answer (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nMuster", "no readable answer (IncompleteRead)"),
    ],
)
def test_what_is_no_bundle_is_one_line(run_command, answering, answer, told):
    status, out, err = run_command("audit", "--audit-url", answering(answer), "--json")
    assert (status, out) == (1, "")
    assert err.startswith("dossier: http://127.0.0.1:")
    assert err.endswith(f"{told}\n")
    assert len(err.splitlines()) == 1
    assert "Muster" not in err
