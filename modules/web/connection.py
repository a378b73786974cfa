"""One connection: what microdot reads from and writes to, with a bound on every size and a deadline on every wait.

1. A line has at most 1 KiB, a head 3 KiB and 40 lines; a head or a short body must be there within seconds.
2. Of the header fields only those that somebody here reads are kept; none of these may come twice.
3. One request a connection. What follows it (pipelining) is not looked at.
4. The deadline is kept by the module's tick(), which cancels the task: no timer of its own.
"""

import asyncio
import time

from micropython import const

from .refused import Refused

_MAX_LINE = const(1024)
_MAX_HEAD = const(3072)
_MAX_LINES = const(40)
_CHUNK = const(256)
_OUT = const(512)
_HEAD_MS = const(5_000)
_IDLE_MS = const(8_000)
_TOTAL_MS = const(60_000)
_LINGER_MS = const(3_000)
_LINGER_BYTES = const(262_144)
_PAUSE_MS = const(50)
_PAUSES = const(20)
_KEPT = (
    b"host", b"content-length", b"transfer-encoding", b"content-type", b"cookie", b"origin", b"x-csrf", b"sec-fetch-site",
    b"if-none-match",
)  # fmt: skip


class Connection:
    """:param sock: a socket that does not block; `address` is the client's, as text."""

    task = None
    waiting = True  # its request is not there yet
    lingering = False  # all is said
    streaming = False  # it stays open without a deadline between two writes
    left = 0  # bytes of the body that have not been read
    query = ""  # what follows the ? of the address

    def __init__(self, sock, address):
        self.stream = asyncio.StreamReader(sock)
        self.address = address
        self.began = time.ticks_ms()
        self.until = time.ticks_add(self.began, _HEAD_MS)  # the end of all patience
        self.deadline = self.until
        self._in = b""
        self._out = b""
        self.head = self._lines = self._seen = 0  # head: bytes

    def limit(self, total_ms):
        """From now on the whole may take so long."""
        self.until = time.ticks_add(time.ticks_ms(), total_ms)
        self.touch()

    def touch(self):
        """Something has happened: the next thing may take a while."""
        now = time.ticks_ms()
        self.deadline = time.ticks_add(now, min(_IDLE_MS, time.ticks_diff(self.until, now)))

    # -- reading, as microdot does it

    async def readline(self):
        """The next line of the head that is worth keeping. Refused for what is no request."""
        while True:
            line = await self._line()
            self._lines += 1
            if self._lines == 1:
                return self._request(line)
            if line == b"\r\n" or line == b"\n":
                self.waiting = False
                self.limit(_TOTAL_MS)
                return line
            if self._lines > _MAX_LINES:
                raise Refused(431, "too_large", "the request has too many header fields")
            if self._keeps(line):
                return line

    async def readexactly(self, n):
        """A short body. EOFError when the client hangs up before it is whole."""
        while len(self._in) < n:
            self._in += await self._more(n - len(self._in))
        data, self._in = self._in[:n], b""
        self.left -= n
        return data

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

    # -- writing

    async def awrite(self, data):
        """Send: small pieces are collected first, where there is room for that."""
        if len(self._out) + len(data) > _OUT or not self._collect(data):
            await self.flush()
            self._out = data
        if self.streaming or len(self._out) > _OUT:
            await self.flush()

    async def flush(self):
        if self._out:
            data, self._out = self._out, b""
            await self._send(data)

    async def finish(self):
        """Everything is sent. What the client is still sending is read and dropped: closing at once could cut off the answer."""
        await self.flush()
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

    def _collect(self, data):
        """Add to what is sent next. False without the memory for it."""
        try:
            self._out = self._out + data if self._out else data
            return True
        except MemoryError:
            return False

    async def _send(self, data):
        self.touch()
        self.stream.write(data)
        await self.stream.drain()

    async def _line(self):
        while True:
            end = self._in.find(b"\n") + 1
            if end:
                line, self._in = self._in[:end], self._in[end:]
                return line
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

    def _request(self, line):
        """The request line, if it is one, without the query."""
        parts = line.split()
        if len(parts) != 3 or not parts[0].isalpha() or parts[2][:7] != b"HTTP/1." or not _is_text(line.strip()):
            raise Refused(400, "bad_request", "this is no HTTP request")
        path, _, query = parts[1].partition(b"?")
        if path[:1] != b"/" or b"%" in path:
            raise Refused(404, "not_found", "there is nothing at this address")
        self.query = query.decode()
        return b" ".join((parts[0], path, parts[2]))

    def _keeps(self, line):
        """True for a header field that somebody reads."""
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise Refused(400, "bad_request", "a header field is malformed")
        if name not in _KEPT:
            return False
        bit = 1 << _KEPT.index(name)
        value = value.strip()
        if self._seen & bit or not _is_text(value):
            raise Refused(400, "bad_request", "a header field comes twice or is malformed")
        self._seen |= bit
        if bit == 2:
            if not value.isdigit() or len(value) > 9:
                raise Refused(400, "bad_request", "the content length is no number")
            self.left = int(value)
        elif bit == 4:
            raise Refused(411, "length_required", "a body needs a content length")
        return True


def _is_text(data):
    return all(32 <= byte < 127 for byte in data)
