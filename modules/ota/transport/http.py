"""A small HTTP/1.1 reader that a hostile, slow or broken server can neither block nor fill up.

Everything is a generator that yields instead of waiting, and once per read: the caller's loop goes on. An answer is either
right or an OtaError:

1. Status line and headers have at most 16 KiB, a header 8 and a body `max_body`; one buffer of 1 KiB is used for all of them, and
   only what is needed of a longer line is kept. What the body is encoded in counts for nothing: its digest decides.
2. Every wait has an idle deadline, the whole of it (connect, redirects, headers, body) a total one.
3. A length must be plain digits and stand there once; chunks are counted; a body that ends early is ``connection_lost``.
4. At most 5 redirects, none from https to http, none to a host that is not named. `headers` go to the origin of the base URL, and
   never after a redirect.
5. A 206 must be exactly the bytes that were asked for; a 200 to such a request is the whole file.
6. A connection is kept for the next request when the body was read to its end. One that the server has closed meanwhile is
   opened again, once.

With `ca` (a file, PEM or DER) the server's certificate must be signed by it, for which the board must know the time. Without,
TLS hides what is sent but proves nothing: that an update is genuine is shown by its signature, not by its server.
"""

from micropython import const

from ..errors import OtaError
from . import urls
from .connection import LINE, Connection

_MAX_REDIRECTS = const(5)
_MAX_HEAD = const(16 * 1024)
_MAX_LINE = const(8192)
_MAX_CHUNK_LINE = const(64)
_MAX_TRAILERS = const(1024)
_REDIRECTS = const((301, 302, 303, 307, 308))
_TEXT = const("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: iot-platform-ota\r\nAccept-Encoding: identity\r\n%s\r\n")


class Http:
    """Requests to one server, one after the other: they share a connection and its buffer.

    `headers` belong to the origin of `base_url`, `hosts` are others to which a redirect may lead; `kept`: see Connection.
    """

    def __init__(self, base_url, headers=None, ca=None, kept=None, hosts=()):
        self.base_url = base_url
        self.origin = urls.split(base_url, "not_configured")[:3]
        self._private = "".join("%s: %s\r\n" % (urls.clean(k), urls.clean(v)) for k, v in (headers or {}).items())
        self.ca = ca
        self.hosts = hosts
        self.connection = Connection(kept)

    def get(self, url, etag=None, begin=0, end=None, max_body=65536, idle_ms=15_000, total_ms=60_000):
        """Ask for `url`, with `end` for the bytes [begin, end) only. Generator; returns a Response of whatever status is not a
        redirect: with an `etag` it may be a 304, and to a part a 200 all the same.
        """
        extra = "If-None-Match: %s\r\n" % urls.clean(etag) if etag else ""
        if end is not None:
            extra += "Range: bytes=%d-%d\r\n" % (begin, end - 1)
        url = urls.join(self.base_url, url)
        scheme, host, port, target = urls.split(url)
        private = self._private if (scheme, host, port) == self.origin else ""
        self.connection.limit(idle_ms, total_ms)
        for _hop in range(_MAX_REDIRECTS + 1):
            text = (_TEXT % (target, urls.host_header(scheme, host, port), private + extra)).encode()
            response = Response(self.connection, begin, end, max_body)
            yield from self._ask((scheme, host, port), text, response)
            if response.location is None:
                return response
            url, before, private = urls.join(url, response.location), scheme, ""
            scheme, host, port, target = urls.split(url, "redirect")
            if before == "https" and scheme == "http":
                raise OtaError("redirect", "a redirect from https to http is not followed")
            urls.check_host(host, self.origin[1], self.hosts)
        raise OtaError("redirect", "more than %d redirects" % _MAX_REDIRECTS)

    def close(self):
        self.connection.close()

    def _ask(self, origin, text, response):
        """One request and the head of its answer. Generator."""
        connection, done = self.connection, False
        try:
            while not response.status:
                kept = yield from connection.open(origin, self.ca)
                heard = connection.wire_in
                try:
                    yield
                    yield from connection.send(text)
                    yield
                    yield from response.read_head()
                except OtaError as error:
                    if not kept or connection.wire_in != heard or error.reason != "connection_lost":
                        raise
                    connection.close()  # the server had closed it already: that says nothing about this request
            done = response.location is None
        finally:
            if not done:  # a failure, a redirect, or a caller that gave up
                connection.close()


