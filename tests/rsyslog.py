"""A real rsyslogd for tests, in the foreground with a configuration and a folder of its own.

``running_rsyslog`` takes syslog over mutual TLS (imtcp, gtls, octet counting), writes each message as it came to a file,
and forwards each as RFC 5424 over mutual TLS, octet-counted (omfwd). Debian: rsyslog and rsyslog-gnutls.
"""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Rsyslog", "running_rsyslog"]

CONFIGURATION = """
global(workDirectory="{folder}" maxMessageSize="256k" parser.escapeControlCharactersOnReceive="off"
       net.enableDNS="off"
       DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="{certs}/ca.pem"
       DefaultNetstreamDriverCertFile="{certs}/{name}.pem" DefaultNetstreamDriverKeyFile="{certs}/{name}.key")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
template(name="asItCame" type="string" string="%rawmsg%\\n")
ruleset(name="received") {{
  action(type="omfile" file="{folder}/received" template="asItCame")
  action(type="omfwd" target="127.0.0.1" port="{forward_to}" protocol="tcp" TCP_Framing="octet-counted"
         template="RSYSLOG_SyslogProtocol23Format" StreamDriver="gtls" StreamDriverMode="1"
         StreamDriverAuthMode="x509/certvalid" action.resumeRetryCount="-1" action.resumeInterval="1")
}}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="received")
"""


class Rsyslog:
    """``port`` takes syslog; ``received`` is the file of what came."""

    def __init__(self, port, received):
        self.port = port
        self._received = received

    def received(self, count):
        """The messages that came, once there are so many."""
        deadline = time.monotonic() + 20
        while True:
            lines = self._received.read_bytes().splitlines() if self._received.exists() else []
            if len(lines) >= count or time.monotonic() > deadline:
                assert len(lines) == count, (len(lines), count)
                return lines
            time.sleep(0.05)


@contextmanager
def running_rsyslog(folder, certs, name, forward_to):
    """With the certificate ``name`` in ``certs``; skips where it is not installed."""
    program = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
    if program is None or not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        pytest.skip("rsyslog: rsyslogd with gnutls is not installed (Debian: rsyslog, rsyslog-gnutls)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file, log = folder / "rsyslog.conf", folder / "rsyslog.log"
    file.write_text(CONFIGURATION.format(folder=folder, certs=certs, name=name, port=port, forward_to=forward_to))
    command = [program, "-n", "-f", str(file), "-i", str(folder / "rsyslog.pid")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        _await_port(port, process, log)
        yield Rsyslog(port, folder / "received")
    finally:
        process.terminate()
        process.wait(20)


def _await_port(port, process, log):
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
