"""What of a bundle is fetched, and in which requests: the members that are needed, neighbours joined.

A server that does not know ranges sends the whole file: then it is read from its beginning to its end, and what is not needed
is dropped on the way.
"""

from micropython import const

from ..errors import OtaError

GAP = 1024  # bytes between two members that cost less than one more request
_IDLE_MS = const(20_000)
_TOTAL_MS = const(120_000)  # a request, and two seconds more for each KiB of it: a link that gives less than 512 bytes a second


def runs(entries, start, size):
    """``(begin, end, last)`` for each request: the bytes [begin, end) of a bundle's files hold all wanted entries up to number
    `last`. Generator; walks the list once, in constant memory. `start`, with n and its place, says where the wanted bytes of it
    begin, or None; `size`: bytes of the files' part.
    """
    begin = end = last = group = None
    for n, (_path, _size, _digest, place) in entries:
        if last is not None and end is None and place != group:
            end = place
        at = start(n, place)
        if at is not None:
            if end is not None and at - end > GAP:
                yield begin, end, last
                last = None
            if last is None:
                begin = at
            group, last, end = place, n, None
    if last is not None:
        yield begin, size if end is None else end, last


def source(ota, offer):
    """What the bundle of an offer is read from, or, without one, the file ``ota.archive`` that was brought by hand."""
    if offer:
        return FromServer(ota.http(), ota.url(offer["file"]), offer["head"], offer["size"], ota.log)
    return FromFile(ota.archive)


class FromFile:
    """A bundle that lies on flash: an upload, or from a USB stick."""

    head = None  # nobody has announced how long it is

    def __init__(self, path):
        self.f = open(path, "rb")
        self.size = self.f.seek(0, 2)
        self.left = 0

    def go(self, begin, end):
        self.f.seek(begin)
        self.left = end - begin
        yield

    def read_into(self, view):
        n = self.f.readinto(view if len(view) <= self.left else view[: self.left])
        self.left -= n
        yield
        return n

    def close(self):
        self.f.close()


class FromServer:
    """A bundle on a server, a part at a time. The connection of `http` is kept from one part to the next."""

    def __init__(self, http, url, head, size, log):
        self.http = http
        self.url = url
        self.log = log
        self.response = None
        self.whole = False  # the server sends all of it, whatever is asked for, or is asked for all of it: it gets ranges wrong
        self.at = self.end = 0
        self.head = head
        self.size = size

    def go(self, begin, end):
        """From now on read() gives the bytes [begin, end). Generator."""
        if not (self.whole and self.response and self.at <= begin):
            if self.response and not self.whole:  # the rest of a group is on its way: cheaper than another connection
                yield from self._skip(self.end)
            yield from self._request(begin, end)
        self.end = begin
        yield from self._skip(begin)
        self.end = end

    def read_into(self, view):
        """Bytes of the part, as they arrive; their number, 0 at its end. Generator."""
        left = self.end - self.at
        if not left:
            return 0
        n = yield from self.response.read_into(view if len(view) <= left else view[:left])
        if not n:
            raise OtaError("connection_lost", "the server sent %d of %d bytes" % (self.at, self.size))
        self.at += n
        if self.at == self.end and not (self.whole and self.end < self.size):
            yield from self._ended()
        return n

    def close(self):
        if self.response:
            self.response.close()
            self.response = None

    def _skip(self, end):
        waste = memoryview(bytearray(512)) if self.at < end else None
        while self.at < end:
            yield from self.read_into(waste)

    def _request(self, begin, end):
        """Have an answer that holds the part. A server that gets ranges wrong is asked once without. Generator."""
        self.close()
        try:
            if not self.whole:
                yield from self._ask(begin, end)
                return
        except OtaError as error:
            if error.reason != "bad_response":
                raise
            if begin:  # once an update: for its files, not for the head
                self.log("%s: asking for all of it" % error)
            self.whole = True
            self.close()
        yield from self._ask(0, None)

    def _ask(self, begin, end):
        total_ms = _TOTAL_MS + 2 * (self.size if self.whole or not end else end - begin)
        response = self.response = yield from self.http.get(
            self.url, begin=begin, end=end, max_body=self.size, idle_ms=_IDLE_MS, total_ms=total_ms
        )
        if response.status == 206 and response.total in (None, self.size):
            self.at = begin
        elif response.status == 200 and response.content_length in (None, self.size):
            if begin and not self.whole:
                self.log("the server knows no ranges, as Python's http.server: of each bundle all is read")
            self.whole, self.at = True, 0
        elif response.status in (200, 206, 416):
            raise OtaError("bad_response", "the server has another file under this name now")
        else:
            raise response.error(self.url)

    def _ended(self):
        """The part is read; so must the answer be: nothing follows. Generator."""
        if (yield from self.response.read_into(memoryview(bytearray(1)))):
            raise OtaError("bad_response", "the server sends more than it has announced")
        self.close()
