"""Plain HTTP services: routes, bounds, and what a peer learns of a defect."""

import asyncio
import http.client
import json
import socket
import threading
from functools import partial

import pytest

from wire.http_server import serve_http
from wire.rest import RestRequest, RestResponse, RestRoute, rest_app
from wire.running import run_listeners
from wire.settings import LimitSettings

LIMITS = LimitSettings(threads=2)
asked: list[RestRequest] = []


def echo(request):
    asked.append(request)
    return RestResponse(201, request.body or b"{}", "text/plain", {"x-test": "yes"})


def defect(_request):
    raise RuntimeError("secret of the house")


def in_pieces(request):
    def pieces():
        for number in range(int(request.query)):
            yield b"%d;" % number * 4096
        if request.path_parameters["end"] == "broken":
            raise RuntimeError("secret of the house")

    return RestResponse(200, pieces(), "text/csv")


def as_page(request, status, text):
    return RestResponse(status, f"<p>{text} {request.headers['x-tongue']}".encode(), "text/html")


@pytest.fixture(scope="module")
def address():
    app = rest_app(
        [
            RestRoute("GET", "/things/{name}", echo),
            RestRoute("POST", "/things", echo, max_body_bytes=10),
            RestRoute("GET", "/defect", defect),
            RestRoute("GET", "/pieces/{end}", in_pieces),
            RestRoute("POST", "/page", defect, 10, as_page),
        ],
        limits=LIMITS,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    stop, ready = threading.Event(), threading.Event()

    async def serve(ending: asyncio.Event, started):
        await serve_http(app, [listener], limits=LIMITS, tls=None, stop=ending, started=started)

    thread = threading.Thread(target=partial(run_listeners, [serve], ready.set, stop))
    thread.start()
    assert ready.wait(10)
    yield address
    stop.set()
    thread.join(10)


def ask(address, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_a_handler_sees_the_request_and_its_answer_arrives(address):
    status, headers, body = ask(address, "GET", "/things/a%20b?q=%C3%BC&q=2", headers={"Content-Type": "x/y"})
    assert (status, body, headers["x-test"], headers["content-type"][:10]) == (201, b"{}", "yes", "text/plain")
    request = asked[-1]
    assert (request.method, request.query, request.path_parameters) == ("GET", "q=%C3%BC&q=2", {"name": "a b"})
    assert request.url == f"http://127.0.0.1:{address[1]}/things/a%20b"
    assert (request.content_type, request.caller.address, request.caller.node) == ("x/y", "127.0.0.1", None)


def test_bodies_are_bounded_per_route(address):
    assert ask(address, "POST", "/things", b"0123456789")[2] == b"0123456789"
    assert ask(address, "POST", "/things", b"0123456789a")[0] == 413
    assert ask(address, "GET", "/things/a", b"x")[0] == 413


def test_what_is_not_there(address):
    assert ask(address, "GET", "/other")[0] == 404
    assert ask(address, "DELETE", "/things")[0] == 405


def test_a_defect_tells_the_peer_an_id_and_the_log_the_rest(address, caplog):
    status, _headers, body = ask(address, "GET", "/defect")
    answer = json.loads(body)
    assert (status, answer["error"]) == (500, "internal error")
    assert b"secret" not in body
    assert answer["request"] in caplog.text
    assert "secret of the house" in caplog.text


def test_headers_are_seen_by_lower_case_name_several_joined(address):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.putrequest("GET", "/things/a")
    connection.putheader("X-Twice", "one")
    connection.putheader("x-twice", "two")
    connection.endheaders()
    connection.getresponse().read()
    connection.close()
    assert asked[-1].headers["x-twice"] == "one, two"


def test_an_answer_in_pieces_arrives_whole(address):
    status, headers, body = ask(address, "GET", "/pieces/whole?300")
    assert (status, headers["transfer-encoding"], headers["content-type"][:8]) == (200, "chunked", "text/csv")
    assert body == b"".join(b"%d;" % number * 4096 for number in range(300))


def test_an_answer_that_fails_midway_cannot_be_taken_for_whole(address):
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(address, "GET", "/pieces/broken?3")


def test_a_route_may_answer_for_what_no_handler_answers(address):
    tongue = {"X-Tongue": "de"}
    status, headers, body = ask(address, "POST", "/page", b"0123456789a", tongue)
    assert (status, headers["content-type"][:9]) == (413, "text/html")
    assert body.endswith(b" de")
    assert ask(address, "POST", "/page", b"", tongue)[::2] == (500, b"<p>internal error de")
