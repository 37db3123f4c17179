"""Syslog into the store: the worker of the audit service on real sockets, TLS, plain TCP and UDP (ITI TF-2: 3.20)."""

import gc
import socket
import ssl
import threading
import time
import warnings
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from atna.record_repository import receiver
from atna.record_repository.app import worker
from atna.record_repository.indexing import index
from atna.record_repository.store.protocol import Criteria, StoreUnavailable
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.tables import metadata
from atna.settings import AuditSettings
from atna.store.engine import begin_write, open_engine
from tests.certificates import issue
from tests.postgres import restartable  # noqa: F401 - a fixture
from tests.syslog_sender import SyslogSender, datagram, frames, tls_context
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings


class Receiving:
    """A worker of the audit service in a thread, with all its listeners."""

    def __init__(self, url, tls=None, limits=None, **settings):
        self.sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in ("http", "syslog_tls")}
        self.sockets["syslog_udp"] = socket.socket(type=socket.SOCK_DGRAM)
        self.sockets["syslog_udp"].bind(("127.0.0.1", 0))
        self.port, self.udp = (self.sockets[name].getsockname()[1] for name in ("syslog_tls", "syslog_udp"))
        self.stop, ready = threading.Event(), threading.Event()
        arguments = {
            "audit": AuditSettings(database_url=url, **settings),
            "domain": AffinityDomainSettings(environment="test"),
            "tls": tls or TlsSettings(),
            "limits": LimitSettings(**{"threads": 4, "drain_s": 5} | (limits or {})),
            "sockets": self.sockets,
            "started": ready.set,
            "stop": self.stop,
        }
        self.thread = threading.Thread(target=worker, kwargs=arguments)
        self.thread.start()
        assert ready.wait(10)
        self.store = RecordStore.open(url)

    def kept(self, count):
        """Messages kept, as soon as there are so many; by their bytes, and whether they are readable."""
        return {one.message: one.readable for one in self.records(count)}

    def records(self, count):
        deadline = time.monotonic() + 20
        while True:
            found = self.store.find(Criteria(), limit=100_000)
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count, (len(found), count)
                return found
            time.sleep(0.02)

    def close(self):
        self.stop.set()
        self.thread.join(20)
        self.store.close()
        for one in self.sockets.values():
            one.close()
        assert not self.thread.is_alive()


def until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def metric(name, **labels):
    return REGISTRY.get_sample_value(f"dossier_syslog_{name}", labels) or 0


@pytest.fixture
def certs(tmp_path):
    folder = tmp_path / "certs"
    folder.mkdir()
    return issue(folder)


@pytest.fixture
def start(sqlite_url):
    running = []

    def begin(tls=None, **settings):
        running.append(Receiving(sqlite_url, tls, **{"max_record_bytes": 100_000} | settings))
        return running[-1]

    yield begin
    for one in running:
        one.close()


@pytest.fixture
def tls(certs):
    return TlsSettings(certificate=certs / "server.crt", key=certs / "server.key", ca=certs / "ca.crt")


@pytest.fixture
def secured(start, certs, tls):
    return start(tls), tls_context(certs, "client")


def test_an_end_in_order_is_answered_when_everything_is_kept(start, writer):
    service = start()
    messages = [writer.query(), writer.registration(), writer.query("p2")]
    with SyslogSender(service.port) as sender:
        sender.send(*messages)
        assert sender.end()
    assert service.kept(3) == dict.fromkeys(messages, True)


def test_over_tls_too_and_the_raw_message_is_untouched(secured, writer):
    service, context = secured
    head, _, xml = writer.query().partition(b" - <")
    messages = [head + b" - \xef\xbb\xbf<" + xml, writer.query().replace(b"IHE+RFC-3881", b"DICOM+RFC3881")]
    with SyslogSender(service.port, context) as sender:
        sender.send(*messages)
        assert sender.end()
    assert service.kept(2) == dict.fromkeys(messages, True)


