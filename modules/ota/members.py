"""The files of a bundle, one after the other, against the list that has been checked."""

import hashlib

import ota_boot

from . import files, tar
from .errors import OtaError
from .kept import entries

_HEAD = (".release", ".release.sig")


def read(stream, excluded, view, visitor):
    """Read every file that the list has; there must be no other. Generator.

    :param excluded: files that updates leave alone: nobody needs their patches.
    """
    listed = entries()
    try:
        yield from _read(tar.open_tar(stream), listed, excluded, view, visitor)
    finally:
        listed.close()  # with its file: one that a failure leaves to the garbage collector is closed at any odd moment


def _read(archive, listed, excluded, view, visitor):
    member = tar.following(archive)
    for name in _HEAD:  # checked before
        if member is not None and member.name == name:
            yield from tar.copy(archive, member, view)
            member = tar.following(archive)
    for n, entry in listed:
        if entry["size"] is None:  # a delta's word for a file that goes
            continue
        patch = entry.get("patch")
        if member is None or member.name != entry["path"] or not tar.regular(member):
            raise OtaError("bad_member", "the archive has not %s in its place" % entry["path"])
        if member.size != (patch[1] if patch else entry["size"]):
            raise OtaError("bad_size", "%s has another size than announced" % entry["path"])
        if not patch or (yield from _needs(n, entry, excluded, view, visitor)):
            yield from read_file(archive, member, n, entry, view, visitor)
        else:
            yield from tar.copy(archive, member, view)
        member = tar.following(archive)
        yield
    if member is not None:
        raise OtaError("bad_member", "the archive contains what the release does not list")


def read_file(archive, member, n, entry, view, visitor):
    """One member, patched if need be: its bytes to the visitor, if it wants them; its digest as the entry has it. Generator."""
    out = visitor.writer(n, entry) if visitor else None
    digest = hashlib.sha256()
    try:
        if "patch" in entry:
            yield from _patch(archive, member, entry, view, digest, out)
        else:
            yield from tar.copy(archive, member, view, digest, out)
    finally:
        if out:
            out.close()
    if files.hexdigest(digest) != entry["sha256"]:
        raise OtaError("bad_digest", "%s is not what was announced" % entry["path"])
    if out:
        yield from visitor.written(n, entry)


def _needs(n, entry, excluded, view, visitor):
    """False for a patch that nobody needs: the file is right already, or none of ours. Generator.

    OtaError ``wrong_base`` when the patch is needed, and the file is not the one that it was made for.
    """
    from .excluded import skips

    path = ota_boot.live(entry["path"])
    if visitor:
        if not visitor.wants(n):
            return False
    elif skips(entry["path"], excluded) or (yield from files.same(path, entry["size"], entry["sha256"], view)):
        return False
    if files.file_size(path) is None or (yield from files.digest(path, view)) != entry["patch"][0]:
        raise OtaError("wrong_base", "%s is not the file that its patch was made for" % entry["path"])
    return True


def _patch(archive, member, entry, view, digest, out):
    from . import patch

    with open(ota_boot.live(entry["path"]), "rb") as base:
        yield from patch.apply(_Wire(archive.extractfile(member)), base, entry["size"], view, digest, out)


class _Wire:
    """A member as a stream whose errors are OtaErrors."""

    def __init__(self, source):
        self._source = source

    def readinto(self, view):
        return tar.step(self._source.readinto, view)
