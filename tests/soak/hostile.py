"""Hostile octets into the syslog receiver until so many were sent: alive, bounded memory, everything stored or counted.

The audit service is the real one, over mutual TLS and UDP. Some senders work side by side; each draws what it does from
its own seed: good records, records with flipped octets, random messages, wrong frames, long ones, lines, repeats, broken
and slow connections, no TLS at all, random datagrams. What must become of each stream is told by the framer itself, fed
in one piece; that it gives the same in any pieces is proven where the framer is tested.
"""

import random
import re
import socket
import struct
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.request import urlopen

from atna.iti20_record_audit_event import encode_frame
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from bench.transfer import peaks
from tests.atna.conftest import Writer
from tests.certificates import issue
from tests.soak.server import serving
from tests.syslog_sender import SyslogSender, tls_context
from wire.syslog_framing import Framer, Whole

__all__ = ["HostilePlan", "HostileReport", "feed"]

MAX_RECORD_BYTES = 8192
STREAM_BYTES = 16_000
"""One TLS record: such a stream arrives in one piece."""
MIB = 2**20
OWN = re.compile(rb"<8[45]>1 \S+Z (?!host )\S+ dossier-(audit|registry|repository|gateway) \d+-[0-9a-f]{12} IHE")
"""What the services record of themselves."""
RST = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class HostilePlan:
    """``octets``: sent by all senders together; ``growth_bytes``: memory the worker may take beyond its idle state."""

    seed: int = 1
    octets: int = 10_000_000
    threads: int = 8
    growth_bytes: int = 96 * MIB
    settle_s: float = 60


@dataclass
class HostileReport:
    """What came of it; ``done`` counts streams by kind."""

    seed: int
    octets: int = 0
    seconds: float = 0
    done: Counter = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    rows: int = 0
    idle_bytes: int = 0
    peak_bytes: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self):
        """For people."""
        yield f"seed {self.seed}, {self.octets:,} octets in {self.seconds:.0f} s"
        yield f"streams {sum(self.done.values())}: " + ", ".join(f"{k} {n}" for k, n in sorted(self.done.items()))
        yield "metrics: " + ", ".join(f"{name} {value:.0f}" for name, value in sorted(self.figures.items()))
        yield f"records of others {self.rows}; memory {self.idle_bytes / MIB:.0f} MiB idle, {self.peak_bytes / MIB:.0f} at most"
        yield f"violations {len(self.violations)}"
        yield from self.violations[:40]


@dataclass
class Sent:
    """What has to be there: each message as often as it was sent; what may be there, whole or in part."""

    certain: Counter = field(default_factory=Counter)
    perhaps: list[bytes] = field(default_factory=list)
    octets: int = 0


