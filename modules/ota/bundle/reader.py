"""Reading a bundle in place: only the members with files that the stage needs are fetched (transport.ranges).

Each file must be the regular file that the checked list has in that place, with its size and its digest; it is unpacked and
hashed once, in constant memory. Where the bundle is read up to its end, that must be the end of the archive.
"""

from micropython import const

from ..errors import OtaError
from ..install.stage import Stage
from ..transport import ranges
from .inflate import BLOCK, Unpacker
from .lists import entries, following

PIECE = 32768  # release.manifest has it too: importing that would load all rules of a list (a test compares them)
_PART = const(4096)  # bytes of a file between two words about the progress


def read(ota, offer, base, wanted, total):
    """Fetch and unpack what is wanted into the stage. Generator.

    :param base: bytes of the head: the list counts from there.
    :param wanted: with `total`: what install.prepare has found out.
    """
    source = ranges.source(ota, offer)
    try:
        yield from read_files(source, base, ota.view, Stage(ota, wanted, total))
    finally:
        source.close()


def read_files(source, base, view, visitor):
    """The same from a source of transport.ranges, for a visitor such as stage.Stage."""
    unpacker, size = Unpacker(source), source.size
    listed = entries()
    try:
        item = following(listed)
        for begin, end, last in ranges.runs(entries(), visitor.start, size - base):
            if not begin < end <= size - base:
                raise OtaError("bad_bundle", "its list names places beyond the end of the bundle")
            yield from unpacker.go(base + begin, base + end)
            group = None
            while item and item[0] <= last:
                n, entry = item
                if entry["at"] != group:
                    group, opened, skip = entry["at"], False, 0
                start = visitor.start(n, entry)
                if start is None:
                    skip += BLOCK + entry["size"] + -entry["size"] % BLOCK
                else:
                    if not opened:
                        yield from unpacker.begin(base + start)
                        opened = True
                    yield from unpacker.copy(skip, view)
                    skip = 0
                    yield from _read_file(unpacker, base, n, entry, view, visitor)
                item = following(listed)
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
        if not done and (yield from unpacker.tar_head(view)) != (entry["path"], entry["size"]):
            raise OtaError("bad_member", "the bundle has not %s in its place" % entry["path"])
        while done < entry["size"]:
            part = min(entry["size"] - done, _PART)
            yield from unpacker.copy(part, view, digest, out)
            done += part
            visitor.wrote(part)
            if done < entry["size"] and done % PIECE == 0:
                yield from unpacker.end()
                visitor.checkpoint(n, out, done, unpacker.at - base)
                yield from unpacker.begin(unpacker.at)
        yield from unpacker.take(view[: -done % BLOCK])
    finally:
        out.close()
    visitor.written(entry, digest)


def _check_end(unpacker, size, view):
    """Two empty blocks, and nothing else. Generator."""
    end = view[: 2 * BLOCK]
    yield from unpacker.begin(unpacker.at)
    yield from unpacker.take(end)
    yield from unpacker.end()
    if any(end) or unpacker.at != size:
        raise OtaError("bad_member", "the bundle contains what its list does not")