@pytest.mark.parametrize("step", [1, 7, 100, 20_000])
def test_messages_split_over_tls_records_and_many_in_one(secured, writer, step):
    service, context = secured
    messages = [writer.query(f"p{number}", request=b"<q/>" * 300) for number in range(1 if step == 1 else 12)]
    stream = frames(*messages)
    with SyslogSender(service.port, context) as sender:
        for place in range(0, len(stream), step):
            sender.write(stream[place : place + step])
        assert sender.end()
    assert set(service.kept(len(messages))) == set(messages)


def test_tls_records_split_over_tcp_segments(secured, writer):
    """The octets of TLS itself arrive one by one."""
    service, context = secured
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname="localhost")
    message = writer.query()
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def speak(say):
            while True:
                try:
                    done = say()
                except ssl.SSLWantReadError:
                    done = None
                for octet in goes.read():
                    sock.sendall(bytes([octet]))
                if done is not None:
                    return
                came.write(sock.recv(65_536))

        speak(lambda: tls.do_handshake() or True)
        speak(lambda: tls.write(frames(message)))
        speak(lambda: tls.unwrap() or True)
    assert set(service.kept(1)) == {message}


def test_wrong_content_is_kept_and_flagged(start, writer):
    service = start()
    good = writer.query()
    strange = [
        b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick",
        good[: len(good) // 2],
        b"<85>1 2026-03-01T10:00:00Z host app 1 IHE+RFC-3881 - no XML",
        b"<85>1 2026-03-01T10:00:00Z host app 1 IHE+RFC-3881 - <Other/>",
        b"<85>1 2026-03-01T10:00:00Z host app 1 IHE+RFC-3881 - <!DOCTYPE a [<!ENTITY b 'c'>]><AuditMessage>&b;</AuditMessage>",
        bytes(range(256)) * 4,
        b"\x00",
        b" ",
    ]
    before = metric("unreadable_total", transport="tcp")
    with SyslogSender(service.port) as sender:
        sender.send(*strange[:4], good, *strange[4:])
        assert sender.end()
    assert service.kept(len(strange) + 1) == dict.fromkeys(strange, False) | {good: True}
    assert metric("unreadable_total", transport="tcp") == before + len(strange)


def test_a_count_that_cannot_be_read_ends_the_connection_and_what_came_is_kept(start, writer):
    service, good = start(), writer.query()
    before = metric("frames_broken_total", transport="tcp")
    with SyslogSender(service.port) as sender:
        sender.write(frames(good) + b"GET / HTTP/1.1\r\n\r\n")
        assert sender.broken()
    assert service.kept(2) == {good: True, b"GET / HTTP/1.1\r\n\r\n": False}
    assert metric("frames_broken_total", transport="tcp") == before + 1
    with SyslogSender(service.port) as sender:
        sender.send(writer.query())
        assert sender.end()


@pytest.mark.parametrize("end", ["in order", "broken"])
def test_a_message_that_is_not_whole_is_kept_and_never_confirmed(secured, writer, end):
    service, context = secured
    good, half = writer.query(), writer.query("p2")[:300]
    with SyslogSender(service.port, context) as sender:
        sender.write(frames(good) + b"2000 " + half)
        if end == "in order":
            assert not sender.end()
        else:
            sender.socket.close()
    assert service.kept(2) == {good: True, half: False}


def test_of_a_message_above_the_bound_the_first_part_is_kept(start, writer):
    service, after = start(), writer.query()
    before = metric("too_long_total", transport="tcp")
    long = writer.query(request=b"<q>" + b"x" * 200_000 + b"</q>")
    with SyslogSender(service.port) as sender:
        sender.send(long, after)
        assert sender.end()
    assert service.kept(2) == {long[:100_000]: False, after: True}
    assert metric("too_long_total", transport="tcp") == before + 1


def test_lines_are_taken_too(start, writer):
    service, messages = start(), [writer.query(), writer.query("p2")]
    with SyslogSender(service.port) as sender:
        sender.write(b"\n".join(messages) + b"\n")
        assert sender.end()
    assert service.kept(2) == dict.fromkeys(messages, True)


def test_a_repeat_is_one_record(start, writer):
    service, messages = start(), [writer.query(), writer.query("p2")]
    before = metric("repeated_total")
    for _ in range(3):
        with SyslogSender(service.port) as sender:
            sender.send(*messages, messages[0])
            assert sender.end()
    assert set(service.kept(2)) == set(messages)
    assert metric("repeated_total") == before + 7


def test_datagrams(start, writer):
    service, message = start(max_record_bytes=40_000), writer.query()
    long = writer.query("p2", request=b"x" * 45_000)
    assert len(long) < 65_000
    datagram(service.udp, message, b"<34>Oct 11 22:14:15 su: x", long[:1024], long, b"5 hello")
    strange = [b"<34>Oct 11 22:14:15 su: x", long[:1024], long[:40_000], b"5 hello"]
    assert service.kept(5) == {message: True} | dict.fromkeys(strange, False)


def test_many_connections_at_once_each_confirmed_for_its_own(secured, writer):
    service, context = secured
    batches = [[writer.query(f"p{number}") for _ in range(20)] for number in range(40)]
    confirmed = []

    def send(batch):
        with SyslogSender(service.port, context) as sender:
            for message in batch:
                sender.send(message)
            confirmed.append(sender.end())

    threads = [threading.Thread(target=send, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert confirmed == [True] * 40
    assert set(service.kept(800)) == {message for batch in batches for message in batch}


def test_nobody_without_a_certificate_and_the_attempt_is_recorded(start, tls, certs):
    service = start(tls, limits={"tls_handshake_timeout_s": 1})
    for context in (tls_context(certs, ""), tls_context(certs, "rogue")):
        with pytest.raises(OSError):
            with SyslogSender(service.port, context) as sender:
                sender.send(b"x")
                if sender.socket.recv(1) == b"":  # TLS 1.3 tells the refusal with the first read
                    raise ConnectionError("closed")
    with SyslogSender(service.port) as plain, SyslogSender(service.port) as silent:
        plain.write(b"5 plain")
        assert not plain.end()
        assert silent.broken()
    found = service.records(4)
    assert all(b"110126" in one.message for one in found)


def test_silence_and_drips_lose_the_connection_never_in_order(start):
    service = start(syslog_idle_timeout_s=0.3, syslog_message_timeout_s=0.5)
    with SyslogSender(service.port) as silent:
        assert silent.broken()
    with SyslogSender(service.port) as dripping:
        with pytest.raises(OSError):
            for _ in range(100):
                dripping.write(b"9")
                time.sleep(0.05)
                dripping.write(b"0000 x")
                time.sleep(0.05)
    (fragment,) = service.records(1)
    assert not fragment.readable


def test_more_connections_than_the_bound_wait(start, writer):
    service = start(syslog_max_connections=2)
    with SyslogSender(service.port) as first, SyslogSender(service.port) as second:
        first.send(writer.query())
        second.send(writer.query())
        service.records(2)
        with SyslogSender(service.port) as third:
            third.send(writer.query())
            time.sleep(0.3)
            assert len(service.records(2)) == 2
            assert first.end()
            assert third.end()
        assert second.end()
    assert len(service.records(3)) == 3


def test_huge_messages_that_drip_hold_up_no_small_ones(start, writer):
    service = start(max_record_bytes=2**20, syslog_max_waiting_bytes=2**20)
    with SyslogSender(service.port) as huge, SyslogSender(service.port) as waiting, SyslogSender(service.port) as small:
        huge.write(b"900000 " + b"x" * 100_000)
        until(lambda: metric("waiting_bytes") >= 900_000)
        waiting.write(b"900000 " + b"y" * 100_000)
        message = writer.query()
        small.send(message)
        assert small.end()
        assert set(service.kept(1)) == {message}
        huge.write(b"x" * 800_000)
        assert huge.end()
        waiting.write(b"y" * 800_000)
        assert waiting.end()
    assert {len(one.message) for one in service.records(3)} == {len(message), 900_000}


@pytest.fixture
def away(sqlite_url):
    """Has the database as it is when it is away: nobody else can write."""

    @contextmanager
    def lock():
        engine = open_engine(sqlite_url, metadata)
        with closing_engine(engine), begin_write(engine) as connection:
            connection.execute(text("SELECT 1"))
            yield

    return lock


@contextmanager
def closing_engine(engine):
    try:
        yield
    finally:
        engine.dispose()


def test_while_the_database_is_away_nothing_is_confirmed_and_nothing_is_lost(start, writer, away):
    service = start(syslog_confirm_timeout_s=1)
    first, second = writer.query(), writer.query("p2")
    with away():
        with SyslogSender(service.port) as sender:
            sender.send(first)
            assert not sender.end()
        with SyslogSender(service.port) as sender:
            sender.send(second)
            sender.socket.settimeout(0.5)
            with pytest.raises(TimeoutError):
                sender.socket.recv(1)
    with SyslogSender(service.port) as again:
        again.send(first)
        assert again.end()
    assert set(service.kept(2)) == {first, second}


def test_while_too_much_waits_nothing_more_is_read(start, writer, away):
    service = start(syslog_max_waiting_bytes=2**20)
    messages = [writer.query(f"p{number}", request=b"x" * 20_000) for number in range(300)]
    stream = frames(*messages)
    sent = []

    def send():
        with SyslogSender(service.port, timeout=60) as sender:
            for place in range(0, len(stream), 50_000):
                sender.write(stream[place : place + 50_000])
                sent.append(place)
            sent.append(sender.end())

    with away():
        thread = threading.Thread(target=send)
        thread.start()
        until(lambda: metric("waiting_bytes") > 100_000)
        time.sleep(1)
        stuck = len(sent)
        assert metric("waiting_bytes") <= 2**20
        time.sleep(0.5)
        assert len(sent) == stuck < len(stream) / 50_000 - 5
    thread.join()
    assert sent[-1] is True
    assert set(service.kept(300)) == set(messages)


def test_a_stop_keeps_what_has_arrived_and_ends_no_connection_in_order(sqlite_url, writer):
    service = Receiving(sqlite_url)
    messages = [writer.query(f"p{number}") for number in range(200)]
    try:
        with SyslogSender(service.port) as sender, SyslogSender(service.port) as idle:
            sender.send(*messages)
            datagram(service.udp, b"last words")
            until(lambda: metric("connections") == 2)
            service.stop.set()
            assert sender.broken()
            assert idle.broken()
        assert set(service.kept(201)) == {*messages, b"last words"}
    finally:
        service.close()


def test_a_stop_while_the_database_is_away_ends_in_time(sqlite_url, writer, away):
    service = Receiving(sqlite_url, limits={"drain_s": 1})
    before, came = metric("given_up_total"), metric("received_total", transport="tcp")
    with away():
        with SyslogSender(service.port) as sender:
            sender.send(writer.query())
            until(lambda: metric("received_total", transport="tcp") == came + 1)
            service.stop.set()
            assert sender.broken()
        service.thread.join(20)
        assert metric("given_up_total") == before + 1
    service.close()
    # Where a process would end, the thread that waited gives its connection back to a pool that is closed already.
    until(lambda: not any(one.name.startswith("syslog") for one in threading.enumerate()))
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
def picky(monkeypatch):
    """A database that cannot take some message."""
    keep = RecordStore.keep

    def refuse(store, batch, **more):
        if any(b"poison" in item.message for item in batch):
            raise StoreUnavailable("no")
        return keep(store, batch, **more)

    monkeypatch.setattr(RecordStore, "keep", refuse)


def test_a_message_the_database_cannot_take_holds_up_no_other(start, writer, picky):
    service, good = start(), [writer.query(), writer.query("p2")]
    before = metric("refused_total")
    with SyslogSender(service.port) as bad, SyslogSender(service.port) as other:
        bad.send(good[0], b"poison", good[1])
        later = writer.registration()
        other.send(later)
        assert other.end()
        assert not bad.end()
    assert set(service.kept(3)) == {*good, later}
    assert metric("refused_total") == before + 1


def test_a_message_alone_that_is_not_taken_is_tried_until_others_are(start, writer, picky):
    service, good = start(syslog_confirm_timeout_s=30), writer.query()
    with SyslogSender(service.port, timeout=30) as bad, SyslogSender(service.port, timeout=30) as other:
        bad.send(b"poison")
        time.sleep(0.3)
        other.send(good)
        assert other.end()
        assert not bad.end()
    assert set(service.kept(1)) == {good}


def test_datagrams_the_kernel_has_no_room_for_are_counted(start, away):
    service = start(syslog_max_waiting_bytes=2**20)
    before = metric("received_total", transport="udp")
    count = 4000
    with away():
        datagram(service.udp, *(b"%d %b" % (number, b"x" * 8000) for number in range(count)))
    datagram(service.udp, b"the last one brings the count")
    deadline = time.monotonic() + 60
    while (came := metric("received_total", transport="udp") - before) + metric("udp_lost") != count + 1:
        assert time.monotonic() < deadline, (came, metric("udp_lost"))
        time.sleep(0.05)
    assert 0 < metric("udp_lost") < count
    assert len(service.records(came)) == came


def test_on_postgresql_too_and_what_waits_comes_after_its_restart(restartable, writer):  # noqa: F811
    restartable.psql("CREATE DATABASE audit TEMPLATE template0 ENCODING 'UTF8'")
    service = Receiving(restartable.url("audit") + "&connect_timeout=2", syslog_confirm_timeout_s=30)
    try:
        messages = [writer.query(), b"\x00 no record", writer.registration()]
        with SyslogSender(service.port, timeout=40) as sender:
            sender.send(messages[0])
            assert sender.end()
        restartable.stop()
        with SyslogSender(service.port, timeout=40) as sender:
            sender.send(*messages)
            time.sleep(0.5)
            restartable.start()
            assert sender.end()
        assert set(service.kept(3)) == set(messages)
    finally:
        service.close()


def test_a_close_notify_is_answered_after_the_commit_alone(secured, writer, away):
    service, context = secured
    message, answered = writer.query(), []
    with SyslogSender(service.port, context) as sender:
        sender.send(message)
        with away():
            thread = threading.Thread(target=lambda: answered.append(sender.end()))
            thread.start()
            thread.join(1)
            assert answered == []
        thread.join()
    assert answered == [True]
    assert set(service.kept(1)) == {message}


def test_the_store_is_told_how_and_from_whom_each_record_came(secured, writer, monkeypatch):
    service, context = secured
    keep, told = RecordStore.keep, {}

    def listen(store, batch, *, via=""):
        origins = [via] * len(batch) if isinstance(via, str) else via
        told.update({item.message: one for item, one in zip(batch, origins, strict=True)})
        return keep(store, batch, via=via)

    monkeypatch.setattr(RecordStore, "keep", listen)
    whole, long, half = writer.query(), writer.query(request=b"x" * 100_000), writer.query("p2")[:200]
    datagram(service.udp, b"by UDP")
    with SyslogSender(service.port, context) as sender:
        sender.write(frames(whole, long) + b"500 " + half)
        assert not sender.end()
    service.records(4)
    assert told == {
        b"by UDP": "syslog+udp 127.0.0.1",
        whole: "syslog+tls CN=client,O=Hospital A",
        long[:100_000]: "syslog+tls,truncated CN=client,O=Hospital A",
        half: "syslog+tls,broken CN=client,O=Hospital A",
    }


def test_a_defect_of_ours_at_one_message_ends_nothing(start, writer, monkeypatch):
    service, good = start(), writer.query()
    before = metric("refused_total")

    def fail(message):
        if message == b"defect":
            raise RecursionError
        return index(message)

    monkeypatch.setattr(receiver, "index", fail)
    with SyslogSender(service.port) as bad, SyslogSender(service.port) as other:
        bad.send(b"defect")
        assert not bad.end()
        other.send(good)
        assert other.end()
    assert set(service.kept(1)) == {good}
    assert metric("refused_total") == before + 1
