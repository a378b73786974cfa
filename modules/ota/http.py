"""A small HTTP/1.1 reader that a hostile, slow or broken server can neither block nor fill up.

    response = yield from Http("http://host/", headers={"Authorization": "..."}).get("board/stable.json", max_body=4096)
    n = yield from response.read_into(view)        # 0 at the end of the body
    response.close()

Everything is a generator that yields instead of waiting, and once per read: the caller's loop goes on. Only the name lookup
blocks, as long as the firmware's resolver does. An answer is either right or an OtaError:

1. Status line and headers have at most 4096 bytes, a line 1024 and a body `max_body`; one buffer is used for all of them.
2. Every wait has an idle deadline, the whole of it (connect, redirects, headers, body) a total one.
3. A length must be plain digits and stand there once; chunks are counted; a body that ends early is ``connection_lost``.
4. At most 5 redirects, none from https to http. `headers` go to the origin of the base URL, and never after a redirect.
5. A 206 must begin exactly where it was asked to; a 200 to such a request is the whole file again.

With `ca` (a file, PEM or DER) the server's certificate must be signed by it, for which the board must know the time. Without,
TLS hides what is sent but proves nothing: that an update is genuine is shown by its signature, not by its server.
"""

from . import urls
from .connection import LINE, Connection, bad
from .errors import OtaError

_MAX_HEAD = 4096
_MAX_CHUNK_LINE = 64
_MAX_TRAILERS = 1024
_MAX_REDIRECTS = 5
_MAX_RETRY_S = 7 * 86_400
_NEEDED = (b"content-length", b"transfer-encoding", b"content-encoding", b"content-range", b"etag", b"location", b"retry-after")


class Http:
    """Requests to one server. One answer is read at a time: they share a buffer.

    :param base_url: its scheme, host and port are the origin that `headers` belong to; relative URLs are joined to it.
    :param headers: dict of more request headers, such as an access token.
    :param ca: path of a certificate, or None.
    :param buffer: a bytearray of at least LINE bytes that is free meanwhile, or None.
    """

    def __init__(self, base_url, headers=None, ca=None, buffer=None):
        self._base = base_url
        self._origin = urls.split(base_url, "not_configured")[:3]
        self._private = "".join("%s: %s\r\n" % (_clean(k), _clean(v)) for k, v in (headers or {}).items())
        self._ca = ca
        self._buffer = buffer or bytearray(LINE)

    def get(self, url, etag=None, offset=0, if_range=None, max_body=65536, idle_ms=15_000, total_ms=60_000):
        """Ask for `url`. Generator; returns a Response of whatever status is not a redirect.

        :param etag: for ``If-None-Match``: the answer may be a 304.
        :param offset: ask for the rest from this byte on, if the file still has the strong etag `if_range`.
        :param max_body: bytes of the body of a 200 or 206 beyond which it is ``too_large``.
        """
        extra = _conditions(etag, offset, if_range)
        url = urls.join(self._base, url)
        origin = urls.split(url)[:3]
        private = self._private if origin == self._origin else ""
        connection = Connection(self._buffer, idle_ms, total_ms)
        for _hop in range(_MAX_REDIRECTS + 1):
            response = yield from self._ask(connection, url, private + extra, offset, max_body)
            if response.location is None:
                return response
            url, origin = _follow(url, response.location, origin[0])
            private = ""
        raise OtaError("redirect", "more than %d redirects" % _MAX_REDIRECTS)

    def _ask(self, connection, url, extra, offset, max_body):
        """One request and the head of its answer. Generator."""
        scheme, host, port, target = urls.split(url)
        response = None
        try:
            yield from connection.open(scheme, host, port, self._ca)
            yield from connection.send(_REQUEST % (target, urls.host_header(scheme, host, port), extra))
            head = Response(connection, max_body)
            yield from head.read_head(offset)
            if head.location is None:
                response = head
            return head
        finally:
            if response is None:  # a failure, a redirect, or a caller that gave up
                connection.close()


