"""One connection and its one request: read with a bound on every size and a deadline on every wait, and answered.

1. A line has at most 1 KiB, a head 3 KiB and 40 lines; a head or a short body must be there within seconds.
2. Of the header fields only those that somebody here reads are kept; none of these may come twice.
3. What follows the request (pipelining) is not looked at.
4. The deadline is kept by the module's tick(), which cancels the task: no timer of its own.
"""

import asyncio
import json
import time

from micropython import const

_MAX_LINE = const(1024)
_MAX_HEAD = const(3072)
_MAX_LINES = const(40)
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
_KEPT = b"host content-length transfer-encoding content-type cookie origin x-csrf sec-fetch-site if-none-match".split()
_ALWAYS = (
    b"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    b" form-action 'none'; frame-ancestors 'none'; base-uri 'none'\r\n"
    b"X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"
    b"Connection: close\r\n\r\n"
)


class Refused(Exception):
    """Why a request gets no. ``args``: the status; a word for a program; a sentence for a person; perhaps seconds to wait."""


class Request:
    """:param sock: does not block; `address` is the client's, as text."""

    task = None
    method = path = query = ""  # query: what follows the ? of the address
    body = b""  # a short one; a longer one is read by readinto()
    token = None  # of the session that it belongs to
    waiting = True  # its head is not there yet
    answered = False  # at least the first bytes are sent
    lingering = False  # all is said
    streaming = False  # it stays open without a deadline between two writes
    left = 0  # bytes of the body that have not been read
    head = 0  # bytes of the head that have come

    def __init__(self, sock, address):
        self.stream = asyncio.StreamReader(sock)
        self.address = address
        self.fields = {}  # of the header, by their names in lower case
        self.began = time.ticks_ms()
        self.until = self.deadline = time.ticks_add(self.began, _HEAD_MS)  # until: the end of all patience
        self._in = self._out = b""

    def limit(self, total_ms):
        """From now on the whole may take so long."""
        self.until = time.ticks_add(time.ticks_ms(), total_ms)
        self.touch()

    def touch(self):
        """Something has happened: the next thing may take a while."""
        now = time.ticks_ms()
        self.deadline = time.ticks_add(now, min(_IDLE_MS, time.ticks_diff(self.until, now)))

    # -- reading

    async def read(self):
        """The head and a short body. Refused for what is no request, EOFError when the client hangs up before it is whole."""
        self._take_first(await self._line())
        line = b" "
        for _ in range(_MAX_LINES):
            line = await self._line()
            if not line:
                break
            self._take_field(line)
        if line:
            raise Refused(431, "too_large", "the request has too many header fields")
        self.waiting = False
        self.limit(_TOTAL_MS)
        if 0 < self.left <= _MAX_BODY:
            while len(self._in) < self.left:
                self._in += await self._more(self.left - len(self._in))
            self.body = self._in[: self.left]
            self.left = 0

    async def readinto(self, view):
        """The next part of a long body; how many bytes. EOFError when the client hangs up."""
        n = min(len(view), self.left)
        if self._in:
            n = min(n, len(self._in))
            view[:n] = self._in[:n]
            self._in = self._in[n:]
        else:
            n = await self.stream.readinto(view[:n] if n < len(view) else view)
            if n == 0:
                raise EOFError
            if n is None:
                return 0
            self.touch()
        self.left -= n
        return n

    def json(self):
        """The JSON object that came as body; Refused when it is none."""
        if self.left:
            raise Refused(413, "too_large", "the body is larger than %d bytes" % _MAX_BODY)
        value, data = None, self.body.strip() or b"{}"
        whole = data[:1] == b"{" and data[-1:] == b"}"  # MicroPython up to 1.25 takes a lone brace for an object
        if whole and data.count(b"[") + data.count(b"{") < _MAX_NESTED:  # a thousand lists in each other are 40 KB of heap
            try:
                value = json.loads(data)
            except (ValueError, RuntimeError):
                pass
        if not isinstance(value, dict):
            raise Refused(400, "bad_json", "the body must be a JSON object")
        return value

    # -- answering

    async def answer(self, value, status=200, fields=""):
        """A whole answer: JSON, or, for None, nothing but the head.

        :param fields: more lines of the head, each with its end.
        """
        data = b"" if value is None else json.dumps(value).encode()
        await self.start(status, "application/json; charset=UTF-8", "Content-Length: %d\r\n%s" % (len(data), fields))
        await self.send(data)

    async def start(self, status, kind, fields="", cache="no-store"):
        """The head of an answer whose body follows by send()."""
        self.answered = True
        word = "OK" if status == 200 else "N/A"
        head = "HTTP/1.0 %d %s\r\nContent-Type: %s\r\nCache-Control: %s\r\n%s" % (status, word, kind, cache, fields)
        self._out = head.encode()
        await self._flush()
        self._out = _ALWAYS
        await self._flush()

    async def send(self, data):
        """A part of the body (bytes); what is small goes together."""
        if self.method == "HEAD":
            return
        if len(self._out) + len(data) > _OUT:
            await self._flush()
        self._out = self._out + data if self._out else data
        if self.streaming or len(self._out) > _OUT:
            await self._flush()

    async def finish(self):
        """Everything is sent. What the client is still sending is read and dropped: closing at once could cut off the answer."""
        await self._flush()
        patience = _PAUSES if self.left > 0 else 1 if self.waiting else 0
        if patience:
            self.lingering = True
            self.limit(_LINGER_MS)
            pauses, most = 0, _LINGER_BYTES
            self._in = b""
            while pauses <= patience and most > 0 and (self.left > 0 or self.waiting):
                data = self.stream.s.read(_CHUNK)
                if data == b"":
                    return
                n = len(data or b"")
                pauses = 0 if n else pauses + 1
                most -= n
                self.left -= n
                await asyncio.sleep_ms(0 if n else _PAUSE_MS)

    def close(self):
        self.stream.s.close()

    def gone(self):
        """True when the client of an event stream has hung up."""
        try:
            return self.stream.s.read(1) == b""
        except OSError:
            return True

    # -- inside

    async def _flush(self):
        if self._out:
            data, self._out = self._out, b""
            self.touch()
            self.stream.write(data)
            await self.stream.drain()

    async def _line(self):
        """The next line of the head, without its end."""
        while True:
            end = self._in.find(b"\n") + 1
            if end:
                line, self._in = self._in[:end], self._in[end:]
                return line.rstrip(b"\r\n")
            if len(self._in) > _MAX_LINE:
                raise Refused(431, "too_large", "a line of the request's head is too long")
            more = await self._more(_CHUNK)
            self.head += len(more)
            if self.head > _MAX_HEAD + _CHUNK:
                raise Refused(431, "too_large", "the request's head is too large")
            self._in += more

    async def _more(self, most):
        data = await self.stream.read(most)
        if not data:
            raise EOFError
        return data

    def _take_first(self, line):
        """The request line."""
        parts = line.split()
        if len(parts) != 3 or not parts[0].isalpha() or parts[2][:7] != b"HTTP/1." or not _is_text(line.strip()):
            raise Refused(400, "bad_request", "this is no HTTP request")
        path, _, query = parts[1].partition(b"?")
        if path[:1] != b"/" or b"%" in path:
            raise Refused(404, "not_found", "there is nothing at this address")
        self.method, self.path, self.query = parts[0].decode(), path.decode(), query.decode()

    def _take_field(self, line):
        """A header field, if somebody reads it."""
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon or not name or name != name.strip():
            raise Refused(400, "bad_request", "a header field is malformed")
        if name not in _KEPT:
            return
        name = name.decode()
        if name in self.fields or not _is_text(value):
            raise Refused(400, "bad_request", "a header field comes twice or is malformed")
        self.fields[name] = value.decode()
        if name == "content-length":
            if not value.isdigit() or len(value) > 9:
                raise Refused(400, "bad_request", "the content length is no number")
            self.left = int(value)
        elif name == "transfer-encoding":
            raise Refused(411, "length_required", "a body needs a content length")


def _is_text(data):
    return all(32 <= byte < 127 for byte in data)
