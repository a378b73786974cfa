"""The body of an answer, read as it arrives: see http. What lives as long as a download."""

from .connection import LINE, bad
from .errors import OtaError

_MAX_CHUNK_LINE = 64
_MAX_TRAILERS = 1024


class Response:
    """An answer: ``status``, and what was sent of ``etag content_length content_range retry_after``, else None.

    ``content_range`` is (first byte, last byte, total or None), ``retry_after`` seconds. ``length_known`` is False where only
    the end of the connection ends the body: then the caller must know its size to tell a whole one from a cut one.
    """

    def __init__(self, connection, max_body):
        self.connection = connection
        self.most = max_body
        self._received = 0
        self.chunked = False
        self._first = True  # chunk
        self.left = None  # bytes of the body or of the chunk, None until the connection ends
        self.status = 0
        self.length_known = False
        self.etag = self.content_length = self.content_range = self.retry_after = self.location = None

    @property
    def wire_in(self):
        return self.connection.wire_in

    @property
    def wire_out(self):
        return self.connection.wire_out

    def close(self):
        self.connection.close()

    def detach(self):
        """The socket, what has arrived of the body, and ``wire_in``, ``wire_out``: from now on the caller reads and closes it.

        OtaError where the length of the body is not plain: then only read_into() knows where it ends.
        """
        if self.chunked or self.content_length is None:
            raise bad("it does not say how long it is")
        return self.connection.detach()

    def read_into(self, view):
        """Read the next bytes of the body into a memoryview; their number, 0 at the end. Generator."""
        if self.chunked and self.left == 0:
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
        self._count(n)
        yield
        return n

    def _next_chunk(self):
        """The line before a chunk; after the last one the trailers, which are ignored. Generator."""
        connection = self.connection
        if not self._first and (yield from connection.line(2)):
            raise bad("a chunk has another size than announced")
        self._first = False
        size = (yield from connection.line(_MAX_CHUNK_LINE)).partition(b";")[0].strip().lower()
        if not 0 < len(size) < 8 or not all(c in b"0123456789abcdef" for c in size):
            raise bad("a chunk has no proper size")
        self.left = int(size, 16)
        if self._received + self.left > self.most:
            raise self.too_large()
        if not self.left:
            budget = _MAX_TRAILERS
            while (line := (yield from connection.line(LINE))) and budget > 0:
                budget -= len(line) + 2
            if line:
                raise bad("it does not end after its end")
            self.chunked = False

    def _count(self, n):
        self._received += n
        if self._received > self.most:
            raise self.too_large()

    def too_large(self):
        return OtaError("too_large", "the server sends more than %d bytes" % self.most)
