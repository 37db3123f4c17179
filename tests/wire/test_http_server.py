"""wire.http_server over raw sockets: framing, bounds, stalls, pipelining, early answers, draining."""

import asyncio
import contextlib
import logging
import socket
import struct
import threading
import time

import pytest
import uvloop

from wire.http_server import PlaintextRefused, check_plaintext, serve_http
from wire.settings import LimitSettings

CLOSE = b"Connection: close\r\n\r\n"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def server(request, serve):
    with serve(loop_factory=request.param) as running:
        yield running


def post(path="/echo", body=b"hello", *, headers=b"", version=b"1.1", close=True):
    return b"POST %s HTTP/%s\r\nHost: x\r\nContent-Length: %d\r\n%s%s\r\n%s" % (
        path.encode(),
        version,
        len(body),
        headers,
        b"Connection: close\r\n" if close else b"",
        body,
    )


def receive(connection, end=b"\r\n\r\n"):
    """Read until what came ends with ``end`` or the server closes."""
    answer = b""
    while not answer.endswith(end) and (chunk := connection.recv(4096)):
        answer += chunk
    return answer


def status(answer):
    return int(answer.split(b" ", 2)[1])


def body(answer):
    return answer.partition(b"\r\n\r\n")[2]


class TestFraming:
    """reference: the HTTP line of the interoperability list."""

    def test_content_length(self, server, exchange):
        answer = exchange(server, post())
        assert (status(answer), body(answer)) == (200, b"hello")

    def test_no_server_header_but_a_date(self, server, exchange):
        head = exchange(server, post()).lower().partition(b"\r\n\r\n")[0]
        assert b"\r\ndate:" in head
        assert b"server:" not in head

    def test_chunked_without_length(self, server, exchange):
        chunks = b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
        answer = exchange(server, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n" + CLOSE + chunks)
        assert (status(answer), body(answer)) == (200, b"abcde")

    def test_every_split_of_a_chunked_request(self, serve, read_to_end):
        request = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"3\r\nabc\r\n0\r\n\r\n"
        with serve() as server:
            for cut in range(1, len(request), 7):
                with server.connect() as connection:
                    connection.sendall(request[:cut])
                    time.sleep(0.002)
                    connection.sendall(request[cut:])
                    assert body(read_to_end(connection)) == b"abc"

    def test_expect_continue_is_answered_when_the_application_reads(self, server, read_to_end):
        with server.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n" + CLOSE)
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"hello")
            assert body(read_to_end(connection)) == b"hello"

    def test_expect_continue_is_not_answered_when_refused(self, server, read_to_end):
        with server.connect() as connection:
            connection.sendall(
                b"POST /forbidden HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            answer = read_to_end(connection)
        assert status(answer) == 401
        assert b"connection: close" in answer

    def test_http_1_0_with_length(self, server, exchange):
        answer = exchange(server, post(version=b"1.0", close=False))
        assert (status(answer), body(answer)) == (200, b"hello")

    def test_http_1_0_is_never_answered_in_chunks(self, server, exchange):
        answer = exchange(server, b"GET /chunks HTTP/1.0\r\n\r\n")
        assert b"transfer-encoding" not in answer.lower()
        assert body(answer) == b"one two"

    def test_http_1_1_without_length_is_answered_in_chunks(self, server, exchange):
        assert body(exchange(server, b"GET /chunks HTTP/1.1\r\nHost: x\r\n" + CLOSE)) == (
            b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"
        )

    def test_head_is_answered_at_once_and_without_a_body(self, server, read_to_end):
        with server.connect() as connection:
            connection.sendall(b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert receive(connection).startswith(b"HTTP/1.1 200")
            connection.sendall(b"HEAD /echo HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + post(body=b"last"))
            answers = read_to_end(connection)
            assert answers.count(b"HTTP/1.1 200") == 3
            assert body(answers).endswith(b"\r\n\r\nlast")

    def test_folded_header_lines(self, server, exchange):
        folded = b"X-A: one\r\n two\r\nX-B:\r\n\tthree\r\n"
        assert body(exchange(server, post(headers=folded))) == b"hello"
        chunked = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n" + CLOSE
        assert body(exchange(server, chunked + b"5\r\nhello\r\n0\r\n\r\n")) == b"hello"

    def test_keep_alive_reuse(self, server, read_to_end):
        with server.connect() as connection:
            for text in (b"one", b"two", b"three"):
                connection.sendall(post(body=text, close=False))
                assert receive(connection, text).endswith(b"\r\n\r\n" + text)
            connection.sendall(post(body=b"last"))
            assert body(read_to_end(connection)) == b"last"

    def test_half_closed_client_gets_its_answer(self, server, exchange):
        answer = exchange(server, post("/slow", close=False), half_close=True)
        assert body(answer) == b"slow"

    def test_pipelined_requests_are_answered_in_order(self, server, exchange):
        requests = post("/slow", close=False) + post(body=b"second", close=False) + post(body=b"third")
        answer = exchange(server, requests)
        assert answer.count(b"HTTP/1.1 200") == 3
        assert answer.index(b"slow") < answer.index(b"second") < answer.index(b"third")

    def test_too_many_pipelined_requests_are_not_queued(self, server, exchange):
        answer = exchange(server, post("/slow", close=False) * 40)
        assert answer.count(b"HTTP/1.1 200") == 16

    def test_a_client_offering_h2c_keeps_its_connection(self, server, read_to_end):
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
        with server.connect() as connection:
            for text in (b"one", b"two"):
                connection.sendall(post(body=text, headers=upgrade, close=False))
                assert receive(connection, text).endswith(b"\r\n\r\n" + text)
            connection.sendall(post(body=b"last"))
            assert body(read_to_end(connection)) == b"last"

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nhost: y\r\nContent-Length: 0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nA b\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n 6\r\n\r\nhello",
            b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\x01c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\rc: d\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    )
    def test_what_is_no_request_is_refused(self, server, exchange, request_bytes):
        assert status(exchange(server, request_bytes)) == 400

    def test_damaged_chunk_is_no_end_of_body(self, server, exchange):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert status(exchange(server, head + b"3\r\nabc\r\nzz\r\n")) == 400
        server.wait_for(lambda: server.app.seen == ["ClientGone"])

    def test_garbage_after_a_request_does_not_spoil_its_answer(self, server, exchange):
        answer = exchange(server, post("/slow", close=False) + b"\x00garbage\r\n\r\n")
        assert status(answer) == 200
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.endswith(b"slow")


class TestAborts:
    @pytest.mark.parametrize(
        "framing", [b"Content-Length: 9\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    )
    @pytest.mark.parametrize("reset", [False, True])
    def test_a_client_that_goes_is_no_end_of_body(self, server, framing, reset):
        with server.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing)
            time.sleep(0.05)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.wait_for(lambda: server.app.seen)
        assert server.app.seen == ["ClientGone"]

    @pytest.mark.parametrize("path", ["/breaks", "/aborts"])
    @pytest.mark.parametrize("version", [b"1.0", b"1.1"])
    def test_an_unfinished_answer_ends_in_a_reset(self, server, exchange, path, version, caplog):
        with pytest.raises(ConnectionResetError):
            exchange(server, post(path, b"", version=version))
        assert "Mustermann" not in caplog.text

    def test_a_defect_is_answered_500_and_its_message_stays_out_of_the_log(self, server, exchange, caplog):
        with caplog.at_level(logging.ERROR):
            answer = exchange(server, post("/broken"))
        assert (status(answer), body(answer)) == (500, b"Internal Server Error")
        assert "KeyError" in caplog.text
        assert "Mustermann" not in caplog.text


class TestHeadBounds:
    def test_a_megabyte_of_headers(self, server, exchange):
        head = b"POST / HTTP/1.1\r\nHost: x\r\n" + b"X-A: %s\r\n" % (b"a" * 1000) * 1000
        answer = exchange(server, head)
        assert status(answer) == 431
        assert b"connection: close" in answer

    def test_a_megabyte_in_one_header(self, server, exchange):
        assert status(exchange(server, b"POST / HTTP/1.1\r\nX-A: " + b"a" * 2**20)) == 431

    def test_a_megabyte_of_url(self, server, exchange):
        assert status(exchange(server, b"POST /" + b"a" * 2**20)) == 431

    def test_many_small_headers(self, server, exchange):
        assert status(exchange(server, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n")) == 431

    def test_as_many_headers_as_allowed(self, server, exchange):
        assert status(exchange(server, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 99 + CLOSE)) == 200

    def test_endless_headers_in_small_pieces_are_cut(self, server):
        sent = 0
        with server.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            with pytest.raises(OSError):
                while sent < 2**26:
                    sent += connection.send(b"X: " + b"a" * 4093)
        assert sent < 2**26

    def test_a_large_body_before_a_second_head_is_not_counted_as_head(self, server, exchange):
        requests = post(body=b"a" * 300_000, close=False) + post(body=b"b")
        answer = exchange(server, requests)
        assert answer.count(b"HTTP/1.1 200") == 2


class TestStalls:
    def test_fifty_silent_clients_disturb_nobody_and_are_closed(self, serve, exchange):
        with serve(header_timeout_s=3) as server:
            silent = [server.connect() for _ in range(25)]
            begun = [server.connect() for _ in range(25)]
            for connection in begun:
                connection.sendall(b"POST / HTTP/1.1\r\nHost:")
            before = time.monotonic()
            for _ in range(20):
                assert status(exchange(server, post())) == 200
            assert time.monotonic() - before < 2.9
            assert [connection.recv(100) for connection in silent] == [b""] * 25
            assert [status(connection.recv(200)) for connection in begun] == [408] * 25
            for connection in (*silent, *begun):
                connection.close()

    def test_a_head_that_drips_is_cut_at_the_deadline(self, serve):
        with serve(header_timeout_s=0.5) as server, server.connect() as connection:
            before = time.monotonic()
            connection.settimeout(0.05)
            answer = b""
            for byte in b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 100:
                connection.send(bytes([byte]))
                try:
                    answer = connection.recv(100)
                    break
                except TimeoutError:
                    continue
            assert status(answer) == 408
            assert time.monotonic() - before < 2

    def test_blank_lines_do_not_hold_an_idle_connection(self, serve):
        with serve(keep_alive_s=0.4) as server, server.connect() as connection:
            connection.sendall(post(close=False))
            receive(connection, b"hello")
            before = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - before < 5:
                    connection.sendall(b"\r\n")
                    time.sleep(0.05)
            assert time.monotonic() - before < 2

    def test_keep_alive_ends(self, serve):
        with serve(keep_alive_s=0.2) as server, server.connect() as connection:
            connection.sendall(post(close=False))
            receive(connection, b"hello")
            assert connection.recv(1000) == b""

    def test_second_head_on_a_kept_connection_has_its_deadline(self, serve):
        with serve(header_timeout_s=0.3, keep_alive_s=30) as server, server.connect() as connection:
            connection.sendall(post(close=False))
            receive(connection, b"hello")
            connection.sendall(b"POST / HT")
            assert status(connection.recv(1000)) == 408

    def test_a_client_that_does_not_read_its_answer_is_cut(self, serve):
        with serve(answer_timeout_s=0.5) as server, server.connect() as connection:
            connection.sendall(b"GET /pour HTTP/1.1\r\n\r\n")
            server.wait_for(lambda: server.app.seen == ["lost"])

    def test_a_slow_reader_is_not_cut(self, serve):
        with serve(answer_timeout_s=0.4) as server, server.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /pour HTTP/1.1\r\n\r\n")
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                assert connection.recv(2**17)
                time.sleep(0.02)
            assert server.app.seen == []

    def test_connections_beyond_the_bound_wait(self, serve, exchange):
        with serve(max_connections=3, header_timeout_s=0.5) as server:
            silent = [server.connect() for _ in range(3)]
            before = time.monotonic()
            assert status(exchange(server, post())) == 200
            assert time.monotonic() - before > 0.2
            for connection in silent:
                connection.close()

    def test_requests_beyond_the_bound_are_told_so(self, serve, exchange):
        with serve(max_concurrent_requests=1) as server, server.connect() as slow:
            slow.sendall(post("/slow"))
            time.sleep(0.1)
            answer = exchange(server, post())
            assert status(answer) == 503
            assert b"retry-after: 1" in answer
            assert status(slow.recv(1000)) == 200
            assert status(exchange(server, post())) == 200


class TestEarlyAnswer:
    def test_the_client_sees_the_answer_though_it_goes_on_sending(self, server, read_to_end):
        with server.connect() as connection:
            connection.sendall(b"POST /forbidden HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
            for _ in range(100):
                connection.sendall(bytes(80_000))
            answer = read_to_end(connection)
        assert status(answer) == 401
        assert b"connection: close" in answer

    def test_what_follows_is_not_read_without_end(self, server):
        sent = 0
        with server.connect() as connection:
            connection.sendall(b"POST /forbidden HTTP/1.1\r\nHost: x\r\nContent-Length: 800000000\r\n\r\n")
            with pytest.raises(OSError):
                while sent < 2**28:
                    sent += connection.send(bytes(2**20))
        assert sent < 2**27


class TestEnding:
    def test_running_requests_finish_idle_connections_close(self, serve, read_to_end):
        with serve() as server, server.connect() as idle, server.connect() as busy:
            idle.sendall(post(close=False))
            receive(idle, b"hello")
            busy.sendall(post("/slow", close=False))
            time.sleep(0.1)
            server.stop(wait=False)
            assert idle.recv(1000) == b""
            answer = read_to_end(busy)
            assert body(answer) == b"slow"
            server.stop()
            with pytest.raises(ConnectionRefusedError):
                server.connect()

    def test_the_drain_is_bounded(self, serve):
        with serve(drain_s=0.3) as server, server.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            time.sleep(0.1)
            before = time.monotonic()
            server.stop()
            assert time.monotonic() - before < 3

    @pytest.mark.parametrize("turns", range(8))
    def test_a_connection_that_comes_with_the_stop_is_answered_or_never_begun(self, turns):
        """Whatever turn of the loop the stop hits: what the application has seen is answered, and nothing hangs."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(_stopped_after(turns)) in {(0, b""), (1, b"answered")}


async def _stopped_after(turns):
    """How many requests began, and what the client got, when the stop came so many turns after its connection."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"answered"})

    stop, started = asyncio.Event(), asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        limits = LimitSettings(drain_s=30)
        serving = asyncio.create_task(
            serve_http(app, [listener], limits=limits, tls=None, stop=stop, started=started.set)
        )
        await started.wait()
        await asyncio.sleep(0.01)
        with socket.create_connection(listener.getsockname(), timeout=5) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
            for _ in range(turns):
                await asyncio.sleep(0)
            stop.set()
            async with asyncio.timeout(5):
                await serving
            try:
                return len(seen), client.recv(1000).rpartition(b"\r\n")[2]
            except ConnectionResetError:
                return len(seen), b""


def test_a_worker_with_few_connections_takes_the_next_ones():
    """Without it who is told first takes them, be it a worker that has all the others already."""
    taken = [set(), set()]
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def connect(count):
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=10))
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
                time.sleep(0.01)

        workers = [Worker(listener, taken[0])]
        try:
            connect(30)
            workers.append(Worker(listener, taken[1]))
            connect(12)
        finally:
            for worker in workers:
                worker.end()
    assert len(taken[0]) + len(taken[1]) == 42
    assert len(taken[1]) >= 10


class Worker:
    """A loop of its own on a socket that it shares; ``taken`` gets the ports of its clients."""

    def __init__(self, listener, taken):
        self._listener, self._taken, started = listener.dup(), taken, threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),))
        self._thread.start()
        assert started.wait(10)

    async def _serve(self, started):
        async def app(scope, receive, send):
            self._taken.add(scope["client"])
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        serving = {"limits": LimitSettings(drain_s=1), "tls": None, "stop": self._stop, "started": started.set}
        await serve_http(app, [self._listener], shared=True, **serving)

    def end(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


class TestPlaintext:
    def test_loopback_may_be_plain(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            check_plaintext([listener])

    def test_other_addresses_may_not(self):
        with socket.create_server(("0.0.0.0", 0)) as listener:
            with pytest.raises(PlaintextRefused, match=r"0\.0\.0\.0 port \d+ would be served without TLS"):
                asyncio.run(
                    serve_http(
                        None,
                        [listener],
                        limits=LimitSettings(),
                        tls=None,
                        stop=asyncio.Event(),
                        started=threading.Event,
                    )
                )
