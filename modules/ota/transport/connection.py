"""A socket that never blocks, with a small buffer in front of it, deadlines, and a count of the bytes.

Every wait is a yield: see iot_platform.sockets. Failures are OtaErrors of kind transport.
"""

from iot_platform import sockets
from iot_platform.sockets import SOON, ticks_diff, ticks_ms

from .. import phases
from ..errors import OtaError
from .urls import bad

LINE = 1024  # the size of the buffer, which a longer line passes in pieces


class Connection:
    """One connection after the other; each is kept until the server closes it, or another origin is wanted."""

    def __init__(self, kept=None):
        """:param kept: what detach() of an earlier one has returned: this one goes on with that."""
        self._raw = phases.buffers[2] if phases.buffers else bytearray(LINE)
        self.view = memoryview(self._raw)
        self._start = self._end = 0  # what is in the buffer and not yet taken
        self.sock, self.origin = kept or (None, None)
        self.phase = "connect"  # the reason that a failure has
        self.wire_in = self.wire_out = 0  # since ever

    def limit(self, idle_ms, total_ms):
        """From now on a single wait may take `idle_ms`, and all of them together `total_ms`."""
        self.idle_ms = idle_ms
        self.total_ms = total_ms
        self._since = ticks_ms()

    def open(self, origin, ca):
        """Connect to ``(scheme, host, port)``. Generator; True when the connection was there already."""
        if self.sock and self.origin == origin:
            return True
        self.close()
        scheme, host, port = origin
        self.phase = "connect"
        self.sock = yield from sockets.reach(host, port, self.check, OtaError)
        self.origin = origin
        if scheme == "https":
            self.phase = "tls"
            self.sock = sockets.secure(self.sock, host, ca, OtaError)
        return False

    def send(self, data):
        data = memoryview(data)
        write = getattr(self.sock, "write", None) or self.sock.send
        while data:
            n = yield from self.wait(write, data)
            self.wire_out += n
            data = data[n:]
        self.phase = "connection_lost"  # the first of it went out when TLS was there

    def take(self, view):
        """Bytes from the buffer, or else from the socket; their number, 0 at the end. Generator."""
        held = self._end - self._start
        if not held:
            return (yield from self._read(view))
        n = min(held, len(view))
        view[:n] = self.view[self._start : self._start + n]
        self._start += n
        return n

    def line(self, most, needed=None):
        """The next line without its end; OtaError when it has more than `most` bytes. Generator.

        :param needed: called with the beginning of a line that the buffer does not hold: False drops it, then it reads ``-:``.
        """
        line, passed = b"", 0
        while True:
            at = self._raw.find(b"\n", self._start, self._end)
            length = (self._end if at < 0 else at) - self._start
            if passed + length > most or (at < 0 and length == LINE and not needed):
                raise bad("a line is too long")
            if at >= 0:
                line += bytes(self.view[self._start : at])
                self._start = at + 1
                if line[-1:] != b"\r":  # a bare newline could also be the end of a chunk that is too short
                    raise bad("a line has no proper end")
                return line[:-1]
            if length == LINE:
                if not passed and not needed(self._raw):
                    line = b"-:"
                elif line != b"-:":
                    line += bytes(self.view[:-1])
                passed += LINE - 1
                self._raw[0] = self._raw[-1]  # half of its end, perhaps
                self._start, self._end = 0, 1
            yield from self._fill()

    def detach(self):
        """What another Connection goes on with, when there is something to go on with; None otherwise."""
        kept = (self.sock, self.origin) if self.sock and self._start == self._end else None
        if not kept:
            self.close()
        self.sock = None
        return kept

    def close(self):
        if self.sock:
            self.sock.close()
        self.sock = self.origin = None
        self._start = self._end = 0

    def _fill(self):
        held = self._end - self._start
        if self._start:
            self.view[:held] = bytes(self.view[self._start : self._end])
            self._start, self._end = 0, held
        n = yield from self._read(self.view[held:])
        if not n:
            raise OtaError("connection_lost", "the server closed the connection within its answer")
        self._end += n

    def _read(self, view):
        n, host = 0, self.origin[1]
        try:
            n = yield from self.wait(getattr(self.sock, "readinto", None) or self.sock.recv_into, view)
        finally:
            if not n:  # perhaps the server has moved
                sockets.names.pop(host, None)
        self.wire_in += n
        return n

    def wait(self, call, argument):
        """The result of a socket's method once it does not block any more. Generator."""
        since = ticks_ms()
        while True:
            self.check(since)
            n = sockets.attempt(call, argument, self.phase, OtaError)
            if n is not None:
                return n
            yield SOON

    def check(self, since):
        """OtaError when a wait that began at the ticks_ms `since`, or all of them together, took too long."""
        now = ticks_ms()
        if ticks_diff(now, since) > self.idle_ms:
            text = "not come to an end with TLS within" if self.phase == "tls" else "been silent for"
            raise OtaError("timeout", "the server has %s %d s" % (text, self.idle_ms // 1000))
        if ticks_diff(now, self._since) > self.total_ms:
            raise OtaError("timeout", "the server is too slow: given up after %d s" % (self.total_ms // 1000))
