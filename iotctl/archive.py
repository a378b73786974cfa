"""The archive of a bundle, a chain of gzip members that unpack to one ustar archive: written, and read in bounded memory.

A reader may begin at any member whose place it knows: each is unpacked for itself. Here is what makes and checks the bytes; what
is in them, the list and its rules, is bundle's business. docs/formats.md has every byte.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from iotctl import board_code
from modules.ota.errors import OtaError
from modules.ota.release.manifest import DIGEST, PIECE
from modules.ota.release.signature import KEY_BYTES


class Entry(NamedTuple):
    """A file in a bundle's list."""

    path: str
    size: int
    digest: bytes  # its SHA-256
    at: int  # where its group begins, counted from the end of the head


WINDOW = 12  # bits: a board needs 16 KB of heap to unpack it
GROUP = 8192  # bytes of tar in a group: see docs/decisions.md
MAX_LIST = 1024 * 1024
_LARGE = 4096  # bytes of a file that has a group of its own
_ALONE = ("version",)  # changes with every release: what is in its group would be fetched with every update
_GZIP = b"\x1f\x8b\x08\x04" + b"\0\0\0\0\x02\xff" + b"\x05\0WB\x01\0" + bytes((WINDOW,))
_NO_MATTER = slice(4, 10)  # of these: a time, how hard the packer tried, and on which system
_BLOCK = 512
_CHUNK = 64 * 1024


# -- writing


def gzip(*parts: bytes) -> bytes:
    """One gzip member with a 4 KiB window that says so in its extra field, without a time or a name.

    Each part has a deflate block of its own: what is random costs more among what is text than by itself.
    """
    squeeze, data = zlib.compressobj(9, zlib.DEFLATED, -WINDOW), b"".join(parts)
    body = b"".join(squeeze.compress(part) + squeeze.flush(zlib.Z_BLOCK) for part in parts[:-1])
    body += squeeze.compress(parts[-1]) + squeeze.flush()
    return _GZIP + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def gzip_stream(chunks: Iterable[bytes]) -> bytes:
    """The same of what never lies in memory as a whole."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -WINDOW)
    packed, crc, size = [_GZIP], 0, 0
    for chunk in chunks:
        packed.append(squeeze.compress(chunk))
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return b"".join([*packed, squeeze.flush(), struct.pack("<II", crc, size & 0xFFFFFFFF)])


def tar(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A whole ustar archive. A name that ends in ``/`` is a folder."""
    return b"".join(tar_member(name, data) for name, data in members) + END_OF_TAR


def tar_member(name: str, data: bytes) -> bytes:
    return _tar_header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def head(listing: bytes, signature: bytes | None) -> bytes:
    """The first gzip member: the list, and its signature where there is one. Digests and signature are as random as can be."""
    lines = _BLOCK + len(listing) - DIGEST * json.loads(listing.split(b"\n", 1)[0])["files"]
    member = tar_member(".release", listing)
    digests, padding = member[lines : _BLOCK + len(listing)], member[_BLOCK + len(listing) :]
    signed = b"" if signature is None else tar_member(".release.sig", signature)
    return gzip(member[:lines], digests, padding + signed)


