"""Reading a bundle in place: first its head, then only the members with files that the stage needs (transport.ranges).

The head, the first member, is the list of the files, and its signature; nothing of it is believed yet.

Each file must be the regular file that the checked list has in that place, with its size and its digest; it is unpacked and
hashed once, in constant memory. Where the bundle is read up to its end, that must be the end of the archive.
"""

import binascii
import hashlib

import ota_boot
from micropython import const

from .. import phases
from ..errors import OtaError
from ..install.stage import Stage
from ..transport import ranges
from .inflate import BLOCK, Unpacker
from .lists import LIST, entries, following

PIECE = 32768  # release.manifest has it too: importing that would load all rules of a list (a test compares them)
_MAX_LIST = const(1024 * 1024)
_SIGNATURE = const(384)
_HEADER = const(4097)  # as release.manifest's, with its line feed
_PART = const(4096)  # bytes of a file between two words about the progress


def fetch_head(ota, offer, only=None):
    """Copy ``.release`` to ``/.ota/list``, or only its beginning to the BytesIO `only`. Generator; returns its SHA-256, its
    signature or None, and the bytes of the head.
    """
    source = ranges.source(ota, offer)
    try:
        found = yield from read_head(source, ota.view, only)
    finally:
        source.close()
    if offer and binascii.hexlify(found[0]).decode() != offer["sha256"]:
        raise OtaError("bad_digest", "the list of files is not the one that was announced")
    return found


def read_head(source, view, only=None):
    """The same from a source of transport.ranges."""
    unpacker = Unpacker(source)
    yield from unpacker.go(0, source.head or source.size)
    yield from unpacker.begin(0)
    digest = yield from _save_list(unpacker, view, only)
    signature = yield from _signature(unpacker, view)
    if source.head not in (None, unpacker.at):
        raise OtaError("bad_bundle", "the head of the bundle is not as long as announced")
    return digest, signature, unpacker.at


def _save_list(unpacker, view, only):
    found = yield from unpacker.tar_head(view)
    if found is None or found[0] != ".release":
        raise OtaError("bad_bundle", "the bundle does not begin with .release")
    size, path = found[1], ota_boot.ota(LIST)
    if size > _MAX_LIST:
        raise OtaError("too_large", "the list of files has %d bytes" % size)
    digest = hashlib.sha256()
    yield phases.alone
    ota_boot.make_parents(path)
    yield
    if only:
        yield from unpacker.copy(min(size, _HEADER), view, digest, only)
        yield from unpacker.copy(max(size - _HEADER, 0), view, digest)
        only.seek(0)
    else:
        yield phases.alone
        with open(path, "wb") as out:
            yield  # to make a file, to write it and to close it are a step each
            yield from unpacker.copy(size, view, digest, out)
            yield phases.alone
        yield
    yield from unpacker.take(view[: -size % BLOCK])
    return digest.digest()


def _signature(unpacker, view):
    """The raw signature if the head carries one. The head must end behind it. Generator."""
    found = yield from unpacker.tar_head(view)
    if found is None:
        return None
    if found != (".release.sig", _SIGNATURE):
        raise OtaError("bad_signature", "behind the list there is something else than a signature of %d bytes" % _SIGNATURE)
    yield from unpacker.take(view[:BLOCK])
    signature = bytes(view[:_SIGNATURE])
    yield from unpacker.end()
    return signature


def read(ota, offer, base, wanted, total):
    """Fetch and unpack into the stage what install.prepare wants of it. Generator; `base`: bytes of the head."""
    source = ranges.source(ota, offer)
    try:
        yield from read_files(source, base, ota.view, Stage(ota, wanted, total))
    finally:
        source.close()


def read_files(source, base, view, stage):
    """The same from a source of transport.ranges, into what is asked as install.stage.Stage is."""
    unpacker, whole = Unpacker(source), source.size
    listed = entries()
    try:
        item = following(listed)
        for begin, end, last in ranges.runs(entries(), stage.start, whole - base):
            if not begin < end <= whole - base:
                raise OtaError("bad_bundle", "its list names places beyond the end of the bundle")
            yield from unpacker.go(base + begin, base + end)
            group = None
            while item and item[0] <= last:
                n, (path, size, wanted, at) = item
                if at != group:
                    group, opened, skip = at, False, 0
                start = stage.start(n, at)
                if start is None:
                    skip += BLOCK + size + -size % BLOCK
                else:
                    if not opened:
                        yield from unpacker.begin(base + start)
                        opened = True
                    yield from unpacker.copy(skip, view)
                    skip = 0
                    digest = yield from _read(unpacker, base, n, path, size, view, stage)
                    stage.written(path, size, digest, wanted)
                item = following(listed)
                if opened and not skip and (item is None or item[1][3] != group):
                    yield from unpacker.end()
                    if item and unpacker.at != base + item[1][3]:
                        raise OtaError("bad_member", "%s is not where the list says" % item[1][0])
                    if item is None:
                        yield from _check(unpacker, whole, view)
                yield
    finally:
        listed.close()  # with its file: one that a failure leaves to the garbage collector is closed at any odd moment


def _read(unpacker, base, n, path, size, view, stage):
    """One file: its bytes to the stage; returns their digest. A large one comes in several members. Generator."""
    out, digest, done = yield from stage.open(n, path)
    with out:
        if not done and (yield from unpacker.tar_head(view)) != (path, size):
            raise OtaError("bad_member", "the bundle has not %s in its place" % path)
        while done < size:
            part = min(size - done, _PART)
            yield from unpacker.copy(part, view, digest, out)
            done += part
            stage.wrote(part)
            if done < size and done % PIECE == 0:
                yield from unpacker.end()
                stage.checkpoint(n, out, done, unpacker.at - base)
                yield from unpacker.begin(unpacker.at)
        yield from unpacker.take(view[: -done % BLOCK])
        yield phases.alone
    yield
    return digest


def _check(unpacker, size, view):
    """Two empty blocks, and nothing else. Generator."""
    end = view[: 2 * BLOCK]
    yield from unpacker.begin(unpacker.at)
    yield from unpacker.take(end)
    yield from unpacker.end()
    if any(end) or unpacker.at != size:
        raise OtaError("bad_member", "the bundle contains what its list does not")
