"""Reading a bundle in place: everything that a release must be is checked here, in constant memory.

A bundle is a chain of gzip members that unpack to one ustar archive (docs/formats.md). It is read in this order:

1. head, the first member: ``.release`` is copied to ``/.ota/list`` while it is hashed; nothing of it is believed before its
   signature is right. Then the header must be for this board (policy), the entries whole and in order (manifest).
2. The visitor says which files it needs. Only their members are fetched (transport.ranges); each file must be the regular
   file that the list has in that place, with its size and its digest, and is unpacked and hashed once.
3. Where the bundle is read up to its end, that must be the end of the archive.

A `visitor` (install.stage.Stage) has ``begin(header, digest, signature)``; ``start(n, entry)``, where in the bundle to begin
with a file, None for one that it does not want; ``open(n, entry)``, ``wrote(size)``,
``checkpoint(n, out, done, at)`` and ``written(entry, digest)``.
"""

import hashlib

import ota_boot

from ..errors import OtaError
from ..install import files
from ..release import manifest, policy, signature
from ..transport import ranges
from .inflate import Unpacker, check_firmware
from .lists import LIST, entries

_BLOCK = 512
_MAX_LIST = 1024 * 1024
_SIGNATURE = 384
_LINE = 256
_PART = 4096  # bytes of a file between two words about the progress


class FromFile:
    """A bundle that lies on flash: an upload, or from a USB stick."""

    head = None  # nobody has announced how long it is

    def __init__(self, path):
        self._f = open(path, "rb")
        self.size = self._f.seek(0, 2)
        self._left = 0

    def go(self, begin, end):
        self._f.seek(begin)
        self._left = end - begin
        yield

    def read_into(self, view):
        n = self._f.readinto(view if len(view) <= self._left else view[: self._left])
        self._left -= n
        yield
        return n

    def close(self):
        self._f.close()


def read(source, rules, view, visitor):
    """Check the bundle, and give the visitor the files that it wants. Generator; returns the header.

    :param source: ranges.FromServer or FromFile; the caller closes it.
    :param rules: policy.Rules, what this board accepts.
    :param view: the job's buffer, at least 1 KiB.
    """
    unpacker, header = yield from read_head(source, rules, view, visitor)
    yield from _read_files(unpacker, unpacker.at, source.size, view, visitor)
    return header


def read_head(source, rules, view, visitor):
    """The same, up to what the visitor says to the list. Generator; returns the Unpacker, behind the head, and the header."""
    check_firmware()
    unpacker = Unpacker(source)
    yield from unpacker.go(0, source.head or source.size)
    yield from unpacker.begin(0)
    digest = yield from _save_list(unpacker, view)
    sig = yield from _signature(unpacker, view)
    if source.head not in (None, unpacker.at):
        raise OtaError("bad_bundle", "the head of the bundle is not as long as announced")
    if rules.keys:
        signature.check(digest, sig, rules.keys)
        yield
    header = yield from check_list(rules)
    yield from visitor.begin(header, digest, sig)
    return unpacker, header


def check_list(rules):
    """Check ``/.ota/list``: header, entries, their order, count and sizes. Generator; returns the header.

    :param rules: policy.Rules; None where nobody knows for which board it is.
    """
    with open(ota_boot.ota(LIST), "rb") as f:
        header = manifest.parse_header(_line(f, manifest.MAX_HEADER))
        if rules:
            policy.check_header(header, rules)
        count = total = 0
        entry = None
        while line := _line(f, manifest.MAX_LINE):
            entry = manifest.parse_entry(line, entry)
            count += 1
            total += entry["size"]
            yield
    if count != header["files"] or total != header["size"]:
        raise OtaError("bad_bundle", "the release announces another number or size of files than it lists")
    return header


def _save_list(unpacker, view):
    """Copy ``.release`` to flash and return its SHA-256. Generator."""
    head = yield from _tar_head(unpacker, view)
    if head is None or head[0] != ".release":
        raise OtaError("bad_bundle", "the bundle does not begin with .release")
    size, path = head[1], ota_boot.ota(LIST)
    if size > _MAX_LIST:
        raise OtaError("too_large", "the list of files has %d bytes" % size)
    need, free = files.blocks(size) * files.block_size(), files.free_bytes()
    if need > free:
        raise OtaError("no_space", "the list of files needs %d bytes, %d are free" % (need, free))
    digest = hashlib.sha256()
    ota_boot.make_parents(path)
    with open(path, "wb") as out:
        yield from _copy(unpacker, size, view, digest, out)
    yield from unpacker.take(view[: -size % _BLOCK])
    return digest.digest()


