"""A syslog sender for tests: blocking, over TLS or plain TCP; ``end`` tells whether the receiver confirmed the end."""

import socket
import ssl
from contextlib import suppress

from atna.iti20_record_audit_event import encode_frame

__all__ = ["SyslogSender", "datagram", "frames", "tls_context"]


def frames(*messages):
    return b"".join(encode_frame(message) for message in messages)


def tls_context(certs, name, authority="ca.crt", suffix="crt"):
    """The context of a client ``name`` of ``tests.certificates``."""
    context = ssl.create_default_context(cafile=certs / authority)
    context.check_hostname = False
    if name:
        context.load_cert_chain(certs / f"{name}.{suffix}", certs / f"{name}.key")
    return context


def datagram(port, *messages):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        for message in messages:
            sock.sendto(message, ("127.0.0.1", port))


class SyslogSender:
    """One connection."""

    def __init__(self, port, context=None, *, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        if context is not None:
            try:
                self.socket = context.wrap_socket(self.socket, server_hostname="localhost", suppress_ragged_eofs=False)
            except BaseException:
                self.socket.close()
                raise
        self._secure = context is not None

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.socket.close()

    def send(self, *messages):
        self.socket.sendall(frames(*messages))

    def write(self, octets):
        self.socket.sendall(octets)

    def end(self):
        """End our side in order; whether the other side did the same."""
        try:
            if self._secure:
                self.socket.unwrap().close()
            else:
                self.socket.shutdown(socket.SHUT_WR)
                with suppress(TimeoutError):
                    return self.socket.recv(1) == b""
                return False
        except OSError:
            return False
        finally:
            self.socket.close()
        return True

    def broken(self):
        """Wait until the other side has broken the connection; False when it ended in order."""
        try:
            return self.socket.recv(1) == b"never"
        except OSError:
            return True
