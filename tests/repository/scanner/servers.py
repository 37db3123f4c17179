"""Scanners to ask: a real clamd with a signature of our own, a real c-icap before it, and a peer that plays a script."""

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.wire.soap_peer import eventually

MALWARE = b"DOSSIER-MALWARE-TEST-\x01\x02"
"""What the signature of ``clamd`` finds, anywhere in a document."""
NAME = "Dossier.Test.Signature.UNOFFICIAL"
STREAM_MAX = 8 * 2**20
MODULES = Path("/usr/lib/x86_64-linux-gnu/c_icap")


def program(name, package):
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return found


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(command, folder, answers):
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            assert eventually(answers, 20), (folder / "output").read_text()
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def clamd(folder, *more):
    """(address by TCP, path of the socket). It knows one signature, so it starts at once; ``more`` are settings."""
    found = program("clamd", "clamav-daemon")
    (folder / "signatures").mkdir(parents=True)
    (folder / "signatures" / "own.ndb").write_text(f"Dossier.Test.Signature:0:*:{MALWARE.hex()}\n")
    path, port = folder / "clamd.sock", free_port()
    lines = [
        f"LocalSocket {path}",
        f"TCPSocket {port}",
        "TCPAddr 127.0.0.1",
        f"DatabaseDirectory {folder}/signatures",
        f"TemporaryDirectory {folder}",
        "Foreground yes",
        f"StreamMaxLength {STREAM_MAX}",
        *more,
        *(["User root"] if os.geteuid() == 0 else []),
    ]
    (folder / "clamd.conf").write_text("\n".join([*lines, ""]))

    def answers():
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                peer.sendall(b"zPING\0")
                return peer.recv(10).startswith(b"PONG")
        except OSError:
            return False

    with running([found, "-c", str(folder / "clamd.conf")], folder, answers):
        yield f"clamd://127.0.0.1:{port}", path


@contextmanager
def c_icap(folder, clamd_socket):
    """Address of the host; its services are ``virus_scan`` and ``echo``."""
    found = program("c-icap", "c-icap")
    if not (MODULES / "virus_scan.so").exists():
        pytest.skip("c-icap has no virus_scan (Debian: libc-icap-mod-virus-scan)")
    port = free_port()
    folder.mkdir()
    lines = [
        f"PidFile {folder}/pid",
        f"CommandsSocket {folder}/ctl",
        "StartServers 1",
        "MaxServers 2",
        "MinSpareThreads 4",
        "MaxSpareThreads 8",
        "ThreadsPerChild 8",
        f"Port 127.0.0.1:{port}",
        f"TmpDir {folder}",
        f"ModulesDir {MODULES}",
        f"ServicesDir {MODULES}",
        "TemplateDir /usr/share/c_icap/templates/",
        "LoadMagicFile /etc/c-icap/c-icap.magic",
        f"ServerLog {folder}/log",
        "Service echo srv_echo.so",
        "Module common clamd_mod.so",
        f"clamd_mod.ClamdSocket {clamd_socket}",
        "Service virus_scan virus_scan.so",
        "virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GRAPHICS DOCUMENT",
        "virus_scan.StartSendPercentDataAfter 4096M",
        "virus_scan.MaxObjectSize 4096M",
        "virus_scan.DefaultEngine clamd",
    ]
    (folder / "c-icap.conf").write_text("\n".join([*lines, ""]))

    def answers():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    with running([found, "-N", "-f", str(folder / "c-icap.conf")], folder, answers):
        yield f"icap://127.0.0.1:{port}"


class Scripted:
    """Plays one function for each connection, given the socket; counts connections and keeps what it was sent.

    The last function is played again and again.
    """

    def __init__(self, *acts):
        self._acts = list(acts)
        self.heads, self.received = [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        threads = []
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            act = self._acts.pop(0) if len(self._acts) > 1 else self._acts[0]
            threads.append(threading.Thread(target=self._play, args=(act, peer), daemon=True))
            threads[-1].start()

    def _play(self, act, peer):
        with peer:
            self.heads.append(b"")
            with suppress(OSError):  # the other side went away: its test says whether it should
                act(peer, self)

    def read(self, peer, end):
        """Read until ``end`` comes; what came is the head of this connection."""
        data = b""
        while end not in data[-len(end) - 65536 :]:
            piece = peer.recv(65536)
            if not piece:
                break
            data += piece
            self.received += len(piece)
        self.heads[-1] = data[:2000]
        return data


def icap_options(methods="RESPMOD"):
    def act(peer, script):
        script.read(peer, b"\r\n\r\n")
        peer.sendall(
            f"ICAP/1.0 200 OK\r\nMethods: {methods}\r\nAllow: 204\r\nEncapsulated: null-body=0\r\n\r\n".encode()
        )

    return act


def icap_answer(answer):
    def act(peer, script):
        script.read(peer, b"\r\n0\r\n\r\n")
        peer.sendall(answer)

    return act


def clamd_answer(answer, end=bytes(4)):
    def act(peer, script):
        script.read(peer, end)
        peer.sendall(answer)

    return act


def silent(seconds):
    """Reads what it is sent and says nothing."""

    def act(peer, _script):
        peer.settimeout(seconds)
        until = time.monotonic() + seconds
        while time.monotonic() < until and peer.recv(65536):
            pass

    return act


def closing(peer, _script):
    peer.recv(1)