def _signature(unpacker, view):
    """The raw signature if the head carries one, else None. The head must end then. Generator."""
    head = yield from _tar_head(unpacker, view)
    if head is None:
        return None
    if head != (".release.sig", _SIGNATURE):
        raise OtaError("bad_signature", "behind the list there is something else than a signature of %d bytes" % _SIGNATURE)
    yield from unpacker.take(view[:_BLOCK])
    found = bytes(view[:_SIGNATURE])
    yield from unpacker.end()
    return found


def _read_files(unpacker, base, size, view, visitor):
    """Fetch and unpack what the visitor wants. Generator.

    :param base: bytes of the head: the list counts from there.
    """
    listed = entries()
    try:
        item = next(listed, None)
        for begin, end, last in ranges.runs(entries(), visitor.start, size - base):
            if not begin < end <= size - base:
                raise OtaError("bad_bundle", "the bundle is shorter than its list says")
            yield from unpacker.go(base + begin, base + end)
            group = None
            while item and item[0] <= last:
                n, entry = item
                if entry["at"] != group:
                    group, opened, skip = entry["at"], False, 0
                start = visitor.start(n, entry)
                if start is None:
                    skip += _BLOCK + entry["size"] + -entry["size"] % _BLOCK
                else:
                    if not opened:
                        yield from unpacker.begin(base + start)
                        opened = True
                    yield from _drop(unpacker, skip, view)
                    skip = 0
                    yield from _read_file(unpacker, base, n, entry, view, visitor)
                item = next(listed, None)
                if opened and not skip and (item is None or item[1]["at"] != group):
                    yield from unpacker.end()
                    if item and unpacker.at != base + item[1]["at"]:
                        raise OtaError("bad_member", "%s is not where the list says" % item[1]["path"])
                    if item is None:
                        yield from _check_end(unpacker, size, view)
                yield
    finally:
        listed.close()  # with its file: one that a failure leaves to the garbage collector is closed at any odd moment


def _read_file(unpacker, base, n, entry, view, visitor):
    """One file: its bytes to the visitor, its digest as the list has it. A large one comes in several members. Generator."""
    out, digest, done = yield from visitor.open(n, entry)
    try:
        if not done and (yield from _tar_head(unpacker, view)) != (entry["path"], entry["size"]):
            raise OtaError("bad_member", "the bundle has not %s in its place" % entry["path"])
        while done < entry["size"]:
            part = min(entry["size"] - done, _PART)
            yield from _copy(unpacker, part, view, digest, out)
            done += part
            visitor.wrote(part)
            if done < entry["size"] and done % manifest.PIECE == 0:
                yield from unpacker.end()
                visitor.checkpoint(n, out, done, unpacker.at - base)
                yield from unpacker.begin(unpacker.at)
        yield from unpacker.take(view[: -done % _BLOCK])
    finally:
        out.close()
    visitor.written(entry, digest)


def _check_end(unpacker, size, view):
    """Two empty blocks, and nothing else. Generator."""
    end = view[: 2 * _BLOCK]
    yield from unpacker.begin(unpacker.at)
    yield from unpacker.take(end)
    yield from unpacker.end()
    if any(end) or unpacker.at != size:
        raise OtaError("bad_member", "the bundle contains what its list does not")


def _copy(unpacker, size, view, digest, out):
    """Unpack `size` bytes into the digest and the file `out`. Generator."""
    while size:
        part = view if size >= len(view) else view[:size]
        yield from unpacker.take(part)
        digest.update(part)
        out.write(part)
        size -= len(part)


def _drop(unpacker, size, view):
    while size:
        part = view if size >= len(view) else view[:size]
        yield from unpacker.take(part)
        size -= len(part)


def _tar_head(unpacker, view):
    """``(path, size)`` of the regular file whose ustar header comes next; None where the member ends instead. Generator."""
    block = view[:_BLOCK]
    if not (yield from unpacker.take(block, True)):
        return None
    raw = bytes(block)
    name, size, given = raw[:100].rstrip(b"\0"), raw[124:136].rstrip(b"\0 "), raw[148:156].rstrip(b"\0 ")
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


def _line(f, most):
    """The next line without its end, 1 to `most` bytes; empty at the end of the file."""
    line = piece = f.readline(_LINE)  # readline() takes as much memory as it may return: so in pieces
    while len(piece) == _LINE and piece[-1] != 10 and len(line) <= most:
        piece = f.readline(_LINE)
        line += piece
    if line and (line[-1] != 10 or not 1 < len(line) <= most + 1):  # an empty one would look like the end, and hide the rest
        raise OtaError("bad_bundle", "a line of the release is empty, too long or not ended")
    return line[:-1]