def groups(sizes: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Neighbours that become one gzip member, in the order of their paths; what is larger than a piece has several, alone."""
    group: list[str] = []
    used = 0
    for path, size in sizes:
        need = _BLOCK + size + -size % _BLOCK
        alone = size > _LARGE or path in _ALONE
        if group and (alone or used + need > GROUP):
            yield group
            group, used = [], 0
        group.append(path)
        used += need
        if alone:
            yield group
            group, used = [], 0
    if group:
        yield group


def pack_group(members: Sequence[tuple[str, bytes]]) -> bytes:
    """The gzip members of one group: a single one, but of a large file one for each piece of it."""
    data = b"".join(tar_member(name, content) for name, content in members)
    size = len(members[0][1])
    if len(members) > 1 or size <= PIECE:
        return gzip(data)
    cuts = [0, *(_BLOCK + at for at in range(PIECE, size, PIECE)), len(data)]
    return b"".join(gzip(data[begin:end]) for begin, end in zip(cuts, cuts[1:], strict=False))


END_OF_TAR = bytes(2 * _BLOCK)
END = gzip(END_OF_TAR)  # the last gzip member: the end of the tar archive


def _tar_header(name: str, size: int) -> bytes:
    folder = name.endswith("/")
    mode, kind = (b"0000755\0", b"5") if folder else (b"0000644\0", b"0")
    owner = b"0000000\0" * 2
    block = name.encode().ljust(100, b"\0") + mode + owner + b"%011o\0" % size + b"%011o\0" % 0
    block += b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(64) + owner + bytes(155 + 12)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


# -- reading


class Reader:
    """Reads a bundle's archive once, from its beginning to its end; every failure is an OtaError.

    ``reader.listing`` and ``.signature`` are there at once, believed by nobody yet; ``.head`` is how long the first member is.

    :param f: open for reading, at its beginning.
    """

    def __init__(self, f: BinaryIO) -> None:
        self._chain = Chain(f)
        self._tar = board_code.tarfile().TarFile(fileobj=self._chain)
        self._chain.begin_member()
        self.listing = self._read_list()
        self.signature = None if self._chain.ended() else self._read_signature()
        self._end_of_member()
        self.head = self._chain.place

    def files(self, entries: Iterable[Entry], take: Callable[[str, bytes], None]) -> None:
        """Read the files of a checked list, which must be in their places, and the end, with nothing behind it.

        :param take: called with a path and a piece of its content.
        """
        at = None
        for entry in entries:
            if entry.at != at:
                at = entry.at
                self._end_of_member()
                self._begin_member(self.head + at, entry.path)
            self._file(entry, take)
        self._end_of_member()
        self._chain.begin_member()
        end = self._chain.read(2 * _BLOCK)
        if len(end) < 2 * _BLOCK:
            raise _cut_short()
        self._end_of_member()
        if any(end) or not self._chain.exhausted():
            raise OtaError("bad_member", "the archive contains what the release does not list")

    def _file(self, entry: Entry, take: Callable[[str, bytes], None]) -> None:
        path, size, digest = entry.path, entry.size, hashlib.sha256()
        member = self._next()
        if member is None or (member.name, member.size) != (path, size):
            raise OtaError("bad_member", f"the archive has not {path} in its place")
        for begin in range(0, size, PIECE):
            if begin:
                self._end_of_member()
                self._begin_member(None, path)
            piece = _step(member.subf.read, min(PIECE, size - begin))
            digest.update(piece)
            take(path, piece)
        _step(member.subf.skip)
        if digest.digest() != entry.digest:
            raise OtaError("bad_digest", f"{path} is not what was announced")

    def _read_list(self) -> bytes:
        member = self._next()
        if member is None or member.name != ".release":
            raise OtaError("bad_bundle", "the archive does not begin with .release: it is no bundle")
        if member.size > MAX_LIST:
            raise OtaError("too_large", f"the list of files has {member.size} bytes")
        return self._whole(member)

    def _read_signature(self) -> bytes:
        member = self._next()
        if (member.name, member.size) != (".release.sig", KEY_BYTES):
            raise OtaError("bad_signature", f"behind the list there is something else than a signature of {KEY_BYTES} bytes")
        return self._whole(member)

    def _whole(self, member: Any) -> bytes:
        data: bytes = _step(member.subf.read)
        _step(member.subf.skip)
        return data

    def _next(self) -> Any:
        """The tar member that comes next, a file; None where the gzip member ends instead."""
        member = None if self._chain.ended() else _step(self._tar.next)
        if member is not None and not member.isreg():
            raise OtaError("bad_member", f"{member.name} is no regular file")
        return member

    def _begin_member(self, place: int | None, path: str) -> None:
        if place not in (None, self._chain.place):
            raise OtaError("bad_member", f"{path} is not where the list says")
        self._chain.begin_member()

    def _end_of_member(self) -> None:
        if not self._chain.ended():
            raise OtaError("bad_bundle", "a part of the archive is longer than announced")


class Chain:
    """The gzip members of a file, one after the other, as a stream that ends with each of them."""

    def __init__(self, f: BinaryIO) -> None:
        self._f = f
        self._raw = b""  # read, and not yet unpacked
        self._out = b""  # unpacked, and not yet taken
        self._inflater = zlib.decompressobj(-WINDOW)
        self._crc = self._size = 0
        self._open = False
        self.place = 0  # where the member ends, or will begin

    def begin_member(self) -> None:
        """Begin with the next one."""
        start = self._take(len(_GZIP))
        if _without(start) != _without(_GZIP):
            raise OtaError("bad_bundle", "this is no gzip archive, or not made as a bundle is")
        self._inflater = zlib.decompressobj(-WINDOW)
        self._crc = self._size = 0
        self._open = True

    def exhausted(self) -> bool:
        """True when nothing follows the member that has ended."""
        self._raw = self._raw or self._f.read(1)
        return not self._raw

    def ended(self) -> bool:
        """True when all of this member has been taken. Its checksum and size were right then."""
        self._fill()
        return not self._out

    def readinto(self, view: memoryview) -> int:
        self._fill()
        part = self._out[: len(view)]
        view[: len(part)] = part
        self._out = self._out[len(part) :]
        return len(part)

    def read(self, size: int) -> bytes:
        """So many bytes, or what is left of the member."""
        out = bytearray(size)
        done = 0
        while done < size and (n := self.readinto(memoryview(out)[done:])):
            done += n
        return bytes(out[:done])

    def _fill(self) -> None:
        while self._open and not self._out:
            if self._inflater.eof:
                self._end()
                return
            if not self._raw:
                self._raw = self._f.read(_CHUNK)
                if not self._raw:
                    raise _cut_short()
            given = len(self._raw)
            try:
                self._out = self._inflater.decompress(self._raw, _CHUNK)
            except zlib.error:
                raise OtaError("bad_bundle", "the archive is damaged") from None
            self._raw = self._inflater.unconsumed_tail or self._inflater.unused_data
            self.place += given - len(self._raw)
            self._crc = zlib.crc32(self._out, self._crc)
            self._size += len(self._out)

    def _end(self) -> None:
        self._open = False
        if struct.unpack("<II", self._take(8)) != (self._crc, self._size & 0xFFFFFFFF):
            raise OtaError("bad_bundle", "a checksum of the archive is wrong")

    def _take(self, size: int) -> bytes:
        while len(self._raw) < size and (more := self._f.read(_CHUNK)):
            self._raw += more
        taken, self._raw = self._raw[:size], self._raw[size:]
        if len(taken) < size:
            raise _cut_short()
        self.place += len(taken)
        return taken


def head_of(data: bytes) -> tuple[int, str]:
    """Bytes of the first gzip member of a bundle, and the SHA-256 of the list in it. OtaError where there is none."""
    reader = Reader(BytesIO(data))
    return reader.head, hashlib.sha256(reader.listing).hexdigest()


def _without(start: bytes) -> bytes:
    return start[: _NO_MATTER.start] + start[_NO_MATTER.stop :]


def _step(method: Callable[..., Any], *args: Any) -> Any:
    """The result of one of lib/tarfile's methods; its TarError is an OtaError."""
    try:
        return method(*args)
    except ValueError as error:
        raise OtaError("bad_bundle", str(error)) from None


def _cut_short() -> OtaError:
    return OtaError("bad_bundle", "the archive is cut short")
