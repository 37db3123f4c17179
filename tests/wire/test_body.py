"""wire.body: bounds of size, time and unpacking, over a real server; the unpacking alone against zlib."""

import asyncio
import gzip
import random
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.body import BodyDamaged, BodyEncodingUnknown, BodyReader, BodyTooLarge, ClientGone
from wire.settings import LimitSettings


def request(body, headers=b"", *, path=b"/echo", length=True):
    declared = b"Content-Length: %d\r\n" % len(body) if length else b""
    return b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s%s\r\n%s" % (path, declared, headers, body)


def status(answer):
    return int(answer.split(b" ", 2)[1])


class TestSize:
    def test_declared_too_large_is_refused_before_it_is_sent(self, serve, read_to_end):
        with serve(max_bytes=1000) as server, server.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
            answer = read_to_end(connection)
        assert status(answer) == 413
        assert b"100 Continue" not in answer
        assert b"connection: close" in answer
        assert b"larger than the 1000 bytes allowed" in answer

    def test_chunked_too_large_is_refused_while_it_is_sent(self, serve, read_to_end):
        with serve(max_bytes=100_000) as server, server.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(100):
                connection.sendall(b"2000\r\n" + bytes(0x2000) + b"\r\n")
            assert status(read_to_end(connection)) == 413

    def test_exactly_the_bound(self, serve, exchange):
        with serve(max_bytes=1000) as server:
            assert status(exchange(server, request(bytes(1000)))) == 200


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel does not tell peak memory")
class TestMemory:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_large_upload_passes_through(self, serve, read_to_end, chunked):
        block, count = bytes(2**20), 200
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (count * 2**20)
        with serve() as server, server.connect(60) as connection:
            connection.sendall(b"POST /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n\r\n" % framing)
            before = peak_bytes(reset=True)
            for _ in range(count):
                connection.sendall(b"100000\r\n" + block + b"\r\n" if chunked else block)
            if chunked:
                connection.sendall(b"0\r\n\r\n")
            assert read_to_end(connection).endswith(b"\r\n\r\n%d" % (count * 2**20))
        assert peak_bytes() - before < 16 * 2**20

    def test_a_client_faster_than_the_application_waits(self, serve):
        with serve() as server, server.connect() as connection:
            connection.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
            before = peak_bytes(reset=True)
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                for _ in range(100):
                    connection.sendall(bytes(2**20))
            assert peak_bytes() - before < 8 * 2**20


