"""The MLLP listener over real sockets: framing as peers get it wrong, bounds, TLS, stopping."""

import logging
import socket
import ssl
import threading
import time

import pytest

from ihe.xua import Caller
from tests.certificates import issue
from tests.feed_server import END, START, adt, ask, mllp_server, msa, read_frame
from wire.mllp import MllpLimits


def echo(message, _caller):
    return b"MSH|^~\\&|\rMSA|AA|" + message


@pytest.fixture
def served():
    with mllp_server(echo) as server:
        yield server


@pytest.fixture
def line(served):
    with served.connect() as connection:
        yield connection


def test_a_message_is_answered(line):
    assert ask(line, b"one") == b"MSH|^~\\&|\rMSA|AA|one"


def test_several_messages_on_one_connection_in_one_packet(line):
    line.sendall(b"".join(START + name + END for name in (b"a", b"b", b"c")))
    assert [read_frame(line)[-1:] for _ in range(3)] == [b"a", b"b", b"c"]


def test_a_thousand_messages_on_one_connection(line):
    for number in range(1000):
        assert ask(line, str(number).encode()).endswith(f"|{number}".encode())


def test_a_message_may_come_byte_by_byte(line):
    for byte in START + b"slow" + END:
        line.sendall(bytes([byte]))
        time.sleep(0.005)
    assert read_frame(line).endswith(b"|slow")


@pytest.mark.parametrize("between", [b"", b"\r", b"\r\n", b"\n\n", b"noise between frames", b"\x1c\r"])
def test_what_lies_between_frames_is_skipped(line, between):
    line.sendall(START + b"a" + END + between + START + b"b" + END)
    assert read_frame(line).endswith(b"|a")
    assert read_frame(line).endswith(b"|b")


def test_an_end_block_without_its_carriage_return(line):
    line.sendall(START + b"a\x1c")
    assert read_frame(line).endswith(b"|a")
    line.sendall(START + b"b\x1c" + START + b"c\x1c\n")
    assert [read_frame(line)[-1:] for _ in range(2)] == [b"b", b"c"]


def test_a_missing_end_block_is_seen_at_the_next_start_block_and_the_next_message_is_taken():
    seen = []

    def handler(message, _caller):
        seen.append(message)
        return echo(message, _caller)

    with mllp_server(handler) as server, server.connect() as line:
        line.sendall(START + adt(control="HALF") + START + b"whole" + END)
        code, control, text = msa(read_frame(line))
        assert (code, control) == ("AE", "HALF")
        assert "end block" in text
        assert read_frame(line).endswith(b"|whole")
    assert seen == [b"whole"]


def test_a_missing_end_block_is_seen_at_the_end_of_the_connection(line):
    line.sendall(START + adt(control="HALF"))
    line.shutdown(socket.SHUT_WR)
    assert msa(read_frame(line))[:2] == ("AE", "HALF")
    assert read_frame(line) == b""


def test_a_missing_end_block_is_seen_when_nothing_more_comes():
    with mllp_server(echo, limits=MllpLimits(message_timeout_s=0.3)) as server, server.connect() as line:
        line.sendall(START + adt(control="HALF"))
        assert msa(read_frame(line))[:2] == ("AE", "HALF")
        assert read_frame(line) == b""


def test_a_client_that_drips_loses_its_connection_and_holds_no_thread():
    limits = MllpLimits(message_timeout_s=0.5, threads=1)
    with mllp_server(echo, limits=limits) as server, server.connect() as slow, server.connect() as other:
        slow.sendall(START)
        began = time.monotonic()
        for _ in range(4):
            slow.sendall(b"x")
            assert ask(other, b"quick").endswith(b"|quick")
            time.sleep(0.05)
        assert msa(read_frame(slow))[0] == "AE"
        assert time.monotonic() - began < 5


def test_silence_ends_a_connection():
    with mllp_server(echo, limits=MllpLimits(idle_timeout_s=0.2)) as server, server.connect() as line:
        assert ask(line, b"a").endswith(b"|a")
        assert read_frame(line) == b""


def test_garbage_is_skipped_only_so_far(served):
    with served.connect() as line:
        line.sendall(b"GET / HTTP/1.1\r\n\r\n" + START + b"a" + END)
        assert read_frame(line).endswith(b"|a")
    with served.connect() as line:
        with pytest.raises(OSError):
            for _ in range(1000):
                line.sendall(b"x" * 4096)
                time.sleep(0.001)
    with served.connect() as line:
        assert ask(line, b"still there").endswith(b"|still there")


def test_a_message_that_is_too_long_is_refused_and_the_next_one_taken():
    with mllp_server(echo, limits=MllpLimits(max_message_bytes=10_000)) as server, server.connect() as line:
        code, control, text = msa(ask(line, adt(control="BIG", extra="OBX||" + "x" * 20_000)))
        assert (code, control) == ("AR", "BIG")
        assert "10000 bytes" in text
        assert ask(line, b"next").endswith(b"|next")
        assert ask(line, b"y" * 10_000).endswith(b"y")


def test_a_message_without_end_is_cut_off():
    with mllp_server(echo, limits=MllpLimits(max_message_bytes=10_000)) as server, server.connect() as line:
        with pytest.raises(OSError):
            line.sendall(START)
            for _ in range(10_000):
                line.sendall(b"x" * 4096)
        with server.connect() as other:
            assert ask(other, b"a").endswith(b"|a")


def test_parallel_connections_are_served_side_by_side():
    together = threading.Barrier(8)

    def handler(message, caller):
        together.wait(10)  # passes only when eight run at once
        return echo(message, caller)

    with mllp_server(handler, limits=MllpLimits(threads=8)) as server:
        lines = [server.connect() for _ in range(8)]
        for number, line in enumerate(lines):
            line.sendall(START + str(number).encode() + END)
        assert [read_frame(line)[-1:] for line in lines] == [str(number).encode() for number in range(8)]
        for line in lines:
            line.close()