class Attacker(threading.Thread):
    """One sender after the other, until its share of the octets is sent."""

    def __init__(self, ports, context, seed, share, report):
        super().__init__(daemon=True)
        self.ports, self.context, self.share, self.report = ports, context, share, report
        self.rng = random.Random(seed)
        self.writer = Writer()
        self.sent = Sent()
        self.before = [self.record()]

    def run(self):
        kinds = list(KINDS)
        self.rng.shuffle(kinds)
        while self.sent.octets < self.share or kinds:
            kind = kinds.pop() if kinds else self.rng.choice(KINDS)
            try:
                getattr(self, kind)()
            except Exception:
                self.report.violations.append(f"{kind}: {traceback.format_exc(limit=3)}")
                return
            self.report.done[kind] += 1

    # --------------------------------------------------------------------------------------------------- messages

    def record(self):
        return self.writer.query(
            f"p{self.rng.randrange(1000)}", request=self.rng.randbytes(self.rng.randrange(400)).hex().encode()
        )

    def noise(self, most=600):
        return self.rng.randbytes(self.rng.randrange(1, most))

    def flipped(self, octets, most=8):
        changed = bytearray(octets)
        for _ in range(self.rng.randrange(1, most)):
            changed[self.rng.randrange(len(changed))] = self.rng.randrange(256)
        return bytes(changed)

    # ---------------------------------------------------------------------------------------------------- streams

    def deliver(self, stream, *, end=True):
        """Over TLS in one record; what the framer makes of it is certain."""
        assert len(stream) <= STREAM_BYTES
        framer = Framer(MAX_RECORD_BYTES)
        pieces = framer.feed(stream)
        whole = not framer.lost and not framer.cut
        rest = framer.end()
        self.expect(*pieces, *([rest] if rest else []))
        with SyslogSender(self.ports[0], self.context) as sender:
            with suppress(OSError):  # a lost stream is broken while we still write
                sender.write(stream)
            self.sent.octets += len(stream)
            confirmed = sender.end() if end else None
        if end and confirmed is not whole:
            self.report.violations.append(f"confirmed {confirmed}, whole {whole}: {stream[:60]!r}")

    def expect(self, *pieces):
        self.sent.certain.update(piece.message for piece in pieces)
        for piece in pieces:
            if piece.whole is Whole.YES:
                self.before = [*self.before[-20:], piece.message]

    def stream(self, *messages):
        octets = b"".join(encode_frame(message) for message in messages)
        return octets[:STREAM_BYTES]

    def good(self):
        self.deliver(self.stream(*(self.record() for _ in range(5))))

    def flipped_messages(self):
        self.deliver(self.stream(*(self.flipped(self.record()) for _ in range(5))))

    def random_messages(self):
        self.deliver(self.stream(*(self.noise() for _ in range(self.rng.randrange(1, 20)))))

    def flipped_stream(self):
        self.deliver(self.flipped(self.stream(*(self.record() for _ in range(5)))))

    def random_stream(self):
        self.deliver(self.noise(STREAM_BYTES))

    def wrong_count(self):
        frame = b"%d %b" % (self.rng.randrange(1, 3000), self.record())
        self.deliver((self.stream(self.record()) + frame + self.stream(self.record()))[:STREAM_BYTES])

    def too_long(self):
        long = self.record() + self.rng.randbytes(MAX_RECORD_BYTES)
        self.deliver(self.stream(long, self.record()))

    def lines(self):
        self.deliver(b"\n".join([self.record(), b"<" + self.noise().replace(b"\n", b""), b"", self.record()]))

    def repeats(self):
        self.deliver(self.stream(*self.rng.choices(self.before, k=4)))

    def slow(self):
        """A message that never gets its last octets: broken when its time is up, what came is kept."""
        head = self.record()[: self.rng.randrange(5, 300)]
        self.sent.certain[head] += 1
        with SyslogSender(self.ports[0], self.context) as sender:
            sender.write(b"4000")
            sender.write(b" " + head)
            self.sent.octets += 5 + len(head)
            if not sender.broken():
                self.report.violations.append("a message that was never whole ended in order")

    def aborted(self):
        """A RST in the middle: whether it arrives nobody knows. The fragment is so long that no other is equal to it."""
        messages = [self.record() for _ in range(self.rng.randrange(1, 5))]
        self.sent.perhaps += messages
        stream = self.stream(*messages)
        with SyslogSender(self.ports[0], self.context) as sender:
            sender.write(stream[: -self.rng.randrange(1, len(messages[-1]) - 200)])
            self.sent.octets += len(stream)
            sender.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)

    def no_tls(self):
        """Random octets where a handshake is expected."""
        with socket.create_connection(("127.0.0.1", self.ports[0]), timeout=20) as plain, suppress(OSError):
            noise = self.noise(3000)
            plain.sendall(self.rng.choice([b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n"]) + noise)
            self.sent.octets += len(noise)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(100)

    def violated_tls(self):
        """A good record, then octets that are no TLS."""
        good = self.record()
        self.sent.certain[good] += 1
        with SyslogSender(self.ports[0], self.context) as sender:
            sender.send(good)
            with socket.socket(fileno=sender.socket.detach()) as plain, suppress(OSError):
                plain.settimeout(20)
                plain.sendall(b"\x17\x03\x03\x01\x00" + self.rng.randbytes(500))
                self.sent.octets += len(good) + 500
                plain.recv(100)

    def datagrams(self):
        messages = [
            self.record(),
            self.noise(),
            self.flipped(self.record()),
            self.record() + self.rng.randbytes(9000),
            b"",
        ]
        messages.append(self.rng.choice(self.before))
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for message in messages:
                sock.sendto(message, ("127.0.0.1", self.ports[1]))
                self.sent.octets += len(message)
                self.sent.certain[message[:MAX_RECORD_BYTES]] += 1
                time.sleep(0.002)  # nobody slows a sender of datagrams down


KINDS = (
    "good", "flipped_messages", "random_messages", "flipped_stream", "random_stream", "wrong_count", "too_long", "lines",
    "repeats", "slow", "aborted", "no_tls", "violated_tls", "datagrams",
)  # fmt: skip


def feed(plan, data, say=lambda text: None):
    """Run the plan in the empty directory ``data``."""
    report = HostileReport(plan.seed)
    certs = data / "certs"
    certs.mkdir()
    issue(certs)
    with serving(data, **_settings(certs)) as server:
        pid = server.pid("audit-1")
        ports = server.base_port + 41, server.base_port + 42
        context = tls_context(certs, "client")
        share = plan.octets // plan.threads
        attackers = [Attacker(ports, context, f"{plan.seed}:{number}", share, report) for number in range(plan.threads)]
        with peaks([pid]) as peak:
            report.idle_bytes = peak()[0]
            began = time.monotonic()
            for attacker in attackers:
                attacker.start()
            _wait(attackers, say)
            report.seconds = time.monotonic() - began
            figures = report.figures = _settled(server, plan.settle_s)
            report.peak_bytes = peak()[0]
        if server.pid("audit-1") != pid:
            report.violations.append("the worker died")
        store = RecordStore.open(f"sqlite:///{data}/audit.db")
        kept = [one.message for one in store.find(Criteria(), limit=10**9)]
        if not store.verify_chain().holds:
            report.violations.append("the chain does not hold")
        store.close()
        report.violations += [f"traceback: {line}" for line in server.tracebacks()]
    report.octets = sum(attacker.sent.octets for attacker in attackers)
    _judge(plan, report, [attacker.sent for attacker in attackers], kept, figures)
    return report


def _settings(certs):
    return {
        "TLS__CERTIFICATE": str(certs / "server.crt"),
        "TLS__KEY": str(certs / "server.key"),
        "TLS__CA": str(certs / "ca.crt"),
        "AUDIT__MAX_RECORD_BYTES": str(MAX_RECORD_BYTES),
        "AUDIT__SYSLOG_MESSAGE_TIMEOUT_S": "2",
        "AUDIT__SYSLOG_MAX_WAITING_BYTES": str(8 * MIB),
    }


def _wait(attackers, say):
    next_word = time.monotonic() + 30
    while any(attacker.is_alive() for attacker in attackers):
        time.sleep(0.1)
        if time.monotonic() > next_word:
            say(f"{sum(attacker.sent.octets for attacker in attackers):,} octets sent")
            next_word += 30


def _settled(server, settle_s):
    """The metrics, once nothing is on its way any more."""
    deadline = time.monotonic() + settle_s
    while True:
        with urlopen(f"http://127.0.0.1:{server.base_port + 49}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        figures = Counter()
        for name, value in re.findall(r"^dossier_syslog_(\w+?)(?:_total)?(?:\{.*\})? (\S+)$", text, re.MULTILINE):
            figures[name] += float(value)
        quiet = not figures["connections"] and not figures["waiting_bytes"]
        if (quiet and figures["received"] == figures["stored"] + figures["repeated"]) or time.monotonic() > deadline:
            return dict(figures)
        time.sleep(0.2)


def _judge(plan, report, sent, kept, figures):
    """To the record."""
    found = report.violations
    certain = sum((one.certain for one in sent), Counter())
    perhaps = [message for one in sent for message in one.perhaps]
    others = Counter(message for message in kept if message in certain or not OWN.match(message))
    report.rows = sum(others.values())
    lost = [message for message in certain if message not in others]
    found += [f"not there: {message[:80]!r}" for message in lost]
    found += [f"{count} times: {message[:80]!r}" for message, count in others.items() if count > 1]
    strange = [message for message in others if message not in certain and not _part_of(message, perhaps)]
    found += [f"never sent: {message[:80]!r}" for message in strange]
    uncertain = sum(1 for message in others if message not in certain)
    if figures["received"] != sum(certain.values()) + uncertain:
        found.append(f"received {figures['received']:.0f}, sent {sum(certain.values())} and {uncertain} perhaps")
    if figures["stored"] != report.rows:
        found.append(f"stored {figures['stored']:.0f}, there are {report.rows}")
    if figures["received"] != figures["stored"] + figures["repeated"]:
        found.append("received are not as many as stored and repeated")
    if figures.get("udp_lost"):
        found.append(f"{figures['udp_lost']:.0f} datagrams were lost by the kernel")
    if report.peak_bytes - report.idle_bytes > plan.growth_bytes:
        found.append(f"memory grew by {(report.peak_bytes - report.idle_bytes) / MIB:.0f} MiB")


def _part_of(message, whole):
    return any(one.startswith(message) for one in whole)
