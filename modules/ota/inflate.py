"""Decompressing an archive on flash.

The window of our own bundles and the decompressor's tables take 5.4 KB of heap, the window of any other gzip file up to 32 KB
more, in one piece: see room.
"""

from .errors import OtaError

try:
    import deflate
except ImportError:
    deflate = None


def check_firmware():
    """OtaError ``no_deflate`` on a firmware that cannot unpack anything: said before a download, not after it."""
    if deflate is None:
        _gzip()


class Gzip:
    """A decompressing reader whose errors are OtaErrors ``bad_bundle`` and ``no_memory``; close it to get its memory back.

    :param source: the archive's path, or a stream that can go back to its beginning: see stream.
    :param room: room.Room, the memory that is kept for it; None where memory is no question.
    """

    def __init__(self, source, room=None):
        self._room = room
        self._f = open(source, "rb") if isinstance(source, str) else source
        try:
            self._open()
        except OtaError as error:
            if error.reason != "no_memory" or not room:
                self.close()
                raise
            room.give_all()
            self._reopen()

    def _open(self):
        self._stream = _open_stream(self._f)
        read, first = self._stream.readinto, bytearray(1)  # made beforehand: in the room they would take the decompressor's place
        if self._room:
            self._room.give()
        n = self._guard(read, first)  # makes it take its memory now
        self._first = bytes(first[:n])

    def _reopen(self):
        self._stream = None
        self._f.seek(0)
        try:
            self._open()
        except OtaError:
            self.close()
            raise

    def readinto(self, view):
        """Fill `view` as far as it goes; 0 at the end."""
        if not self._first or not len(view):
            return self._guard(self._stream.readinto, view)
        view[0] = self._first[0]
        self._first = None
        return 1 + (self._guard(self._stream.readinto, view[1:]) if len(view) > 1 else 0)

    def read(self, n):
        first, self._first = self._first or b"", None
        return first + self._guard(self._stream.read, n - len(first))

    def finish(self):
        """The end: a stream checks that it was what was announced; a file on flash was checked before. Generator."""
        if hasattr(self._f, "finish"):
            yield from self._f.finish()

    def close(self):
        self._f.close()
        self._stream = None
        if self._room:
            self._room.take()
            self._room = None

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def _guard(self, method, argument):
        try:
            return method(argument)
        except (OSError, EOFError, ValueError):
            raise OtaError("bad_bundle", "the archive is damaged or cut short")
        except MemoryError:
            raise OtaError("no_memory", "too little memory to unpack the archive")


def _open_stream(f):
    window = _window(f)
    if deflate:
        return deflate.DeflateIO(f, deflate.GZIP, window)
    return _gzip().GzipFile(fileobj=f, mode="rb")


def _gzip():
    try:
        import gzip  # CPython: host tools and tests
    except ImportError:
        raise OtaError("no_deflate", "this firmware has no deflate module: flash a full build of MicroPython 1.22 or newer")
    return gzip


def _window(f):
    """The window's bits from gzip's extra field ``WB`` (RFC 1952), or 15, the most that gzip can need."""
    start = f.read(17)
    f.seek(0)
    if start[:3] != b"\x1f\x8b\x08":
        raise OtaError("bad_bundle", "this is no gzip archive")
    if len(start) == 17 and start[3] & 4 and start[12:16] == b"WB\x01\x00" and 8 <= start[16] <= 15:
        return start[16]
    return 15
