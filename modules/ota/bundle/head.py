"""The head of a bundle, its first member: the list of the files, and its signature. Nothing of it is believed yet."""

import hashlib

import ota_boot
from micropython import const

from ..errors import OtaError
from ..install import files
from ..transport import ranges
from .inflate import BLOCK, Unpacker, check_firmware
from .lists import LIST

_MAX_LIST = const(1024 * 1024)
_SIGNATURE = const(384)


def fetch(ota, offer):
    """Copy ``.release`` to ``/.ota/list``. Generator; returns its SHA-256, its signature or None, and the bytes of the head."""
    source = ranges.source(ota, offer)
    try:
        return (yield from read(source, ota.view))
    finally:
        source.close()


def read(source, view):
    """The same from a source of transport.ranges."""
    check_firmware()
    unpacker = Unpacker(source)
    yield from unpacker.go(0, source.head or source.size)
    yield from unpacker.begin(0)
    digest = yield from _save_list(unpacker, view)
    signature = yield from _signature(unpacker, view)
    if source.head not in (None, unpacker.at):
        raise OtaError("bad_bundle", "the head of the bundle is not as long as announced")
    return digest, signature, unpacker.at


def _save_list(unpacker, view):
    found = yield from unpacker.tar_head(view)
    if found is None or found[0] != ".release":
        raise OtaError("bad_bundle", "the bundle does not begin with .release")
    size, path = found[1], ota_boot.ota(LIST)
    if size > _MAX_LIST:
        raise OtaError("too_large", "the list of files has %d bytes" % size)
    need, free = files.blocks(size) * files.block_size(), files.free_bytes()
    if need > free:
        raise OtaError("no_space", "the list of files needs %d bytes, %d are free" % (need, free))
    digest = hashlib.sha256()
    ota_boot.make_parents(path)
    with open(path, "wb") as out:
        yield from unpacker.copy(size, view, digest, out)
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
