"""One connection and its one request: read with a bound on every size and a deadline on every wait, and answered.

1. A head has at most 3 KiB; it and a short body must be there within five seconds of the connection.
2. Of the header fields only those that somebody here reads are kept; none of these may come twice.
3. What follows the request (pipelining) is not looked at.
4. The deadline is kept by the server, which cancels the task: no timer of its own.
"""

import asyncio
import binascii
import json
import time

from micropython import const

_FOLDER = const("/modules/web")
_MAX_HEAD = const(3072)
_MAX_BODY = const(1024)  # of all but uploads
_MAX_NESTED = const(100)
_CHUNK = const(256)
_OUT = const(256)  # bytes that are sent at once
_HEAD_MS = const(5_000)
_IDLE_MS = const(8_000)
_TOTAL_MS = const(60_000)
_LINGER_MS = const(3_000)
_LINGER_BYTES = const(262_144)
_PAUSE_MS = const(50)
_PAUSES = const(20)
_KEPT = const(
    (
        b"host", b"content-length", b"transfer-encoding", b"content-type", b"cookie", b"origin", b"x-csrf", b"sec-fetch-site",
        b"if-none-match",
    )
)  # fmt: skip
_ALWAYS = const(
    b"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    b" form-action 'none'; frame-ancestors 'none'; base-uri 'none'\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    b"Connection: close\r\n\r\n"
)


JSON = const("application/json; charset=UTF-8")


class Refused(Exception):
    """Why a request gets no. ``args``: the status; the reason, a word for a program; perhaps details, and seconds to wait.

    The message for a person is made of the word and the details: "bad value: force".
    """


def need(web, name):
    """A module that is there; OTA must be able to work as well."""
    module = web.platform.module(name)
    if not module or name == "ota" and not module.cfg:
        raise Refused(409, "not_configured", name)
    return module


def pieces(value):
    """JSON, a piece of text after the other: a whole answer would be a long one. An iterator becomes a list, whose items are
    made one by one. Generator.
    """
    before, end = "{", "}"
    if isinstance(value, dict):
        for key in value:
            yield before + json.dumps(str(key)) + ":"
            yield from pieces(value[key])
            before = ","
    elif isinstance(value, (list, tuple)) or hasattr(value, "__next__"):
        before, end = "[", "]"
        for item in value:
            yield before
            yield from pieces(item)
            before = ","
    else:
        if isinstance(value, float) and value - value != 0:  # JSON has no word for it
            value = None
        plain = value is None or isinstance(value, (str, bool, int, float))
        before, end = "", json.dumps(value if plain else str(value))
    yield end if before == "," else before + end


async def page(_web, request):
    """A file of the page, gzipped when the board's tree was made. With a query (its digest) it is kept for ever."""
    name = request.path if len(request.path) > 1 else "/index.html"
    try:
        f = open("" if "/" in name[1:] else _FOLDER + name + ".gz", "rb")
    except OSError:
        raise Refused(404, "not_found")
    kind = name.rpartition(".")[2]
    kind = "text/%s; charset=utf-8" % ("javascript" if kind == "js" else kind)
    cache = "max-age=31536000, immutable" if request.query else "no-cache"
    with f:
        f.seek(-8, 2)
        etag = '"%s"' % binascii.hexlify(f.read(8)).decode()  # gzip ends with the content's checksum and length
        fields = "Content-Encoding: gzip\r\nETag: %s\r\n" % etag
        if request.fields.get("if-none-match") == etag:
            await request.start(304, kind, fields, cache)
            return
        await request.start(200, kind, fields + "Content-Length: %d\r\n" % f.tell(), cache)
        f.seek(0)
        while data := f.read(256):
            await request.send(data)


