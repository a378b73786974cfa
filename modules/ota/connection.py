"""A socket that never blocks, with a small buffer in front of it, deadlines, and a count of the bytes.

Every wait is a yield, but for the name lookup: see iot_platform.sockets. Failures are OtaErrors of kind transport.
"""

from iot_platform.sockets import SOON, attempt, ticks_diff, ticks_ms

from .errors import OtaError

LINE = 1024  # the size of the buffer, and so the longest line


class Connection:
    """One connection after the other.

    :param buffer: a bytearray of LINE bytes.
    :param idle_ms: how long a single wait may take; `total_ms`: how long all of it may take, from now on.
    """

    def __init__(self, buffer, idle_ms, total_ms):
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._start = self._end = 0  # what is in the buffer and not yet taken
        self._idle_ms = idle_ms
        self._total_ms = total_ms
        self._began = ticks_ms()
        self._sock = None
        self._phase = "connect"  # the reason that a failure has
        self.wire_in = self.wire_out = 0

    def open(self, scheme, host, port, ca):
        """Connect to the first address that answers. Generator."""
        self._start = self._end = 0
        self._phase = "connect"
        self.close()
        self._sock = yield from _connect(host, port, self._check)
        if scheme == "https":
            self._phase = "tls"
            self._sock = _secure(self._sock, host, ca)

    def send(self, text):
        """Send all of it. Generator."""
        data = memoryview(text.encode())
        write = getattr(self._sock, "write", None) or self._sock.send
        while data:
            n = yield from self._do(write, data)
            self.wire_out += n
            data = data[n:]
        if self._phase == "connect":
            self._phase = "connection_lost"

    def take(self, view):
        """Bytes from the buffer, or else from the socket; their number, 0 at the end. Generator."""
        held = self._end - self._start
        if not held:
            return (yield from self._read(view))
        n = min(held, len(view))
        view[:n] = self._view[self._start : self._start + n]
        self._start += n
        return n

    def line(self, most):
        """The next line without its end; OtaError when it has more than `most` bytes. Generator."""
        while True:
            at = self._buffer.find(b"\n", self._start, self._end)
            length = (self._end if at < 0 else at) - self._start
            if length > most or (at < 0 and length == LINE):
                raise bad("a line is too long")
            if at >= 0:
                line = bytes(self._view[self._start : at])
                self._start = at + 1
                if line[-1:] != b"\r":  # a bare newline could also be the end of a chunk that is too short
                    raise bad("a line has no proper end")
                return line[:-1]
            yield from self._fill()

    def detach(self):
        """``(socket, bytes that were read and not taken, wire_in, wire_out)``: the connection belongs to the caller now."""
        sock, self._sock = self._sock, None
        return sock, bytes(self._view[self._start : self._end]), self.wire_in, self.wire_out

    def close(self):
        if self._sock:
            self._sock.close()
            self._sock = None

    def _fill(self):
        held = self._end - self._start
        if self._start:
            self._view[:held] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, held
        n = yield from self._read(self._view[held:])
        if not n:
            raise OtaError("connection_lost", "the server closed the connection within its answer")
        self._end += n

    def _read(self, view):
        n = yield from self._do(getattr(self._sock, "readinto", None) or self._sock.recv_into, view)
        self._phase = "connection_lost"
        self.wire_in += n
        return n

    def _do(self, call, argument):
        """The result of a socket's method once it does not block any more. Generator."""
        since = ticks_ms()
        while True:
            self._check(since)
            n = attempt(call, argument, self._phase, OtaError)
            if n is not None:
                return n
            yield SOON

    def _check(self, since):
        now = ticks_ms()
        if ticks_diff(now, since) > self._idle_ms:
            raise OtaError("timeout", "the server has been silent for %d s" % (self._idle_ms // 1000))
        if ticks_diff(now, self._began) > self._total_ms:
            raise OtaError("timeout", "the server is too slow: given up after %d s" % (self._total_ms // 1000))


def _connect(host, port, check):
    from iot_platform import sockets

    return (yield from sockets.connect(sockets.lookup(host, port, OtaError), check, OtaError))


def _secure(sock, host, ca):
    from iot_platform import sockets

    return sockets.secure(sock, host, ca, OtaError)


def bad(what):
    """The error for an answer that breaks HTTP's rules, or ours."""
    return OtaError("bad_response", "the server's answer is not understood: " + what)