class Response:
    """An answer: ``status``, and what was sent of ``etag content_length total retry_after``, else None.

    ``total`` is the size of the file of which this is a part, ``retry_after`` seconds.
    """

    def __init__(self, connection, begin=0, end=None, max_body=65536):
        self.connection = connection
        self.part = end and b"bytes %d-%d" % (begin, end - 1)
        self.size = end and end - begin
        self.most = max_body
        self._received = 0
        self._chunked = False
        self._first = True  # chunk
        self.left = None  # bytes of the body or of the chunk, None until the connection ends
        self.kept = False  # the connection, when the body is over
        self.status = 0
        self.etag = self.content_length = self.total = self.retry_after = self.location = None

    def read_head(self):
        """Status line and headers, and what they mean. Generator."""
        found, began = None, self.connection.wire_in
        while found is None or 100 <= self.status < 200:
            line = yield from self.connection.line(LINE)
            old = self._status(line)
            found = {}
            while line:
                if self.connection.wire_in - began > _MAX_HEAD:
                    raise OtaError("too_large", "the answer's headers have more than %d bytes" % _MAX_HEAD)
                line = yield from self.connection.line(_MAX_LINE, urls.needed)
                urls.header(line, found)
        self._frame(found.get(b"content-length"), found.get(b"transfer-encoding"), old)
        self.kept = not old and found.get(b"connection", b"").lower() != b"close"
        if self.status in (200, 206):
            self._understand(found)
        elif self.status in _REDIRECTS:
            self.location = urls.short_text(found.get(b"location"), urls.MAX_URL)
            if not self.location:
                raise OtaError("redirect", "a redirect that leads nowhere")
        self.retry_after = urls.retry_after(found.get(b"retry-after", b""))

    def read_into(self, view):
        """Read the next bytes of the body into a memoryview; their number, 0 at the end. Generator."""
        if self._chunked and self.left == 0:
            yield from self._next_chunk()
        if self.left == 0:
            return 0
        if self.left is not None and len(view) > self.left:
            view = view[: self.left]
        n = yield from self.connection.take(view)
        if self.left is None:
            self.left = None if n else 0
        elif not n:
            raise OtaError("connection_lost", "the connection ended before the answer did")
        else:
            self.left -= n
        self._received += n
        if self._received > self.most:
            raise self._too_large()
        yield
        return n

    def read_all(self, most):
        """A short body as bytes. Generator; OtaError ``too_large`` beyond `most` bytes."""
        view = memoryview(bytearray((most if self.content_length is None else min(most, self.content_length)) + 1))
        length = 0
        while length < len(view):
            n = yield from self.read_into(view[length:])
            if not n:
                return bytes(view[:length])
            length += n
        raise OtaError("too_large", "the answer has more than %d bytes" % most)

    def close(self):
        """The caller needs no more of it. The connection stays open if the next answer can follow on it."""
        if not (self.kept and self.left == 0 and not self._chunked):
            self.connection.close()

    def error(self, what):
        return OtaError("http_status", "the server answered %d to the request for %s" % (self.status, what), self.retry_after)

    def _status(self, line):
        """True for HTTP/1.0."""
        if line[:8] not in (b"HTTP/1.1", b"HTTP/1.0") or line[8:9] != b" " or line[12:13] not in (b"", b" "):
            raise urls.bad("it is not HTTP")
        self.status = urls.digits(line[9:12])
        if not 100 <= self.status < 600 or self.status == 101:
            raise urls.bad("it has no proper status")
        return line[7:8] == b"0"

    def _frame(self, length, encoding, old):
        """What ends the body (RFC 9112, section 6.3), where anything ambiguous is refused."""
        if length is not None:
            self.content_length = self.left = urls.digits(length)
        if encoding is not None:
            if old or length is not None or encoding.lower() != b"chunked":
                raise urls.bad("its length is not clear")
            self._chunked, self.left = True, 0
        if self.status in (204, 304):
            self._chunked, self.left = False, 0

    def _understand(self, found):
        """A body that was asked for."""
        if self.status == 206:
            part, _slash, total = found.get(b"content-range", b"").partition(b"/")
            if part.lower() != self.part or self.content_length not in (None, self.size):
                raise urls.bad("it is not the part that was asked for")
            self.total = None if total == b"*" else urls.digits(total)
            if self.left is None:
                self.left = self.size
                self.kept = False
        if (self.left or 0) > self.most:
            raise self._too_large()
        self.etag = urls.short_text(found.get(b"etag"), 128)

    def _next_chunk(self):
        """The line before a chunk; after the last one the trailers, which are ignored. Generator."""
        line = self.connection.line
        if not self._first and (yield from line(2)):
            raise urls.bad("a chunk has another size than announced")
        self._first = False
        size = (yield from line(_MAX_CHUNK_LINE)).partition(b";")[0].strip().lower()
        if not 0 < len(size) < 8 or not all(c in b"0123456789abcdef" for c in size):
            raise urls.bad("a chunk has no proper size")
        self.left = int(size, 16)
        if self._received + self.left > self.most:
            raise self._too_large()
        if not self.left:
            budget = _MAX_TRAILERS
            while (text := (yield from line(LINE))) and budget > 0:
                budget -= len(text) + 2
            if text:
                raise urls.bad("it does not end after its end")
            self._chunked = False

    def _too_large(self):
        return OtaError("too_large", "the server sends more than %d bytes" % self.most)
