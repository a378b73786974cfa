"""Reading ustar archives, with micropython-lib's interface and no trust in what is read.

    with open("a.tar", "rb") as f:
        for member in TarFile(fileobj=f):
            print(member.name, member.type, member.size)

1. A header's checksum must be right, its magic ``ustar``, its numbers octal digits, its name UTF-8 without a byte behind its end.
2. A file has at most 1 GiB; what is neither a file nor a pax or GNU extension has no content.
3. An archive ends with a zero block, followed by at most 63 more. One that just stops is damaged.
4. Links, devices and extensions are given out with their type: what to make of them is the caller's business.

Everything else is a TarError. Names are not judged: ``../x`` comes out as it is. Constant memory: one block of 512 bytes
and no content. Members are read in order; the next one ends the reading of the one before it.
"""

try:
    from micropython import const
except ImportError:

    def const(value):
        return value


REGTYPE = "file"
DIRTYPE = "dir"
_EXTENSION = "an extension"  # pax and GNU headers, which say something about the member behind them
# By the code of the type's letter. Long words and numbers: a board keeps every short word for ever.
_TYPES = {
    0: REGTYPE,
    48: REGTYPE,
    49: "a hard link",
    50: "a symbolic link",
    51: "a character device",
    52: "a block device",
    53: DIRTYPE,
    54: "a named pipe",
    75: _EXTENSION,
    76: _EXTENSION,
    103: _EXTENSION,
    120: _EXTENSION,
}
_BLOCK = const(512)
_MAX_SIZE = const(1 << 30)
_MAX_END = const(64)  # zero blocks: GNU tar fills up its record of 20
_SPACE = const(32)


class TarError(ValueError):
    """The archive is damaged, or is no ustar archive."""


class TarInfo:
    """A member: ``name``, ``size`` in bytes, ``type`` (REGTYPE, DIRTYPE, or words for a person), ``mode`` (permission bits)."""

    def __init__(self, name="", size=0, type=REGTYPE, mode=0o644):
        self.name = name
        self.size = size
        self.type = type
        self.mode = mode
        self.subf = None

    def isdir(self):
        return self.type == DIRTYPE

    def isreg(self):
        return self.type == REGTYPE

    def __str__(self):
        return "TarInfo(%r, %s, %d)" % (self.name, self.type, self.size)


class FileSection:
    """The content of one member, to be read once from its beginning to its end."""

    def __init__(self, f, size):
        self.f = f
        self.content_len = size
        self.align = -size % _BLOCK

    def read(self, size=-1):
        """Exactly `size` bytes, or what is left if that is less; TarError when the archive ends before."""
        if size < 0 or size > self.content_len:
            size = self.content_len
        data = self.f.read(size) if size else b""
        while len(data or b"") < size:
            more = data and self.f.read(size - len(data))
            if not more:
                raise TarError("the archive is cut short")
            data += more
        self.content_len -= size
        return data

    def readinto(self, buf):
        """Fill the beginning of `buf`; returns the number of bytes, 0 at the end of the member."""
        if len(buf) > self.content_len:
            buf = memoryview(buf)[: self.content_len]
        if not len(buf):
            return 0
        n = self.f.readinto(buf)
        if not n:
            raise TarError("the archive is cut short")
        self.content_len -= n
        return n

    def skip(self, block=None):
        """Read past the rest of the member, and past what fills up its last block."""
        block = memoryview(block or bytearray(_BLOCK))
        self.content_len += self.align
        self.align = 0
        while self.readinto(block):
            pass


class TarFile:
    """The members of an archive, in order.

    :param name: a file to open, or
    :param fileobj: an open one: ``readinto(buffer)`` and ``read(n)``. It stays open.
    """

    def __init__(self, name=None, mode="r", fileobj=None):
        if mode != "r":
            raise ValueError("only for reading")
        self._own = None if fileobj else open(name, "rb")
        self.f = fileobj or self._own
        self._block = bytearray(_BLOCK)
        self._section = None
        self._ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        member = self.next()
        if member is None:
            raise StopIteration
        return member

    def next(self):
        """The next TarInfo, or None at the end of the archive."""
        if self._section:
            self._section.skip(self._block)
            self._section = None
        if self._ended:
            return None
        if not self._fill():
            raise TarError("the archive is cut short")
        if not any(self._block):
            self._end()
            return None
        member = _parse(self._block)
        self._section = member.subf = FileSection(self.f, member.size)
        return member

    def extractfile(self, member):
        """The content of a member that next() has just returned."""
        return member.subf

    def close(self):
        if self._own:
            self._own.close()

    def _end(self):
        """Read on to the very end, so that a reader below that keeps a checksum comes to check it."""
        self._ended = True
        blocks = 1
        while self._fill():
            blocks += 1
            if blocks > _MAX_END or any(self._block):
                raise TarError("there is something behind the end of the archive")

    def _fill(self):
        """Read one block; False at the end of the file."""
        view = memoryview(self._block)
        done = 0
        while done < _BLOCK:
            n = self.f.readinto(view[done:] if done else view)
            if not n:
                if done:
                    raise TarError("the archive is cut short")
                return False
            done += n
        return True


def _parse(block):
    if _number(block, 148, 8) != sum(block) - sum(block[148:156]) + 8 * _SPACE:
        raise TarError("a header's checksum is wrong")
    magic = bytes(block[257:265])
    if magic != b"ustar\x0000" and magic != b"ustar  \0":
        raise TarError("not an ustar archive")
    for offset, length in ((108, 8), (116, 8), (136, 12)):  # uid, gid, mtime: not used, but they must be sound
        _number(block, offset, length)
    size = _number(block, 124, 12)
    name = _text(block, 0, 100)
    if magic[5] == 0 and block[345]:
        name = _text(block, 345, 155) + "/" + name
    kind = _TYPES.get(block[156], "of an unknown type")
    if kind == REGTYPE and name.endswith("/"):  # how folders were written before there was a type for them
        kind = DIRTYPE
    if size > _MAX_SIZE or (size and kind not in (REGTYPE, _EXTENSION)):
        raise TarError("%s has an impossible size" % name)
    return TarInfo(name, size, kind, _number(block, 100, 8) & 0o7777)


def _number(block, offset, length):
    """Octal digits, then nothing but spaces and zero bytes."""
    value = digits = 0
    for i in range(offset, offset + length):
        c = block[i]
        if 48 <= c <= 55 and digits == i - offset:
            value = value * 8 + c - 48
            digits += 1
        elif c != _SPACE and c:
            raise TarError("a header has a number that is not octal")
    if not digits:
        raise TarError("a header lacks a number")
    return value


def _text(block, offset, length):
    """UTF-8 up to the first zero byte, behind which there is nothing else."""
    end = block.find(b"\0", offset, offset + length)
    if end < 0:
        end = offset + length
    if end == offset or any(block[end : offset + length]):
        raise TarError("a header's name is empty or has a zero byte in it")
    try:
        return str(block[offset:end], "utf-8")
    except UnicodeError:
        raise TarError("a header's name is not UTF-8")