_REQUEST = (
    "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: iot-platform-ota\r\nAccept-Encoding: identity\r\nConnection: close\r\n%s\r\n"
)


class Response:
    """An answer: ``status``, and what was sent of ``etag content_length content_range retry_after``, else None.

    ``content_range`` is (first byte, last byte, total or None), ``retry_after`` seconds. ``length_known`` is False where only
    the end of the connection ends the body: then the caller must know its size to tell a whole one from a cut one.
    """

    def __init__(self, connection, max_body):
        self._connection = connection
        self._max = max_body
        self._received = 0
        self._chunked = False
        self._first = True  # chunk
        self._left = None  # bytes of the body or of the chunk, None until the connection ends
        self.status = 0
        self.length_known = False
        self.etag = self.content_length = self.content_range = self.retry_after = self.location = None

    @property
    def wire_in(self):
        return self._connection.wire_in

    @property
    def wire_out(self):
        return self._connection.wire_out

    def close(self):
        self._connection.close()

    def detach(self):
        """The socket, what has arrived of the body, and ``wire_in``, ``wire_out``: from now on the caller reads and closes it.

        OtaError where the length of the body is not plain: then only read_into() knows where it ends.
        """
        if self._chunked or self.content_length is None:
            raise bad("it does not say how long it is")
        return self._connection.detach()

    def read_into(self, view):
        """Read the next bytes of the body into a memoryview; their number, 0 at the end. Generator."""
        if self._chunked and self._left == 0:
            yield from self._next_chunk()
        if self._left == 0:
            return 0
        if self._left is not None and len(view) > self._left:
            view = view[: self._left]
        n = yield from self._connection.take(view)
        if self._left is None:
            self._left = None if n else 0
        elif not n:
            raise OtaError("connection_lost", "the connection ended before the answer did")
        else:
            self._left -= n
        self._count(n)
        yield
        return n

    def read_head(self, offset):
        """Status line and headers. Generator."""
        budget = _MAX_HEAD
        old = found = None
        while found is None or 100 <= self.status < 200:
            line = yield from self._connection.line(LINE)
            old, self.status = _status(line)
            found = {}
            while line:
                budget -= len(line) + 2
                if budget < 0:
                    raise OtaError("too_large", "the answer's headers have more than %d bytes" % _MAX_HEAD)
                line = yield from self._connection.line(LINE)
                _header(line, found)
        self._understand(found, old, offset)

    def _understand(self, found, old, offset):
        ok = self.status in (200, 206)
        self._frame(found.get(b"content-length"), found.get(b"transfer-encoding"), old)
        if ok and found.get(b"content-encoding", b"identity").lower() != b"identity":
            raise bad("it is compressed, though that was not asked for")
        if self.status == 206:
            self.content_range = _content_range(found.get(b"content-range", b""))
            self._check_range(offset)
        self.length_known = self._chunked or self._left is not None
        if ok and (self._left or 0) > self._max:
            raise self._too_large()
        self.etag = _text(found.get(b"etag"), 128)
        if self.status in (301, 302, 303, 307, 308):
            self.location = _text(found.get(b"location"), urls.MAX_URL)
            if not self.location:
                raise OtaError("redirect", "a redirect that leads nowhere")
        after = found.get(b"retry-after", b"")
        self.retry_after = min(_digits(after), _MAX_RETRY_S) if after.isdigit() and len(after) < 10 else None

    def _frame(self, length, encoding, old):
        """What ends the body (RFC 9112, section 6.3), where anything ambiguous is refused."""
        if length is not None:
            self.content_length = self._left = _digits(length)
        if encoding is not None:
            if old or length is not None or encoding.lower() != b"chunked":
                raise bad("its length is not clear")
            self._chunked, self._left = True, 0
        if self.status in (204, 304):
            self._chunked, self._left = False, 0

    def _check_range(self, offset):
        first, last, total = self.content_range
        wrong = not offset or first != offset or last < first or (total is not None and last >= total)
        if wrong or self.content_length not in (None, last - first + 1):
            raise bad("it is not the part that was asked for")
        if self._left is None:
            self._left = last - first + 1

    def _next_chunk(self):
        """The line before a chunk; after the last one the trailers, which are ignored. Generator."""
        connection = self._connection
        if not self._first and (yield from connection.line(2)):
            raise bad("a chunk has another size than announced")
        self._first = False
        size = (yield from connection.line(_MAX_CHUNK_LINE)).partition(b";")[0].strip().lower()
        if not 0 < len(size) < 8 or not all(c in b"0123456789abcdef" for c in size):
            raise bad("a chunk has no proper size")
        self._left = int(size, 16)
        if self._received + self._left > self._max:
            raise self._too_large()
        if not self._left:
            budget = _MAX_TRAILERS
            while (line := (yield from connection.line(LINE))) and budget > 0:
                budget -= len(line) + 2
            if line:
                raise bad("it does not end after its end")
            self._chunked = False

    def _count(self, n):
        self._received += n
        if self._received > self._max:
            raise self._too_large()

    def _too_large(self):
        return OtaError("too_large", "the server sends more than %d bytes" % self._max)


