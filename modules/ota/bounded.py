"""Connections that give `requests` no more than a few seconds and a few KiB: they stand in for its `socket` module while it asks.

By itself it waits for each byte anew, after a redirect without any timeout, and keeps every header that is sent. Here connecting,
all redirects and the head of the answer have one deadline together, and the head a bound. Still it waits within its calls: the
look-up of the name comes on top, and so does what TLS computes. Below TLS a connection sees only what is encrypted: there the
bound counts that, with the certificates.
"""

import errno
import io
import socket
import time

from .errors import OtaError

_TOTAL_MS = 5_000  # less than the watchdog's 8 s
_MAX_REDIRECTS = 5
_HEAD = 4096  # bytes
_LINE = 1024
_ENCRYPTED = 16 * 1024
_CLOSE = 4  # what a stream's ioctl() is told then


class Sockets:
    """What `requests` uses of the module `socket`, for one request. `connection` is the last one it has opened."""

    SOCK_STREAM = socket.SOCK_STREAM

    def __init__(self):
        self.connection = None
        self._began = time.ticks_ms()
        self._hops = 0

    def getaddrinfo(self, *args):
        return socket.getaddrinfo(*args)

    def socket(self, *args):
        if self._hops > _MAX_REDIRECTS:
            raise OtaError("redirect", "more than %d redirects" % _MAX_REDIRECTS)
        self._hops += 1
        self.connection = _Connection(socket.socket(*args), self._began)
        return self.connection


class _Connection(io.IOBase):
    """A socket as `requests` uses it, or TLS in its place."""

    def __init__(self, sock, began):
        self._sock = sock
        self._began = began
        self._left = _ENCRYPTED  # bytes of the head; None when the body has begun

    def settimeout(self, _seconds):
        """There is a better one."""

    def setblocking(self, _flag):
        """The head has been read: from here on nothing waits, and the reader counts."""
        self._left = None

    def connect(self, address):
        self._sock.settimeout(max(self._ms_left(), 1) / 1000)
        self._sock.connect(address)
        self._sock.setblocking(False)

    def write(self, data):
        done = 0
        while done < len(data):
            n = self._do(self._sock.write, data[done:] if done else data)
            if n is None:
                return done or None
            done += n
        return done

    def readinto(self, buffer):
        n = self._do(self._sock.readinto, buffer)
        self._count(n)
        return n

    def readline(self):
        self._left = min(self._left, _HEAD)
        line = b""
        while line[-1:] != b"\n":
            part = self._do(self._sock.readline, _LINE)
            if not part:
                break
            self._count(len(part))
            line += part
            if len(line) > _LINE:
                raise OtaError("bad_response", "a line of the server's answer is too long")
        return line

    def ioctl(self, request, _argument):
        if request == _CLOSE:
            self.close()
        return 0

    def close(self):
        if self._sock:
            self._sock.close()
            self._sock = None

    def _do(self, call, argument):
        """The result of a method of the socket. OSError ETIMEDOUT at the deadline; None when the body has not come so far."""
        while True:
            result = call(argument)
            if result is not None or self._left is None:
                return result
            if self._ms_left() <= 0:
                raise OSError(errno.ETIMEDOUT, "the head of the answer has not come in time")
            time.sleep_ms(1)

    def _count(self, n):
        if self._left is not None:
            self._left -= n
            if self._left < 0:
                raise OtaError("bad_response", "the head of the server's answer is too long")

    def _ms_left(self):
        return _TOTAL_MS - time.ticks_diff(time.ticks_ms(), self._began)