class Request:
    """:param sock: does not block; `address` is the client's, as text."""

    task = None
    method = path = query = ""  # query: what follows the ? of the address
    data = b""  # a short body; a longer one is read by readinto()
    csrf = None  # the token of the session that it belongs to
    whole = False  # its head, and a short body, are there
    waiting = True  # for the client: to send, or to take what it asked for
    started = False  # at least the first bytes of the answer are sent
    left = 0  # bytes of the body that have not been read
    head = 0  # bytes of the head that have come; 0 again when all is said

    def __init__(self, sock, address):
        self.stream = asyncio.StreamReader(sock)
        self.address = address
        self.fields = {}  # of the header, by their names in lower case
        self._raw = b""
        self._out = bytearray()  # what goes together
        self.since = time.ticks_ms()  # nothing has come or gone since then; of a request: since its beginning
        self.timeout = self.end = time.ticks_add(self.since, _HEAD_MS)  # end: of all patience

    def limit(self, total_ms):
        """From now on the whole may take so long."""
        self.end = time.ticks_add(time.ticks_ms(), total_ms)
        self.progress()

    def progress(self):
        """Something has happened: the next thing may take a while."""
        self.since = now = time.ticks_ms()
        self.timeout = time.ticks_add(now, min(_IDLE_MS, time.ticks_diff(self.end, now)))

    # -- reading

    async def read(self):
        """The head and a short body. Refused for what is no request, EOFError when the client hangs up before it is whole."""
        line = await self._line()
        parts = line.split()
        if len(parts) != 3 or not parts[0].isalpha() or parts[2][:7] != b"HTTP/1." or not _is_text(line):
            raise Refused(400, "bad_request")
        path, _, query = parts[1].partition(b"?")
        if path[:1] != b"/" or b"%" in path:
            raise Refused(404, "not_found")
        self.method, self.path, self.query = parts[0].decode(), path.decode(), query.decode()
        while line:
            line = await self._line()
            self._add(line)
        if 0 < self.left <= _MAX_BODY:
            while len(self._raw) < self.left:
                await self._more()
            self.data = self._raw[: self.left]
            self.left = 0
        self.whole, self.waiting = True, False
        self.limit(_TOTAL_MS)

    async def readinto(self, view):
        """The next part of a long body; how many bytes. EOFError when the client hangs up."""
        n = min(len(view), self.left)
        if self._raw:
            n = min(n, len(self._raw))
            view[:n] = self._raw[:n]
            self._raw = self._raw[n:]
        else:
            n = await self.stream.readinto(view[:n] if n < len(view) else view)
            if n == 0:
                raise EOFError
            if n is None:
                return 0
            self.progress()
        self.left -= n
        return n

    def json(self):
        """The JSON object that came as body; Refused when it is none."""
        if self.left:
            raise Refused(413, "too_large")
        value, data = None, self.data.strip() or b"{}"
        whole = data[:1] == b"{" and data[-1:] == b"}" and b"\0" not in data  # what MicroPython takes for an end, or for all
        if whole and data.count(b"[") + data.count(b"{") < _MAX_NESTED:  # a thousand lists in each other are 40 KB of heap
            try:
                value = json.loads(data)
            except (ValueError, RuntimeError):
                pass
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise Refused(400, "bad_json")
        return value

    # -- answering

    async def answer(self, value, status=200, fields=""):
        """A whole answer: JSON, or, for None, nothing but the head.

        :param fields: more lines of the head, each with its end.
        """
        self._begin(status, JSON, fields, "no-store")
        if value is not None:
            for piece in pieces(value):
                await self.send(piece.encode())
        await self.flush()

    async def start(self, status, kind, fields="", cache="no-store"):
        """The head of an answer whose body follows by send()."""
        self._begin(status, kind, fields, cache)
        await self._drain()

    def _begin(self, status, kind, fields, cache):
        """Written at once, and so is a short body: what was asked for may restart the board as soon as others have their turn."""
        self.started = True
        head = "HTTP/1.0 %d \r\nContent-Type: %s\r\nCache-Control: %s\r\n%s" % (status, kind, cache, fields)
        self.stream.write(head.encode())
        self.stream.write(_ALWAYS)

    async def send(self, data):
        """A part of the body (bytes); what is small goes together."""
        if self.method == "HEAD":
            return
        if len(self._out) + len(data) > _OUT:
            await self.flush()
        self._out.extend(data)

    async def flush(self):
        """Send what has been kept to go together."""
        data, self._out = self._out, bytearray()
        self.stream.write(data)
        await self._drain()

    async def _drain(self):
        self.progress()
        self.waiting = True
        await self.stream.drain()
        self.waiting = False

    async def finish(self):
        """Everything is sent. What the client is still sending is read and dropped: closing at once could cut off the answer."""
        await self.flush()
        pauses = _PAUSES if self.left > 0 else 1
        most = _LINGER_BYTES
        self.head, self._raw = 0, b""
        self.limit(_LINGER_MS)
        self.waiting = True
        while (self.left > 0 or not self.whole) and pauses >= 0 and most > 0:
            data = self.stream.s.read(_CHUNK)
            if data == b"":
                return
            if data:
                most -= len(data)
                self.left -= len(data)
                await asyncio.sleep_ms(0)
            else:
                pauses -= 1
                await asyncio.sleep_ms(_PAUSE_MS)

    def ended(self):
        """True when the client of an event stream has hung up."""
        try:
            return self.stream.s.read(1) == b""
        except OSError:
            return True

    # -- inside

    async def _line(self):
        """The next line of the head, without its end."""
        while True:
            end = self._raw.find(b"\n") + 1
            if end:
                line, self._raw = self._raw[:end], self._raw[end:]
                return line.rstrip(b"\r\n")
            if self.head > _MAX_HEAD:
                raise Refused(431, "too_large")
            self.head += await self._more()

    async def _more(self):
        data = await self.stream.read(_CHUNK)
        if not data:
            raise EOFError
        self._raw += data
        return len(data)

    def _add(self, line):
        """Keep a header field, if somebody reads it."""
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if line and (not colon or not name or name != name.strip()):
            raise Refused(400, "bad_request")
        if name not in _KEPT:
            return
        name = name.decode()
        if name in self.fields or not _is_text(value):
            raise Refused(400, "bad_request")
        self.fields[name] = value.decode()
        if name == "content-length":
            if not value.isdigit() or len(value) > 9:
                raise Refused(400, "bad_request")
            self.left = int(value)
        elif name == "transfer-encoding":
            raise Refused(411, "length_required")


def _is_text(data):
    return all(32 <= byte < 127 for byte in data)
