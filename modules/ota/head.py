"""The head of a bundle: the list of its files, and the signature of that list."""

import hashlib

import ota_boot

from . import files, sign, tar
from .errors import OtaError
from .kept import LIST

_MAX_LIST = 1024 * 1024


def read(stream, keys, view):
    """Copy ``.release`` to ``/.ota/list`` and check its signature. Generator; returns its SHA-256 and the signature or None.

    :param keys: the pinned keys; with none, any signature will do, and none at all.
    """
    archive = tar.open_tar(stream)
    digest = yield from _save_list(archive, view)
    return digest, _signature(archive, tar.following(archive), keys, digest)


def _save_list(archive, view):
    """Copy ``.release`` to flash and return its SHA-256, a hash object. Generator."""
    member = tar.following(archive)
    if member is None or member.name != ".release" or not tar.regular(member):
        raise OtaError("bad_bundle", "the archive does not begin with .release")
    if member.size > _MAX_LIST:
        raise OtaError("too_large", "the list of files has %d bytes" % member.size)
    if files.blocks(member.size) * files.block_size() > files.free_bytes():
        raise OtaError("no_space", "no space for the list of files")
    digest = hashlib.sha256()
    ota_boot.make_parents(ota_boot.ota(LIST))
    with open(ota_boot.ota(LIST), "wb") as f:
        yield from tar.copy(archive, member, view, digest, f)
    return digest.digest()


def _signature(archive, member, keys, digest):
    """The raw signature if the archive carries one; refused unless a pinned key made it."""
    if member is None or member.name != ".release.sig":
        if keys:
            raise OtaError("no_signature", "the release is not signed, but this board has a key")
        return None
    if not tar.regular(member) or member.size != sign.KEY_BYTES:
        raise OtaError("bad_signature", "the signature has not %d bytes" % sign.KEY_BYTES)
    signature = tar.step(archive.extractfile(member).read, sign.KEY_BYTES)
    if keys and not sign.verify_any(digest, signature, keys):
        raise OtaError("bad_signature", "no pinned key signed this release")
    return signature