def _follow(url, location, scheme):
    """Where a redirect leads: ``(url, origin)``."""
    url = urls.join(url, location)
    origin = urls.split(url, "redirect")[:3]
    if scheme == "https" and origin[0] == "http":
        raise OtaError("redirect", "a redirect from https to http is not followed")
    return url, origin


def _conditions(etag, offset, if_range):
    text = "If-None-Match: %s\r\n" % _clean(etag) if etag else ""
    if offset:
        text += "Range: bytes=%d-\r\n" % offset
        if if_range and if_range[0] == '"':  # a weak one never matches here: the digest has to show that it was the same file
            text += "If-Range: %s\r\n" % _clean(if_range)
    return text


def _clean(text):
    """`text`, unless it could end a header."""
    if not isinstance(text, str) or not text or not all(" " <= c <= "~" for c in text):
        raise OtaError("not_configured", "a request header must be printable ASCII text")
    return text


def _status(line):
    """``(True for HTTP/1.0, status)``."""
    if line[:8] not in (b"HTTP/1.1", b"HTTP/1.0") or line[8:9] != b" " or line[12:13] not in (b"", b" "):
        raise bad("it is not HTTP")
    status = _digits(line[9:12])
    if not 100 <= status < 600 or status == 101:
        raise bad("it has no proper status")
    return line[7:8] == b"0", status


def _header(line, found):
    """Keep a header that is needed. Twice the same, or a line that is none: refused."""
    name, colon, value = line.partition(b":")
    if line and (not colon or not name or name.strip() != name or b" " in name or b"\r" in value or b"\0" in value):
        raise bad("a header is malformed")
    name = name.lower()
    if name in _NEEDED:
        if name in found:
            raise bad("a header stands there twice")
        found[name] = value.strip()


def _content_range(value):
    """``bytes 5-9/10`` -> (5, 9, 10); the total may be ``*``, None then."""
    unit, _space, value = value.partition(b" ")
    span, slash, total = value.strip().partition(b"/")
    first, dash, last = span.partition(b"-")
    if unit.lower() != b"bytes" or not slash or not dash:
        raise bad("it does not say which part of the file it is")
    return _digits(first), _digits(last), None if total == b"*" else _digits(total)


def _digits(value):
    if not 0 < len(value) < 11 or not all(48 <= c <= 57 for c in value):
        raise bad("a number is malformed")
    return int(value)


def _text(value, most):
    """A header's value as text if it is short, printable and without spaces, else None."""
    if value is None or not 0 < len(value) <= most or not all(33 <= c <= 126 for c in value):
        return None
    return value.decode()
