"""HTTP through `requests`, for the `latest` protocol, bounded.

By itself `requests` waits for each byte anew, after a redirect without any timeout, and keeps every header that is sent. So
while it asks it gets other sockets: looking up names, connecting, all redirects and the head of the answer have one deadline
together, and the head a bound. Still it waits within its calls, and what TLS computes comes on top. Below TLS a connection sees
only what is encrypted: there the bound counts that, with the certificates. Bodies are read without blocking. It follows redirects
by its own rules, token and all, so it gets none of the profile's headers.
"""

import errno
import hashlib
import io
import socket
import time

import ota_boot
from iot_platform import sockets
from micropython import const

from ..errors import OtaError
from ..install import files
from ..transport import http
from . import packages

_IDLE_MS = const(15_000)
_TOTAL_MS = const(900_000)
_LATEST_MS = const(60_000)
_MAX_LATEST = const(256)
_SPARE = const(4 * 4096)  # bytes of the disk that stay free
_LATE = (errno.ETIMEDOUT, errno.EINPROGRESS, errno.EAGAIN)  # the last two: what connecting says on some ports
_ANSWER_MS = const(5_000)  # less than the watchdog's 8 s
_MAX_REDIRECTS = const(5)
_HEAD = const(4096)  # bytes
_LINE = const(1024)
_TLS_HEAD = const(16 * 1024)
_CLOSE = const(4)  # what a stream's ioctl() is told then


def ask(ota):
    """What the server's `latest` says: bytes. Generator."""
    ota.warn("no channel file and no pinned key: using the unsigned `latest` protocol")
    response = Response(ota, ota.url("latest"), _LATEST_MS)
    try:
        if response.status != 200:
            raise response.error("latest")
        return (yield from response.read_all(_MAX_LATEST))
    finally:
        response.close()


def receive(ota, offer):
    """An archive to ``ota.archive``, hashed, within the announced size or else what fits on the disk. Generator.

    It is never resumed: the protocol may not even say which file it is.
    """
    need, free = files.blocks(offer["size"] or 0) * files.block_size() + 2 * _SPARE, files.free_bytes()
    if free < need:
        yield from ota.give_up_previous()
        free = files.free_bytes()
    if free < need:
        raise OtaError("no_space", "the download needs %d bytes, %d are free" % (need, free))
    response = Response(ota, ota.url(offer["file"]))
    try:
        if response.status != 200:
            raise response.error(offer["file"])
        announced = offer["size"] or response.content_length
        size, digest = yield from _write(ota, response, announced)
        if size < (announced or 1):
            raise OtaError("connection_lost", "the server sent only %d bytes" % size)
        if offer["sha256"] and files.hexdigest(digest) != offer["sha256"]:
            raise OtaError("bad_digest", "the download is not the file that was announced")
    finally:
        response.close()


def _write(ota, response, announced):
    most = announced or files.free_bytes() - _SPARE
    digest = hashlib.sha256()
    held = 0
    ota_boot.make_parents(ota.archive)
    with open(ota.archive, "wb") as f:
        while True:
            n = yield from response.read_into(ota.view)
            if not n:
                return held, digest
            held += n
            if held > most:
                raise OtaError("too_large", "the server sends more than %d bytes" % most)
            part = ota.view if n == len(ota.view) else ota.view[:n]
            f.write(part)
            digest.update(part)
            if announced:
                ota.progress(held, announced)


class Response(http.Response):
    """An answer that `requests` has got, with the interface of http.Response as far as it is used here.

    :param total_ms: how long all of it may take.
    """

    def __init__(self, ota, url, total_ms=_TOTAL_MS):
        requests = packages.ensure("requests", ota.cfg, ota.log)
        self._spent = ota.spent
        self._received = 0  # of the body: requests does not count the rest
        self.retry_after = None
        self._began = time.ticks_ms()
        self._total_ms = total_ms
        self._response = _get(requests, url)
        self.status = self._response.status_code
        self._raw = self._response.raw
        if hasattr(self._raw, "setblocking"):
            self._raw.setblocking(False)

    @property
    def content_length(self):
        """The body's length if the server says so, else None."""
        for name, value in (getattr(self._response, "headers", None) or {}).items():
            if name.lower() == "content-length" and value.isdigit() and len(value) < 10:
                return int(value)
        return None

    def read_into(self, view):
        """The next bytes; their number, 0 at the end. Generator."""
        since = time.ticks_ms()
        while True:
            n = self._try(view)
            yield
            if n is not None:
                self._received += n
                return n
            now = time.ticks_ms()
            if time.ticks_diff(now, since) > _IDLE_MS or time.ticks_diff(now, self._began) > self._total_ms:
                raise OtaError("timeout", "the server is too slow")

    def close(self):
        self._response.close()
        self._spent(self._received)

    def _try(self, view):
        try:
            return self._raw.readinto(view)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise OtaError("connection_lost", "the connection was lost: %s" % error)


def _get(requests, url):
    name = "socket" if hasattr(requests, "socket") else "usocket"  # what it is called up to 1.23
    ours, before, response = _Sockets(), getattr(requests, name), None
    setattr(requests, name, ours)
    try:
        response = _answer(requests, url)
        return response
    finally:
        setattr(requests, name, before)
        if ours.connection and not response:
            ours.connection.close()


def _answer(requests, url):
    try:
        return requests.get(url)
    except OSError as error:
        raise OtaError("timeout" if error.errno in _LATE else "connect", "no answer from the server: %s" % error)
    except NotImplementedError as error:  # is a RuntimeError on both interpreters
        raise OtaError("redirect", "a redirect that cannot be followed: %s" % error)
    except RuntimeError:  # requests follows redirects by calling itself
        raise OtaError("redirect", "too many redirects")
    except (ValueError, TypeError, IndexError) as error:
        raise OtaError("bad_response", "the server's answer is not understood: %s" % error)


class _Sockets:
    """What `requests` uses of the module `socket`, for one request. `connection` is the last one it has opened."""

    SOCK_STREAM = socket.SOCK_STREAM

    def __init__(self):
        self.connection = None
        self._began = time.ticks_ms()
        self._hops = 0

    def getaddrinfo(self, host, port, *_kind):
        job = sockets.lookup(host, port, OtaError)
        try:
            while time.ticks_diff(time.ticks_ms(), self._began) < _ANSWER_MS:
                next(job)
                time.sleep_ms(1)
        except StopIteration as stop:
            return stop.value
        job.close()
        raise OSError(errno.ETIMEDOUT, "the name server does not answer in time")

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
        self._left = _TLS_HEAD  # bytes of the head; None when the body has begun

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
        return _ANSWER_MS - time.ticks_diff(time.ticks_ms(), self._began)