def peak_bytes(reset=False):
    """The process's highest resident size (since the last reset, where the kernel allows one)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class TestTime:
    def test_silence(self, serve, read_to_end):
        with serve(body_idle_timeout_s=0.3) as server, server.connect() as connection:
            connection.sendall(request(b"")[:-2].replace(b"Length: 0", b"Length: 10") + b"\r\nabc")
            before = time.monotonic()
            answer = read_to_end(connection)
            assert status(answer) == 408
            assert time.monotonic() - before < 2
            assert server.app.seen == ["BodyTimeout"]

    def test_dripping(self, serve):
        with serve(minimum_rate_bytes_per_s=1000, minimum_rate_grace_s=0.3) as server, server.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
            before = time.monotonic()
            with pytest.raises(OSError):
                while time.monotonic() - before < 20:
                    connection.sendall(b"a")
                    time.sleep(0.02)
            assert server.app.seen == ["BodyTimeout"]

    def test_a_slow_consumer_is_not_the_clients_fault(self):
        async def receive():
            return {"type": "http.request", "body": b"a", "more_body": True}

        async def main():
            limits = LimitSettings(minimum_rate_bytes_per_s=10, minimum_rate_grace_s=0.05)
            read = 0
            async for _ in BodyReader({"headers": []}, receive, max_bytes=10, limits=limits):
                await asyncio.sleep(0.05)
                read += 1
                if read == 5:
                    return

        asyncio.run(main())


class TestCompressed:
    @pytest.mark.parametrize(
        ("encoding", "pack"),
        [
            (b"gzip", gzip.compress),
            (b"X-GZIP", gzip.compress),
            (b"identity, gzip", gzip.compress),
            (b"deflate", zlib.compress),
            (b"deflate", lambda data: zlib.compress(data, wbits=-15)),
            (b"gzip", lambda data: gzip.compress(data[:5], mtime=0) + gzip.compress(data[5:], mtime=0)),
        ],
    )
    def test_unpacked(self, serve, exchange, encoding, pack):
        body = b"hello " * 100
        with serve() as server:
            answer = exchange(server, request(pack(body), b"Content-Encoding: " + encoding + b"\r\n"))
        assert status(answer) == 200
        assert answer.endswith(b"\r\n\r\n" + body)

    @pytest.mark.parametrize("encoding", [b"br", b"gzip, gzip", b"zstd"])
    def test_unknown(self, serve, exchange, encoding):
        with serve() as server:
            answer = exchange(server, request(b"x", b"Content-Encoding: " + encoding + b"\r\n"))
        assert status(answer) == 415

    @pytest.mark.parametrize(
        "body",
        [b"not gzip", gzip.compress(b"hello", mtime=0)[:-1], gzip.compress(b"hello", mtime=0)[:-4] + b"oops", b"\x1f"],
    )
    def test_damaged(self, serve, exchange, body):
        with serve() as server:
            answer = exchange(server, request(body, b"Content-Encoding: gzip\r\n"))
            assert status(answer) == 400
            assert server.app.seen == ["BodyDamaged"]

    def test_bomb_by_ratio(self, serve, exchange):
        bomb = gzip.compress(bytes(2**26))
        with serve() as server:
            answer = exchange(server, request(bomb, b"Content-Encoding: gzip\r\n", path=b"/count"))
        assert status(answer) == 413
        assert b"200 times its size" in answer

    def test_bomb_by_size(self, serve, exchange):
        with serve(max_bytes=1000) as server:
            answer = exchange(server, request(gzip.compress(bytes(1001)), b"Content-Encoding: gzip\r\n"))
        assert status(answer) == 413
        assert b"unpacks to more than the 1000 bytes" in answer


def read(pieces, encoding, **limits):
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    remaining = iter(messages)

    async def receive():
        return next(remaining)

    scope = {"headers": [(b"content-encoding", encoding)]}
    return asyncio.run(BodyReader(scope, receive, max_bytes=2**22, limits=LimitSettings(**limits)).read())


class TestInflater:
    @given(st.binary(max_size=300), st.sampled_from(["gzip", "zlib", "raw", "members"]), st.integers(1, 50))
    @settings(max_examples=60, deadline=None)
    def test_pieces_of_any_size(self, data, form, size):
        packed = {
            "gzip": gzip.compress(data, mtime=0),
            "zlib": zlib.compress(data),
            "raw": zlib.compress(data, wbits=-15),
            "members": gzip.compress(data, mtime=0) + gzip.compress(b"!", mtime=0),
        }[form]
        encoding = b"gzip" if form in {"gzip", "members"} else b"deflate"
        expected = data + b"!" if form == "members" else data
        pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
        assert read(pieces, encoding) == expected
        with pytest.raises(BodyDamaged):
            read([packed[:-1]], encoding)

    def test_large(self):
        data = random.Random(1).randbytes(2**21)
        assert read([zlib.compress(data)], b"deflate") == data

    def test_nothing_is_nothing(self):
        assert read([], b"gzip") == b""

    def test_bytes_behind_deflate(self):
        with pytest.raises(BodyDamaged):
            read([zlib.compress(b"a") + b"b"], b"deflate")

    def test_ratio_counts_beyond_the_first_mebibyte(self):
        packed = zlib.compress(bytes(2**20))
        assert len(read([packed], b"deflate", max_decompression_ratio=2)) == 2**20
        with pytest.raises(BodyTooLarge):
            read([zlib.compress(bytes(2**21))], b"deflate", max_decompression_ratio=2)


def test_a_disconnect_is_an_exception_of_its_own():
    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        asyncio.run(BodyReader({"headers": []}, receive, max_bytes=1, limits=LimitSettings()).read())


def test_the_encoding_is_judged_at_once():
    with pytest.raises(BodyEncodingUnknown):
        BodyReader({"headers": [(b"content-encoding", b"br")]}, None, max_bytes=1, limits=LimitSettings())