def test_connections_over_the_bound_are_closed_and_room_comes_back():
    with mllp_server(echo, limits=MllpLimits(max_connections=2)) as server:
        first, second = server.connect(), server.connect()
        assert ask(first, b"a") and ask(second, b"b")
        with server.connect() as third:
            assert read_frame(third) == b""
        first.close()
        for _ in range(50):
            with server.connect() as again:
                try:
                    if ask(again, b"c"):
                        break
                except OSError:
                    pass
            time.sleep(0.05)
        else:
            pytest.fail("no room came back")
        second.close()


def test_our_own_defect_is_an_answer_without_a_trace(caplog):
    def handler(_message, _caller):
        raise RuntimeError("PAT1 is broken")

    with mllp_server(handler) as server, server.connect() as line, caplog.at_level(logging.CRITICAL):
        answer = ask(line, adt(control="M9"))
        code, control, text = msa(answer)
        assert (code, control) == ("AE", "M9")
        assert "internal error" in text
        assert b"PAT1" not in answer and b"Traceback" not in answer
        assert msa(ask(line, adt(control="M10")))[0] == "AE"


def test_a_peer_that_leaves_before_its_answer_disturbs_nobody():
    going = threading.Event()

    def handler(message, caller):
        going.wait(60)
        return echo(message, caller)

    with mllp_server(handler) as server:
        with server.connect() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            line.sendall(START + b"a" + END)
            time.sleep(0.1)
        going.set()
        with server.connect() as line:
            assert ask(line, b"b").endswith(b"|b")


def test_stopping_answers_what_is_being_handled_and_takes_nothing_more():
    entered, go_on, answers = threading.Event(), threading.Event(), []

    def handler(message, caller):
        entered.set()
        go_on.wait(10)
        return echo(message, caller)

    with mllp_server(handler) as server:
        busy, idle = server.connect(), server.connect()
        busy.sendall(START + b"last" + END + START + b"too late" + END)
        assert entered.wait(60)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert read_frame(idle) == b""
        go_on.set()
        answers.append(read_frame(busy))
        assert read_frame_or_reset(busy) == b""
        stopping.join(10)
        busy.close()
        idle.close()
    assert answers[0].endswith(b"|last")


def read_frame_or_reset(connection):
    try:
        return read_frame(connection)
    except ConnectionResetError:
        return b""


def test_a_handler_that_never_ends_does_not_keep_the_listener_from_stopping():
    entered, never = threading.Event(), threading.Event()

    def handler(message, caller):
        entered.set()
        never.wait(10)
        return echo(message, caller)

    with mllp_server(handler, limits=MllpLimits(drain_s=0.2)) as server:
        with server.connect() as line:
            line.sendall(START + b"a" + END)
            assert entered.wait(60)
            began = time.monotonic()
            server.loop.call_soon_threadsafe(server.ending.set)
            assert read_frame_or_reset(line) == b""
            assert time.monotonic() - began < 5
            never.set()


# ------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return issue(tmp_path_factory.mktemp("pki"))


def server_side(pki):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    context.load_verify_locations(pki / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_side(pki, name=None):
    context = ssl.create_default_context(cafile=pki / "ca.crt")
    if name:
        context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")
    return context


def test_the_caller_is_who_the_certificate_says(pki):
    callers = []

    def handler(message, caller):
        callers.append(caller)
        return echo(message, caller)

    with mllp_server(handler, tls=lambda: server_side(pki)) as server:
        with server.connect(client_side(pki, "client")) as line:
            assert ask(line, b"a").endswith(b"|a")
    (caller,) = callers
    assert caller.address == "127.0.0.1"
    assert caller.node == "CN=client,O=Hospital A"
    assert caller.fingerprint.startswith("sha256:") and len(caller.fingerprint) == 71


def test_without_tls_the_caller_is_its_address():
    callers = []
    with mllp_server(lambda message, caller: callers.append(caller) or message) as server, server.connect() as line:
        ask(line, b"a")
    assert callers == [Caller("127.0.0.1")]


@pytest.mark.parametrize("name", [None, "rogue"])
def test_a_peer_without_a_trusted_certificate_gets_no_connection(pki, name):
    with mllp_server(echo, tls=lambda: server_side(pki)) as server:
        try:  # with TLS 1.3 the client learns of it at its first read
            with server.connect(client_side(pki, name)) as line:
                assert ask(line, b"a") == b""
        except OSError:
            pass
        deadline = time.monotonic() + 5
        while not server.failed and time.monotonic() < deadline:
            time.sleep(0.02)
        ((address, port, reason),) = server.failed
        assert (address, port > 1023) == ("127.0.0.1", True)
        assert reason == ("no certificate" if name is None else "self-signed certificate that is not installed")
        with server.connect(client_side(pki, "client")) as line:
            assert ask(line, b"a").endswith(b"|a")


def test_plain_text_on_a_tls_port_and_a_stalled_handshake(pki):
    limits = MllpLimits(handshake_timeout_s=0.3)
    with mllp_server(echo, tls=lambda: server_side(pki), limits=limits) as server:
        with server.connect() as plain:
            plain.sendall(START + b"MSH|^~" + END)
            with pytest.raises(ConnectionError):
                while plain.recv(100):
                    pass
                raise ConnectionError
        with server.connect() as stalled:
            assert read_frame_or_reset(stalled) == b""
        deadline = time.monotonic() + 10
        while len(server.failed) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [reason for _address, _port, reason in server.failed] == ["no TLS was spoken", "time-out"]
