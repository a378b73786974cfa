"""A socket that never blocks, with a small buffer in front of it, deadlines, and a count of the bytes.

Every wait is a yield. Only the name lookup blocks, as long as the firmware's resolver does. Failures are OtaErrors of kind
transport. With `ca` (a file, PEM or DER) the server's certificate must be signed by it, and the board must know the time.
Without, TLS hides what is sent but proves nothing.
"""

import errno
import select
import socket

from .errors import OtaError

try:
    from time import ticks_diff, ticks_ms
except ImportError:  # CPython
    from time import monotonic

    def ticks_ms():
        return int(monotonic() * 1000)

    def ticks_diff(end, start):
        return end - start


try:
    import tls
except ImportError:
    try:
        import ssl as tls
    except ImportError:
        tls = None

LINE = 1024  # the size of the buffer, and so the longest line
_MAX_ADDRESSES = 3
_MAX_CA = 8192
_AGAIN = (errno.EAGAIN, errno.EINPROGRESS)
_WANT = (tls.SSLWantReadError, tls.SSLWantWriteError) if hasattr(tls, "SSLWantReadError") else ()  # CPython's EAGAIN


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
        addresses = _lookup(host, port)[:_MAX_ADDRESSES]
        while addresses:
            address = addresses.pop(0)
            try:
                yield from self._connect(address)
                break
            except OtaError as error:
                if error.reason != "connect" or not addresses:
                    raise
        if scheme == "https":
            self._phase = "tls"
            self._sock = _wrap(self._sock, host, ca)

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

    def _connect(self, address):
        self._phase = "connect"
        self.close()
        self._sock = socket.socket(address[0], address[1])
        self._sock.setblocking(False)
        self._try(self._sock.connect, address[-1])
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        since = ticks_ms()
        ready = poll.poll(0)
        while not ready:
            yield
            self._check(since)
            ready = poll.poll(0)
        if ready[0][1] & (select.POLLERR | select.POLLHUP):
            raise OtaError("connect", "the server refuses connections or cannot be reached")

    def _do(self, call, argument):
        """The result of a socket's method once it does not block any more. Generator."""
        since = ticks_ms()
        while True:
            self._check(since)
            n = self._try(call, argument)
            if n is not None:
                return n
            yield

    def _try(self, call, argument):
        """The same, but None if it would block (MicroPython returns that, CPython raises it)."""
        try:
            return call(argument)
        except OSError as error:
            if error.errno in _AGAIN or isinstance(error, _WANT):
                return None
            reason = "timeout" if error.errno == errno.ETIMEDOUT else self._phase
            raise OtaError(reason, "%s: %s" % (_TEXT[reason], error))
        except ValueError as error:  # MicroPython's word for a certificate that is refused
            raise OtaError("tls", "%s: %s" % (_TEXT["tls"], str(error).strip()))

    def _check(self, since):
        now = ticks_ms()
        if ticks_diff(now, since) > self._idle_ms:
            raise OtaError("timeout", "the server has been silent for %d s" % (self._idle_ms // 1000))
        if ticks_diff(now, self._began) > self._total_ms:
            raise OtaError("timeout", "the server is too slow: given up after %d s" % (self._total_ms // 1000))


_TEXT = {
    "connect": "no connection to the server",
    "timeout": "the server does not answer",
    "tls": "no secure connection to the server",
    "connection_lost": "the connection was lost",
}


def _lookup(host, port):
    try:
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except OSError as error:
        raise OtaError("dns", "the name %s cannot be looked up: %s" % (host, error))


def _wrap(sock, host, ca):
    """TLS over a connected socket; the handshake happens with the first write."""
    if tls is None:
        raise OtaError("tls", "this firmware has no TLS")
    try:
        context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
        if ca:
            context.verify_mode = tls.CERT_REQUIRED
            _load(context, ca)
        else:
            if hasattr(context, "check_hostname"):
                context.check_hostname = False
            context.verify_mode = tls.CERT_NONE
        return context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        raise OtaError("tls", "TLS cannot be set up, is the certificate file right? %s" % error)


def _load(context, path):
    import binascii

    with open(path, "rb") as f:
        data = f.read(_MAX_CA)
    for part in data.split(b"-----BEGIN CERTIFICATE-----")[1:] or (data,):
        der = part if part is data else binascii.a2b_base64(part.split(b"-----END")[0])
        if tls.__name__ == "tls":
            context.load_verify_locations(der)
        else:
            context.load_verify_locations(cadata=der)


def bad(what):
    """The error for an answer that breaks HTTP's rules, or ours."""
    return OtaError("bad_response", "the server's answer is not understood: " + what)
