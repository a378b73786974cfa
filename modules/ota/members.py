"""The files of a bundle, one after the other, against the list that has been checked."""

import hashlib

from . import files, tar
from .errors import OtaError
from .kept import entries

_HEAD = (".release", ".release.sig")


def read(stream, view, visitor):
    """Read every file that the list has; there must be no other. Generator."""
    archive = tar.open_tar(stream)
    member = tar.following(archive)
    for name in _HEAD:  # checked before
        if member is not None and member.name == name:
            member = tar.following(archive)
    for n, entry in entries():
        if member is None or member.name != entry["path"] or not tar.regular(member):
            raise OtaError("bad_member", "the archive has not %s in its place" % entry["path"])
        if member.size != entry["size"]:
            raise OtaError("bad_size", "%s has another size than announced" % entry["path"])
        yield from read_file(archive, member, n, entry, view, visitor)
        member = tar.following(archive)
    if member is not None:
        raise OtaError("bad_member", "the archive contains what the release does not list")


def read_file(archive, member, n, entry, view, visitor):
    """One member: its bytes to the visitor, if it wants them, and its digest as the entry has it. Generator."""
    out = visitor.writer(n, entry) if visitor else None
    digest = hashlib.sha256()
    try:
        yield from tar.copy(archive, member, view, digest, out)
    finally:
        if out:
            out.close()
    if files.hexdigest(digest) != entry["sha256"]:
        raise OtaError("bad_digest", "%s is not what was announced" % entry["path"])
    if out:
        yield from visitor.written(n, entry)
