"""The head of a bundle: the list of its files, and the signature of that list."""

import hashlib
import os

import ota_boot

from . import files, tar
from .errors import OtaError
from .kept import LIST, SIGNATURE

_MAX_LIST = 1024 * 1024
_SIGNATURE = 384  # bytes


def read(stream, view):
    """Copy ``.release`` to ``/.ota/list``. Generator; returns its SHA-256 and its signature, not checked yet, or None.

    A list that lies there already is not written again. If it turns out to be another one of the same size, it is deleted, and
    None returned: read again from the beginning.
    """
    archive = tar.open_tar(stream)
    digest = yield from _save_list(archive, view)
    return digest and (digest, _signature(archive, tar.following(archive)))


def again(view):
    """The same for the list and the signature of a stage. Generator."""
    digest = yield from _digest(view)
    signature = None
    if ota_boot.exists(ota_boot.ota(SIGNATURE)):
        with open(ota_boot.ota(SIGNATURE), "rb") as f:
            signature = f.read(_SIGNATURE)
    return digest, signature


def _save_list(archive, view):
    """Copy ``.release`` to flash and return its SHA-256; None when another list of its size was there. Generator."""
    member = tar.following(archive)
    if member is None or member.name != ".release" or not tar.regular(member):
        raise OtaError("bad_bundle", "the archive does not begin with .release")
    if member.size > _MAX_LIST:
        raise OtaError("too_large", "the list of files has %d bytes" % member.size)
    if files.file_size(ota_boot.ota(LIST)) == member.size:
        return (yield from _same_list(archive, member, view))
    need, free = files.blocks(member.size) * files.block_size(), files.free_bytes()
    if need > free:
        raise OtaError("no_space", "the list of files needs %d bytes, %d are free" % (need, free))
    digest = hashlib.sha256()
    ota_boot.make_parents(ota_boot.ota(LIST))
    with open(ota_boot.ota(LIST), "wb") as f:
        yield from tar.copy(archive, member, view, digest, f)
    return digest.digest()


def _same_list(archive, member, view):
    digest = hashlib.sha256()
    yield from tar.copy(archive, member, view, digest, None)
    digest = digest.digest()
    if (yield from _digest(view)) == digest:
        return digest
    os.remove(ota_boot.ota(LIST))
    return None


def _digest(view):
    with open(ota_boot.ota(LIST), "rb") as f:
        return (yield from files.hashed(f, view)).digest()


def _signature(archive, member):
    """The raw signature if the archive carries one, else None."""
    if member is None or member.name != ".release.sig":
        return None
    if not tar.regular(member) or member.size != _SIGNATURE:
        raise OtaError("bad_signature", "the signature has not %d bytes" % _SIGNATURE)
    return tar.step(archive.extractfile(member).read, _SIGNATURE)
