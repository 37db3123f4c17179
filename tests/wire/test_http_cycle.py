"""The connection as handlers of a request see it; the rest of the cycle is tested over sockets in test_http_server."""

import pytest

from wire.http_cycle import Connection


class ClosedSocket:
    """A socket of uvloop (ValueError) or asyncio (OSError) once the peer is gone and its descriptor is -1."""

    def __init__(self, error):
        self._error = error

    def fileno(self):
        return -1

    def setsockopt(self, *_arguments):
        raise self._error


class Transport:
    def __init__(self, raw):
        self._raw = raw
        self.aborted = False

    def get_extra_info(self, name):
        return self._raw if name == "socket" else None

    def get_write_buffer_size(self):
        return 7

    def is_closing(self):
        return False

    def abort(self):
        self.aborted = True


@pytest.mark.parametrize("error", [ValueError("negative file descriptor"), OSError(9, "Bad file descriptor")])
def test_a_connection_that_is_gone_already_can_be_aborted_and_asked(error):
    transport = Transport(ClosedSocket(error))
    connection = Connection(transport)
    assert connection.unsent_bytes == 7
    connection.abort()
    assert transport.aborted
