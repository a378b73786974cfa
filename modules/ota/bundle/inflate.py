"""Gzip members, one after the other, unpacked as their bytes arrive.

MicroPython's decompressor cannot go on after a read that would have blocked. So a step begins only when more bytes lie in the
buffer than it can need: deflate takes at most 15 bits for a byte, and 300 bytes for the head of a block. It reads them
from a BytesIO, in C.
"""

import gc
import io

from micropython import const

from .. import phases
from ..errors import OtaError

try:
    from deflate import RAW, DeflateIO
except ImportError:  # a firmware without it
    DeflateIO = None

BLOCK = 512  # of a tar archive
_ROOM = const(1024)  # bytes of the buffers
_ENOUGH = const(800)  # for a step of _STEP bytes
_STEP = const(256)
_HEAD = const(17)  # bytes of a member's gzip header with its extra field
_WINDOW = const(12)  # bits: 4 KiB
_TAIL = const(8)


class Unpacker:
    """The unpacked bytes of a bundle's members, from a source of transport.ranges."""

    def __init__(self, source):
        if DeflateIO is None:  # said before a download, not after it
            raise OtaError("no_deflate", "this firmware has no deflate module: flash a full build of MicroPython 1.22 or newer")
        self.source = source
        own = phases.buffers or (io.BytesIO(bytearray(_ROOM)), memoryview(bytearray(_ROOM)))
        self._bytes, self.view = own[:2]  # what is not yet unpacked lies at the end of the first
        self._bytes.seek(_ROOM)
        self._end = 0  # where in the bundle the buffer ends
        self._stream = None
        self._first = False  # True before the first read of a member

    @property
    def at(self):
        """Where in the bundle the next byte is."""
        return self._end - _ROOM + self._bytes.tell()

    def go(self, begin, end):
        """Go on at `begin`, with the bytes up to `end`. Generator."""
        yield from self.source.go(begin, end)
        self._bytes.seek(_ROOM)
        self._end = begin

    def begin(self, at):
        """A member begins at `at`, which lies ahead. Generator."""
        while True:
            yield from self._fill()
            ahead = at - self.at
            held = _ROOM - self._bytes.tell()
            if ahead < 0 or (ahead and not held):
                raise OtaError("bad_member", "a part of the bundle is not where its list says")
            if ahead <= held:
                break
            self._bytes.seek(_ROOM)
        self._bytes.seek(self._bytes.tell() + ahead)
        yield from self._fill()
        head = self._bytes.read(_HEAD)
        if head[:4] != b"\x1f\x8b\x08\x04" or head[10:16] != b"\x05\x00WB\x01\x00" or not 8 <= (head + b"\0")[16] <= _WINDOW:
            raise OtaError("bad_bundle", "a part of the bundle is no gzip member with a window of 4 KiB")
        self._first = True

    def take(self, view, last=False):
        """Fill `view` with the next unpacked bytes. Generator; OtaError ``bad_bundle`` when the member has fewer. Where it may
        be the `last` time, False says that the member has ended, and is left behind.
        """
        done = 0
        while done < len(view):
            yield from self._fill()
            n = self._unpack(view[done : done + _STEP])
            if not n:
                if done or not last:
                    raise OtaError("bad_bundle", "a part of the bundle is shorter than announced")
                yield from self._fill()
                if len(self._bytes.read(_TAIL)) < _TAIL:  # what it says is not checked, for each file has its digest
                    raise OtaError("bad_bundle", "the bundle is cut short")
                return False
            done += n
            yield
        return True

    def end(self):
        """The member must end here. Generator."""
        if (yield from self.take(memoryview(bytearray(1)), True)):
            raise OtaError("bad_bundle", "a part of the bundle is longer than announced")

    def copy(self, size, view, digest=None, out=None):
        """Unpack `size` bytes into the digest and the file `out`, if there are such. Generator."""
        while size:
            part = view if size >= len(view) else view[:size]
            yield from self.take(part)
            if digest:
                digest.update(part)
            if out:
                yield phases.alone
                out.write(part)
                yield
            size -= len(part)

    def tar_head(self, view):
        """``(path, size)`` of the regular file whose ustar header comes next; None where the member ends instead. Generator."""
        raw = view[:BLOCK]
        if not (yield from self.take(raw, True)):
            return None
        name, size = bytes(raw[:100]).rstrip(b"\0"), bytes(raw[124:136]).rstrip(b"\0 ")
        given = bytes(raw[148:156]).rstrip(b"\0 ")
        try:
            good = size.isdigit() and int(given, 8) == sum(raw) - sum(raw[148:156]) + 8 * 32 and raw[257:262] == b"ustar"
            found = name.decode(), int(size, 8)
        except ValueError:  # no number, or no text
            good = False
        if not good:
            raise OtaError("bad_bundle", "the bundle is no ustar archive")
        if raw[156] not in b"0\0" or any(raw[157:257]) or any(raw[345:500]):
            raise OtaError("bad_member", "%s is no regular file" % found[0])
        return found

    def _fill(self):
        """Have enough for a step, or all that there is. Generator."""
        held = _ROOM - self._bytes.tell()
        if held >= _ENOUGH:
            return
        view = self.view
        self._bytes.readinto(view[:held])
        while held < _ROOM:
            n = yield from self.source.read_into(view[held:])
            if not n:
                break
            held += n
            self._end += n
        self._bytes.seek(_ROOM - held)
        self._bytes.write(view[:held])
        self._bytes.seek(_ROOM - held)

    def _unpack(self, view):
        try:
            if self._first:
                self._first = False
                self._stream = None
                phases.place.clear()
                gc.collect()  # the window takes 4 KiB in one piece, with the first read: nothing may come between
                self._stream = DeflateIO(self._bytes, RAW, _WINDOW)
            return self._stream.readinto(view)
        except (OSError, EOFError, ValueError):
            raise OtaError("bad_bundle", "the bundle is damaged or cut short")
        except MemoryError:
            raise OtaError("no_memory", "too little memory to unpack the bundle")
